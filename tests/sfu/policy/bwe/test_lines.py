"""How the estimate fares on lines of many kinds. All in virtual time, so with the same result each time."""

from __future__ import annotations

import pytest

from .line import SECOND, Line, Sender, World


def ran(rate: float, seconds: float, seed: int = 1, **line: float) -> tuple[Sender, Line]:
    world = World(seed)
    found = Line(world, rate, **line)  # type: ignore[arg-type]
    sender = Sender(world, found)
    world.run(world.now + round(seconds * SECOND))
    return sender, found


@pytest.mark.parametrize("rate", [1.2e6, 2.5e6, 4e6])
def test_a_clean_line_is_used_within_a_second(rate: float) -> None:
    sender, line = ran(rate, 8)
    assert sender.figures.reached(0.85 * rate, sender.start) < 1
    assert line.wait_p95(sender.start + SECOND) < 100


def test_the_full_layer_soon_after_joining() -> None:
    sender, _ = ran(10e6, 3)
    assert sender.figures.reached(8.1e6, sender.start) < 1
