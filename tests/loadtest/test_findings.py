"""What stands out is told, with whose it is; what is as it always is, is not."""

from __future__ import annotations

import random

import pytest
from msgspec.structs import replace

from mediaserver.loadtest.findings import find, second_hump
from mediaserver.loadtest.histogram import histogram_of
from mediaserver.loadtest.outcome import Leg
from mediaserver.loadtest.peers import SourceTimes
from tests.loadtest.test_report import LEG, LEGS, MS, SECOND, STREAM, TOTALS, outcome

DICE = random.Random(1)
CALM = [round(DICE.lognormvariate(0, 0.5) * 300_000) for _ in range(20_000)]
BUSY = [round(DICE.lognormvariate(0, 1.4) * 900_000) for _ in range(20_000)]


def kinds(**changes: object) -> list[tuple[str, str]]:
    return [(finding.kind, finding.segment) for finding in find(outcome(**changes))]


def test_a_good_run_has_nothing_that_stands_out() -> None:
    assert kinds() == []


@pytest.mark.parametrize("usual", [CALM, BUSY], ids=["calm", "busy"])
def test_load_alone_leaves_no_second_hump(usual: list[int]) -> None:
    assert second_hump(histogram_of(usual)) is None


@pytest.mark.parametrize(("usual", "by"), [(CALM, 5 * MS), (CALM, 40 * MS), (BUSY, 60 * MS)])
def test_one_packet_in_a_hundred_that_is_late_is_found(usual: list[int], by: int) -> None:
    hump = second_hump(histogram_of(value + (by if number % 100 == 0 else 0) for number, value in enumerate(usual)))
    assert hump is not None
    assert hump.share == pytest.approx(0.01, rel=0.8)
    assert hump.extra == pytest.approx(by, rel=0.35)


def test_late_packets_are_the_servers() -> None:
    view = histogram_of([*CALM, *[value + 5 * MS for value in CALM[:300]]])
    times = {"ultrasound": SourceTimes(view, histogram_of([]), view, histogram_of([]))}
    late, calm = replace(SECOND, latency=view), replace(SECOND, latency=histogram_of(CALM))
    assert kinds(times=times, timeline=[late] * 3) == [("late-packets", "server")]
    # What comes in one second of three alone was the machine.
    assert kinds(times=times, timeline=[late, calm, calm]) == []


def test_packets_that_were_overtaken_are_late_whatever_the_machine_did() -> None:
    legs = [replace(leg, overtaken=100, overtaken_ms=5.0) for leg in LEGS]
    late = TOTALS._replace(sender_lateness=histogram_of([20 * MS]))
    assert ("late-packets", "server") in kinds(legs=legs, totals=late)


def test_what_a_machine_in_trouble_delays_is_nobodys() -> None:
    view = histogram_of([*CALM, *[value + 5 * MS for value in CALM[:300]]])
    times = {"ultrasound": SourceTimes(view, histogram_of([]), view, histogram_of([]))}
    late = TOTALS._replace(sender_lateness=histogram_of([20 * MS]))
    assert kinds(times=times, totals=late) == [("generator-late", "generator")]


def missing(**changes: object) -> list[Leg]:
    return [replace(leg, missed=50, repaired=50, **changes) for leg in LEGS]


def test_packets_that_viewers_lack_were_lost_on_the_way_out() -> None:
    assert kinds(legs=missing()) == [("lost-packets", "server egress")]


def test_packets_that_the_server_lacks_were_lost_on_the_way_in() -> None:
    stream = replace(STREAM, asked_again=50)
    assert kinds(legs=missing(), upstreams=[stream]) == [("lost-packets", "server ingress")]
    assert kinds(upstreams=[stream]) == [("lost-packets", "server ingress")]


def test_packets_that_the_generator_dropped_are_its_own() -> None:
    assert kinds(legs=missing(), totals=TOTALS._replace(dropped=150)) == [("generator-lost", "generator")]


def test_lines_lose_what_they_lose() -> None:
    assert kinds(legs=missing(line="lossy")) == []


def test_a_starved_viewer_is_named() -> None:
    starved = replace(LEG, viewer=4, share=0.5, received=5000)
    found = find(outcome(legs=[*LEGS[:2], starved]))
    assert [(finding.kind, finding.segment, finding.room, finding.viewer) for finding in found] == [
        ("starved-viewer", "server egress", "load-0", 4)
    ]
    assert "ultrasound 50%" in found[0].text


def test_who_lives_on_repairs_is_starved_too() -> None:
    assert kinds(legs=[*LEGS[:2], replace(LEG, viewer=4, missed=4000, repaired=4000)]) == [
        ("starved-viewer", "server egress")
    ]


def test_nobody_is_starved_where_all_get_little() -> None:
    assert kinds(legs=[replace(leg, share=0.5) for leg in LEGS]) == []


def test_a_slow_viewer_is_named() -> None:
    slow = replace(LEG, viewer=4, latency_ms={"p50": 9.0, "p99": 12.0, "p99.9": 13.0, "max": 20.0})
    found = find(outcome(legs=[*LEGS[:2], slow]))
    assert [(finding.kind, finding.viewer) for finding in found] == [("slow-viewer", 4)]
