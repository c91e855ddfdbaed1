"""The bench's own extensions are built from the product's declarations, so they break when these change."""

from __future__ import annotations

import pytest

from tests.bench.build import load
from tests.bench.instructions import kernels
from tests.bench.joins import latency
from tests.bench.scenes import Scene, build, record
from tests.bench.server import Capacity, Step, find_capacity


def test_the_kernels_and_the_bare_loop_are_built() -> None:
    assert load("bare").Bare
    for name, make in kernels({}).items():
        if "viewer" not in name:
            ready = make()
            assert ready.kernel.run(2) > 0, name


def test_a_recorded_consultation_is_played() -> None:
    """All that is forwarded while it is recorded is forwarded while it is played."""
    scene = Scene(3, video=False, frames=20, warm=10)
    warm, measured = record(scene)
    engine, _ = build(scene)
    module = load("kernels")
    for batches in (warm, measured):
        kernel = module.EngineKernel(engine, batches)
        kernel.run(kernel.turns)
    assert engine.counters()["rtp_out"] == (scene.frames + scene.warm) * scene.viewers


def capacity(lossless: int, prompt: int, *, own: bool = False, most: int = 64) -> Capacity:
    """Of a server that carries so many carts, and so many promptly."""

    def play(carts: int) -> Step:
        ended_by = "loss of 1.00%" if carts > lossless else ""
        p99 = 1.0 if carts <= prompt else 5.0
        return Step(carts, 15_000.0 * carts, 0.03 * carts, 0.0, {"p99": p99}, 0.1, ended_by, own and bool(ended_by))

    return find_capacity(play, most, lambda text: None)


def test_the_capacity_is_found_to_an_eighth() -> None:
    found = capacity(23, 13)
    assert found.lossless is not None
    assert found.prompt is not None
    assert 20 <= found.lossless.carts <= 23
    assert 12 <= found.prompt.carts <= 13
    assert round(found.lossless.whole_core) == 500_000
    assert found.ended_by == "loss of 1.00%"
    assert {percent: one.carts for percent, one in found.at.items()} == {
        f"{percent} %": round(found.prompt.carts * percent / 100) for percent in (10, 50, 80)
    }
    assert len(found.steps) < 16


def test_a_capacity_beyond_what_is_tried_is_said_to_be_so() -> None:
    found = capacity(100, 100, most=4)
    assert found.lossless is not None
    assert (found.lossless.carts, found.ended_by) == (4, "the limit of 4 carts")
    assert found.busiest == 0.12


def test_a_server_that_carries_nothing_has_no_capacity() -> None:
    found = capacity(0, 0)
    assert (found.lossless, found.prompt, found.at) == (None, None, {})


def test_percentiles_lie_within_the_workers_buckets() -> None:
    before = {"latency": [(1, 7), (2, 0), (4, 0)]}
    after = {"latency": [(1, 7), (2, 50), (4, 50)]}
    assert latency(before, after) == pytest.approx({"packets": 100, "p50": 2.0, "p99": 3.96, "p99.9": 3.996})
