"""Whole runs of the laboratory: what must hold whatever the server decides, and that runs repeat."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sim import laboratory
from tests.sim.lines import ALL_LINES
from tests.sim.lines import line as one_line
from tests.sim.network import SECOND
from tests.sim.run import run_line


def test_on_a_clean_line_everything_arrives() -> None:
    figures = run_line(ALL_LINES["clean-10"], seconds=6).figures
    for picture in figures.pictures.values():
        assert (picture.freezes, picture.corrupt, picture.under_floor, picture.nacked) == (0, 0, 0.0, 0)
        assert picture.frames_per_s > 27
        assert picture.first_frame_ms is not None
        assert picture.first_frame_ms < 1_000
    assert [sound.lost for sound in figures.sounds.values()] == [0.0, 0.0]
    assert figures.network.overflow == 0
    assert figures.publisher_plis <= 8


def test_the_same_seed_gives_the_same_figures() -> None:
    first, second = (run_line(ALL_LINES["loss-3"], seconds=3, seed=7).figures for _ in range(2))
    assert first == second
    assert run_line(ALL_LINES["loss-3"], seconds=3, seed=8).figures != first
    assert first.network.lost == pytest.approx(0.03, abs=0.015)


def test_no_line_carries_more_than_it_can() -> None:
    figures = run_line(ALL_LINES["1.2m"], seconds=5).figures
    assert 0.7 < figures.network.use < 1.001
    assert figures.network.queue_max_ms <= 121


def test_on_a_thin_line_the_camera_gives_way_and_the_ultrasound_keeps_its_floor() -> None:
    figures = run_line(ALL_LINES["1.2m"], seconds=20).figures
    ultrasound, camera = figures.pictures["ultrasound"], figures.pictures["camera"]
    assert (ultrasound.freezes, ultrasound.corrupt) == (0, 0)
    assert ultrasound.under_floor < 0.1  # in the first seconds
    assert camera.paused_s > 10
    assert figures.sounds["voice"].lost < 0.001


def test_jitter_is_no_congestion() -> None:
    figures = run_line(ALL_LINES["jitter-30"], seconds=10).figures
    assert figures.network.use > 0.5
    assert figures.pictures["ultrasound"].under_floor < 0.02


def test_after_an_outage_the_picture_lives_at_once() -> None:
    figures = run_line(ALL_LINES["outage-2s"], seconds=20).figures
    (recovery,) = figures.pictures["ultrasound"].recoveries
    assert recovery.live_ms is not None
    assert recovery.live_ms < 500
    assert recovery.full_ms is not None
    assert recovery.full_ms < 1_000


def test_a_moved_viewer_is_found_again() -> None:
    figures = run_line(ALL_LINES["moved"], seconds=12).figures
    (recovery,) = figures.pictures["ultrasound"].recoveries
    assert recovery.live_ms is not None
    assert recovery.live_ms < 1_000


def test_the_command_writes_figures_and_plots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    arguments = ["--line", "clean-10", "--seconds", "2", "--json", str(tmp_path / "a.json"), "--plot", str(tmp_path)]
    assert laboratory.main(arguments) == 0
    assert capsys.readouterr().out.count("clean-10") == 1
    assert b'"queue_p95_ms"' in (tmp_path / "a.json").read_bytes()
    (png,) = tmp_path.glob("*.png")
    assert png.read_bytes().startswith(b"\x89PNG")


def test_a_line_that_becomes_ten_times_thinner_is_found_again_when_it_is_wide_again() -> None:
    """All that is reported on may have been paused by then. Ultrasound is back within a second."""
    line = one_line(
        "drop", "5, then 0.5, then 5 Mbit/s", 5, steps=((0, 5_000_000), (6 * SECOND, 500_000), (9 * SECOND, 5_000_000))
    )
    run = run_line(line, seconds=14)
    picture, voice = run.figures.pictures["ultrasound"], run.figures.sounds["voice"]
    receiver = run.doctor.pictures[run.consultation.ssrc(run.doctor, "ultrasound")]
    back = [at for at in receiver.shown_at if at >= run.begin + 10 * SECOND]
    assert len(back) > 0.9 * 30 * 4
    assert picture.corrupt == 0
    # What stands in the queue when the line shrinks is late: 75 kB that take 5 Mbit/s 120 ms take 0.5 over a second.
    assert voice.lost < 0.21
    assert run.figures.network.queue_p95_ms < 400


def test_a_thinner_line_costs_a_moment_and_a_wider_one_is_found_at_once() -> None:
    """Ultrasound loses frames, and has its floor again within a second."""
    steps = ((0, 2_000_000), (8 * SECOND, 800_000), (16 * SECOND, 2_000_000))
    run = run_line(one_line("step", "2, then 0.8, then 2 Mbit/s", 2, steps=steps), seconds=20)
    picture = run.figures.pictures["ultrasound"]
    receiver = run.doctor.pictures[run.consultation.ssrc(run.doctor, "ultrasound")]
    assert picture.freeze_s + picture.paused_s < 1.5
    assert picture.corrupt == 0
    back = [at for at in receiver.shown_at if at >= run.begin + 17 * SECOND]
    assert len(back) > 0.9 * 30 * 3
