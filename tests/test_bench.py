"""The bench's own extensions are built from the product's declarations, so they break when these change."""

from __future__ import annotations

from tests.bench.build import load
from tests.bench.instructions import kernels
from tests.bench.scenes import Scene, build, record


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
