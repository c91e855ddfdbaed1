"""A few seconds on every fuzz target without sanitizers: its seeds, the findings of the past, and random mutations."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

from . import build
from .targets import TARGETS

MUTATIONS = 300
REGRESSIONS = Path(__file__).resolve().parent / "regressions"


@pytest.fixture(scope="session")
def run_kernel() -> Callable[[str, bytes], None]:
    loader = ExtensionFileLoader("kernels", str(build.plain()))
    spec = spec_from_loader("kernels", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    run: Callable[[str, bytes], None] = module.run
    return run


def mutations(inputs: list[bytes], max_size: int, words: tuple[str, ...]) -> Iterator[bytes]:
    """Inputs with a few bytes changed, cut out, doubled, or grafted from another input; the same each time."""
    chance = random.Random(7)
    for _ in range(MUTATIONS):
        data = bytearray(chance.choice(inputs))
        for _ in range(chance.randint(1, 4)):
            at = chance.randint(0, len(data))
            length = chance.choice((1, 1, 2, 4, 16))
            match chance.randrange(6):
                case 0 | 1:
                    data[at : at + length] = chance.randbytes(length)
                case 2:
                    del data[at : at + length]
                case 3:
                    data[at:at] = data[at : at + length]
                case 4:
                    data[at:] = chance.choice(inputs)[at:]
                case _:
                    word = chance.choice(words).encode() if words else chance.choice((b"\0", b"\xff", b"\x80")) * length
                    data[at : at + length] = word
        yield bytes(data[:max_size])


@pytest.mark.parametrize("name", TARGETS)
def test_target_stands(name: str, run_kernel: Callable[[str, bytes], None]) -> None:
    target = TARGETS[name]
    run = target.function or (lambda data: run_kernel(name, data))
    inputs = [*target.seeds(), *(path.read_bytes() for path in sorted((REGRESSIONS / name).glob("*")))]
    for data in [b"", b"\0", b"\xff" * 64, *inputs, *mutations(inputs, target.max_size, target.words)]:
        try:
            run(data)
        except Exception as error:
            raise AssertionError(f"{name} does not stand {data.hex()}") from error
