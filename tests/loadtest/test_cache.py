"""Encoded loops are made once, and a cache that is broken is no harm."""

from __future__ import annotations

from pathlib import Path

import pytest

from mediaserver.loadtest.cache import cached, folder
from mediaserver.loadtest.loops import Loop
from mediaserver.loadtest.media import Library
from mediaserver.loadtest.scenario import of_profile

LOOP = Loop("opus", 48_000, 960, (b"one", b"two"), (True, True))


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "mediaserver" / "loadtest"


def test_a_loop_is_made_once(place: Path) -> None:
    made = []

    def make() -> Loop:
        made.append(1)
        return LOOP

    assert folder() == place
    assert [cached("voice", make), cached("voice", make)] == [LOOP, LOOP]
    assert len(made) == 1
    cached("another voice", make)
    assert len(made) == 2


def test_a_broken_file_is_made_anew(place: Path) -> None:
    cached("voice", lambda: LOOP)
    [file] = place.iterdir()
    file.write_bytes(b"\xff nonsense")
    assert cached("voice", lambda: LOOP) == LOOP
    assert file.read_bytes() != b"\xff nonsense"


def test_a_folder_that_can_not_be_written_is_no_harm(place: Path) -> None:
    place.parent.mkdir()
    place.write_text("a file stands here")
    assert cached("voice", lambda: LOOP) == LOOP


def test_equal_sources_are_made_once() -> None:
    library = Library()
    group = of_profile("audio", 1).groups[0]
    assert library.streams(group)[0].clip is library.streams(group)[0].clip
