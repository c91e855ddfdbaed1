"""The layer gate on what Chromium really sends: what comes out decodes for each choice, and at each change of it."""

from __future__ import annotations

import pytest

from mediaserver.codecs.dependency import Dependency
from mediaserver.codecs.payload import Codec, assembler, facts
from mediaserver.sfu.policy.gate import Gate, Passed
from tests.codecs import media
from tests.sfu.policy.recordings import NAMES, Recorded, codec_of, recorded

SIMULCAST = ["vp8-simulcast", "h264-simulcast"]
SINGLE = [name for name in NAMES if "simulcast" not in name]
SECOND = 90000


def encodings(name: str) -> int:
    return len({packet.encoding for packet in recorded(name)})


def ordered(name: str) -> list[Recorded]:
    """VP8's pictures with spatial scaling come with the highest rid first; here the smallest is encoding 0."""
    count = encodings(name)
    flip = name == "vp8-simulcast"
    return [p._replace(encoding=count - 1 - p.encoding) if flip else p for p in recorded(name)]


def run(name: str, targets: dict[int, tuple[int, int]]) -> list[tuple[Recorded, Passed]]:
    """What passes; `targets` from the packet at which they are set. Each packet leaves the same way once more."""
    gate = Gate(codec_of(name), encodings(name))
    passed = []
    for i, packet in enumerate(ordered(name)):
        if i in targets:
            gate.target(*targets[i])
        found = gate.offer(*packet)
        if isinstance(found, Passed):
            passed.append((packet, found))
            again = gate.again(*packet)
            assert again is not None
            assert again[:3] == found[:3]
    return passed


def decode(name: str, passed: list[tuple[Recorded, Passed]]) -> list[tuple[int, int]]:
    """The sizes of the pictures that come out; FFmpeg raises where one can't be decoded."""
    codec = codec_of(name)
    machine = assembler(codec)
    units = []
    offset = last = 0
    for packet, found in passed:
        if found.switched:
            offset = last + SECOND - packet.timestamp
        last = packet.timestamp + offset
        units += machine.push(found.payload, last % 2**32, found.marker)
    units += machine.flush()
    assert all(unit.complete for unit in units)
    decoder = "libvpx-vp9" if codec == Codec.CODEC_VP9 else ""
    return [(frame.width, frame.height) for frame in media.decode_frames(codec, [u.data for u in units], decoder)]


def pictures(passed: list[tuple[Recorded, Passed]]) -> int:
    return len({(packet.encoding, packet.timestamp) for packet, _ in passed})


def check_descriptors(passed: list[tuple[Recorded, Passed]]) -> None:
    """A receiver finds each frame's references among those it got, by what the descriptors themselves say."""
    state = Dependency()
    got: list[int] = []
    for _, found in passed:
        if not found.descriptor:
            return
        told = state.read(found.descriptor)
        assert told.described & 3 == 3
        assert told.start == (told.frame_number not in got)
        if not told.start:
            continue
        assert all((told.frame_number - d) & 0xFFFF in got for d in range(1, 33) if told.depends >> (d - 1) & 1)
        assert told.targets & state.active
        got.append(told.frame_number)


@pytest.mark.parametrize("name", SINGLE)
def test_everything_passes_unchanged_where_nothing_is_limited(name: str) -> None:
    for packet, found in run(name, {}):
        assert found[:3] == (packet.payload, packet.descriptor, packet.marker)
    assert len(run(name, {})) == len(recorded(name))


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("spatial", [-1, 0, 1])
@pytest.mark.parametrize("temporal", [-1, 0, 1])
def test_each_layer_decodes(name: str, spatial: int, temporal: int) -> None:
    layers = name.split("-")[1]
    everything = pictures(run(name, {}))
    passed = run(name, {0: (spatial, temporal)})
    sizes = decode(name, passed)
    assert len(sizes) == pictures(passed) == sum(found.marker for _, found in passed)
    is_thinned = 0 <= temporal < int(layers[3]) - 1
    assert (len(sizes) < everything * 0.9) == is_thinned
    small = spatial == 0 and layers.startswith("l2")
    assert set(sizes) == {(242, 136) if small else (482, 270)}
    check_descriptors(passed)


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("at", range(1, 40, 4))
def test_each_change_decodes(name: str, at: int) -> None:
    passed = run(name, {0: (0, 0), at: (-1, -1), at + 14: (0, -1), at + 22: (-1, 0)})
    # A layer that comes within a picture ends that picture once more.
    ends = sum(found.marker for _, found in passed)
    assert pictures(passed) <= len(decode(name, passed)) <= ends <= pictures(passed) + 2
    check_descriptors(passed)


@pytest.mark.parametrize("name", SIMULCAST)
@pytest.mark.parametrize("at", range(1, 60, 3))
def test_encodings_change_at_keyframes(name: str, at: int) -> None:
    """The one before goes on until then, so no picture is missing."""
    passed = run(name, {0: (0, -1), at: (1, -1), at + 20: (0, -1)})
    changes = [found.switched for _, found in passed].count(True)
    keyframes = [
        packet.encoding for packet in ordered(name)[at : at + 20] if facts(codec_of(name), packet.payload).keyframe
    ]
    assert changes >= (1 in keyframes)
    assert len(decode(name, passed)) == pictures(passed)
    check_descriptors(passed)
    shown = sum(packet.marker for packet in recorded(name)) // 2
    assert pictures(passed) >= shown - 2 * changes - 4
