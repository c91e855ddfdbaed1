"""Scenario files: what ships can be played, and what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from mediaserver.loadtest import scenario
from mediaserver.loadtest.scenario import (
    ScenarioError,
    Viewers,
    load,
    of_profile,
    override,
    parse,
    rooms_of,
    viewers_of,
)

WHOLE = """
consultations = 4
[lines.home]
delay_ms = 20
[[groups]]
name = "examined"
share = 0.25
cart_line = "home"
[groups.sources]
ultrasound = { codec = "AV1", kbit = 1500, fps = 15 }
[[groups.viewers]]
count = 2
line = "home"
[[groups]]
name = "plain"
share = 0.75
rooms = 2
[groups.sources]
microphone = {}
"""


@pytest.mark.parametrize("name", scenario.shipped())
def test_what_ships_can_be_played(name: str) -> None:
    shipped = load(name)
    assert shipped.name == name
    assert shipped.description.endswith(".")
    assert rooms_of(shipped)


def test_those_that_are_documented_ship() -> None:
    assert set(scenario.shipped()) == {"consultation", "city-evening", "teaching-round", "thin-lines", "storm"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("secs = 5", 'unknown key "secs"; did you mean "seconds"?'),
        ("[lines.home]\ndelay = 3", 'unknown key "lines.home.delay"; did you mean "lines.home.delay_ms"?'),
        ('[[groups]]\nname = "x"\nviewer = 3', 'unknown key "groups.x.viewer"; did you mean "groups.x.viewers"?'),
        (
            '[[groups]]\nname = "x"\n[groups.sources.camera]\nbitrate = 3',
            'unknown key "groups.x.sources.camera.bitrate"',
        ),
        ('[[groups]]\nname = "x"\n[groups.sources]\nsonar = {}', "groups[0].sources"),
        ('[[groups]]\nname = "x"\nshare = 0.5\n[groups.sources]\ncamera = {}', "the shares add up to 0.5"),
        ('[[groups]]\nname = "x"\n[groups.sources]\ncamera = { codec = "opus" }', "opus can't carry it"),
        ('[[groups]]\nname = "x"\ncart_line = "dsl"\n[groups.sources]\ncamera = {}', 'no line is named "dsl"'),
        ('[[groups]]\nname = "x"\n[groups.sources]\ncamera = { fps = 29 }', "groups[0].sources"),
        ('seconds = "long"\n[[groups]]\nname = "x"\n[groups.sources]\ncamera = {}', "seconds: Expected `float`"),
        ("groups = []", "a scenario needs a group"),
        (
            '[[groups]]\nname = "x"\n[groups.sources]\ncamera = {}\n'
            '[[groups]]\nname = "y"\nbeside = "z"\n[groups.sources]\ncamera = {}',
            'no group with a share is named "z"; there is x',
        ),
        ("=", "Invalid"),
        (
            "seconds = 5\n[outage]\nat_seconds = 4\nseconds = 2\nlines = []\n"
            '[[groups]]\nname = "x"\n[groups.sources]\ncamera = {}',
            "has to end within",
        ),
        ('storm = true\nconsultations = 2\n[[groups]]\nname = "x"\n[groups.sources]\ncamera = {}', "one room"),
    ],
)
def test_what_is_wrong_is_named(change: str, words: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse(change)
    assert words in str(caught.value)


def test_a_missing_file_names_those_that_ship() -> None:
    with pytest.raises(ScenarioError, match="city-evening"):
        load("no-such-scenario")
    with pytest.raises(ScenarioError, match="No such file"):
        load("/no/such.toml")


def test_a_mistake_names_its_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("secs = 5")
    with pytest.raises(ScenarioError, match=r"mine\.toml: unknown key"):
        load(str(file))


def test_consultations_are_shared_out_evenly() -> None:
    rooms = rooms_of(parse(WHOLE))
    assert [room.group.name for room in rooms].count("examined") == 1
    assert [room.group.name for room in rooms].count("plain") == 6
    assert len({room.name for room in rooms}) == 7
    many = rooms_of(override(parse(WHOLE), {"consultations": 40}, None, None))
    assert sum(room.group.name == "examined" for room in many) == 10


def test_a_group_beside_another_adds_rooms_to_its_consultations() -> None:
    evening = override(load("city-evening"), {"consultations": 8}, None, None)
    names = [room.group.name for room in rooms_of(evening)]
    assert {name: names.count(name) for name in names} == {"ultrasound": 2, "doctors": 4, "plain": 12}
    assert len({room.name for room in rooms_of(evening)}) == 18


def test_flags_go_before_the_file() -> None:
    changed = override(parse(WHOLE), {"consultations": 2, "seconds": 3.0}, "audio", 5)
    assert (changed.consultations, changed.seconds) == (2, 3.0)
    assert all(set(group.sources) == {"microphone"} for group in changed.groups)
    examined, plain = changed.groups
    assert examined.viewers == (Viewers(count=5, line="home"),)
    assert len(viewers_of(plain)) == 5


def test_a_profile_is_a_scenario_of_one_group() -> None:
    made = of_profile("ultrasound", 3, consultations=10)
    assert len(rooms_of(made)) == 10
    assert len(viewers_of(made.groups[0])) == 3
    complete = scenario.complete("ultrasound", made.groups[0].sources["ultrasound"])
    assert (complete.codec, complete.kbit, complete.width) == ("H264", 5000, 640)
