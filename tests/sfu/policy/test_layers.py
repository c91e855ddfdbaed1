"""The layer gate on what Chromium really sends: what comes out decodes at every choice of layers."""

from __future__ import annotations

import pytest

from mediaserver.codecs.payload import Codec, assembler, codec_from_name
from mediaserver.sfu.policy.gate import Gate, Passed
from tests.codecs import media
from tests.codecs.test_chromium import PICTURES, received

LAYERED = [name for name in PICTURES if "-l" in name]


def run(name: str, targets: dict[int, tuple[int, int]]) -> list[tuple[Passed, int]]:
    """What passes of a recording, with its timestamp; `targets` from the packet at which they are set."""
    gate = Gate(codec_from_name(name.split("-")[0]))
    passed = []
    for i, packet in enumerate(received(name)):
        if i in targets:
            gate.target(*targets[i])
        if not packet.payload:
            continue
        found = gate.offer(0, 1000 + i, packet.timestamp, packet.marker, packet.payload)
        if isinstance(found, Passed):
            passed.append((found, packet.timestamp))
    return passed


def decode(name: str, passed: list[tuple[Passed, int]]) -> list[tuple[int, int]]:
    """The sizes of the pictures; FFmpeg raises where one can't be decoded."""
    codec = codec_from_name(name.split("-")[0])
    machine = assembler(codec)
    units = []
    for packet, timestamp in passed:
        units += machine.push(packet.payload, timestamp, packet.marker)
    units += machine.flush()
    assert all(unit.complete for unit in units)
    decoder = "libvpx-vp9" if codec == Codec.CODEC_VP9 else ""
    return [(frame.width, frame.height) for frame in media.decode_frames(codec, [u.data for u in units], decoder)]


@pytest.mark.parametrize("name", PICTURES)
def test_everything_passes_unchanged_where_nothing_is_limited(name: str) -> None:
    assert [packet.payload for packet, _ in run(name, {})] == [p.payload for p in received(name) if p.payload]


@pytest.mark.parametrize("name", [name for name in LAYERED if name.startswith("v")])
@pytest.mark.parametrize("spatial", [-1, 0, 1])
@pytest.mark.parametrize("temporal", [-1, 0, 1])
def test_each_layer_decodes(name: str, spatial: int, temporal: int) -> None:
    everything = {timestamp for _, timestamp in run(name, {})}
    passed = run(name, {0: (spatial, temporal)})
    sizes = decode(name, passed)
    assert len(sizes) == len({timestamp for _, timestamp in passed})
    assert (len(sizes) < len(everything)) == (temporal >= 0 and f"t{temporal + 1}" not in name)
    assert sum(packet.marker for packet, _ in passed) == len(sizes)
    if "l2" in name:
        assert set(sizes) == {(242, 136) if spatial == 0 else (482, 270)}


@pytest.mark.parametrize("name", [name for name in LAYERED if name.startswith("v")])
@pytest.mark.parametrize("at", range(0, 40, 3))
def test_each_change_decodes(name: str, at: int) -> None:
    passed = run(name, {0: (0, 0), at: (-1, -1), at + 15: (0, -1), at + 25: (-1, 0)})
    assert len(decode(name, passed)) == len({timestamp for _, timestamp in passed})
