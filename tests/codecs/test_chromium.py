"""What Chromium 156 really sends (recorded by capture.py) comes out as pictures and sound that decode."""

from __future__ import annotations

import struct
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest
from aiortc.rtp import RtpPacket

from mediaserver.codecs.opus import parse_toc
from mediaserver.codecs.payload import AccessUnit, Codec, assembler, codec_from_name, facts
from tests.codecs import media

FOLDER = Path(__file__).parent / "chromium"
# The bar that moves through the pictures: its width, and what it moves from one to the next.
STEP = 12
SOUND = ("opus", "red")
NAMES = sorted(path.stem for path in FOLDER.glob("*.rtpdump"))
PICTURES = [name for name in NAMES if name not in SOUND]


class Received(NamedTuple):
    sequence: int
    payload: bytes
    timestamp: int
    marker: bool


@lru_cache
def received(name: str) -> list[Received]:
    """The packets of a file; a packet that it holds in part was nothing but padding behind its header."""
    data = (FOLDER / f"{name}.rtpdump").read_bytes()
    assert data.startswith(b"#!rtpplay1.0 ")
    at = data.index(b"\n") + 1 + 16
    packets = []
    while at < len(data):
        size, original, _ = struct.unpack_from("!HHI", data, at)
        raw = data[at + 8 : at + size]
        if len(raw) < original:
            raw = raw.ljust(original - 1, b"\0") + bytes([original - len(raw)])
        packet = RtpPacket.parse(raw)
        packets.append(Received(packet.sequence_number, packet.payload, packet.timestamp, bool(packet.marker)))
        at += size
    return packets


def codec_of(name: str) -> Codec:
    return codec_from_name(name.split("-")[0])


def assemble(name: str, lost: int | None = None) -> list[AccessUnit]:
    machine = assembler(codec_of(name))
    units = []
    last = None
    for i, packet in enumerate(received(name)):
        if i == lost:
            continue
        missing = last is not None and packet.sequence != (last + 1) & 0xFFFF
        units += machine.push(packet.payload, packet.timestamp, packet.marker, missing)
        last = packet.sequence
    return units + machine.flush()


def bars(frames: list[av.VideoFrame]) -> list[int]:
    """Where the bright bar stands in each picture."""
    found = []
    for frame in frames:
        columns = media.planes(frame.reformat(format="gray8"))[0].astype(float).mean(axis=0)
        found.append(int(np.convolve(columns, np.ones(STEP), "valid").argmax()))
    return found


def test_all_files_are_there() -> None:
    assert {codec_of(name) for name in NAMES} == set(Codec) - {Codec.CODEC_NONE, Codec.CODEC_H265}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(name: str) -> None:
    units = assemble(name)
    size = (482, 270) if "l2" in name else (322, 182)
    assert {(unit.width, unit.height) for unit in units} == {size}
    # Each ends with a marker, so that none is left to flush().
    assert all(unit.complete for unit in units)
    # The first picture, and the one that was asked for by a PLI in the middle.
    assert [i for i, unit in enumerate(units) if unit.keyframe] == [0, 6]
    has_config = codec_of(name) in (Codec.CODEC_H264, Codec.CODEC_AV1)
    assert [unit.config is not None for unit in units] == [has_config and i in (0, 6) for i in range(len(units))]

    # FFmpeg's own VP9 decoder shows every spatial layer; libvpx, like Chromium, shows the highest.
    decoder = "libvpx-vp9" if name.startswith("vp9-l2") else ""
    frames = media.decode_frames(codec_of(name), [unit.data for unit in units], decoder)
    assert [(frame.width, frame.height) for frame in frames] == [size] * len(units)
    positions = bars(frames)
    assert positions[0] == 0
    # The H.264 encoder leaves out pictures to keep its bitrate.
    steps = {1} if codec_of(name) != Codec.CODEC_H264 else {1, 2}
    assert {(after - before) / STEP for before, after in pairwise(positions)} <= steps


@pytest.mark.parametrize("name", PICTURES)
def test_the_second_keyframe_starts_a_decoder(name: str) -> None:
    units = assemble(name)[6:]
    decoder = "libvpx-vp9" if name.startswith("vp9-l2") else ""
    frames = media.decode_frames(codec_of(name), [unit.data for unit in units], decoder)
    assert len(frames) == len(units)
    assert bars(frames)[0] == 6 * STEP


@pytest.mark.parametrize("name", NAMES)
def test_facts(name: str) -> None:
    codec = codec_of(name)
    packets = [packet for packet in received(name) if packet.payload]
    found = [facts(codec, packet.payload) for packet in packets]
    assert all(fact.valid for fact in found)
    if name in SOUND:
        return
    units = assemble(name)
    keys = {unit.timestamp for unit in units if unit.keyframe}
    # A keyframe begins with a packet that says so and tells the size; no other packet claims to.
    for i, (packet, fact) in enumerate(zip(packets, found, strict=True)):
        is_first = i == 0 or packets[i - 1].timestamp != packet.timestamp
        if packet.timestamp not in keys:
            assert not fact.keyframe
            assert not fact.width
        elif is_first:
            assert fact.keyframe
            assert (fact.width, fact.height) == (units[0].width, units[0].height)
        if is_first:
            assert fact.start
    if "t2" in name or "t3" in name:
        assert {fact.temporal_id for fact in found} - {-1} == set(range(3 if "t3" in name else 2))
    if "l2" in name:
        assert {fact.spatial_id for fact in found} - {-1} == {0, 1}
    if codec in (Codec.CODEC_VP8, Codec.CODEC_VP9):
        ids = list(dict.fromkeys(fact.picture_id for fact in found))
        assert ids == [(ids[0] + i) % 0x8000 for i in range(ids[-1] - ids[0] + 1)] or name == "vp8-l1t3"


@pytest.mark.parametrize("name", PICTURES)
def test_each_lost_packet_shows(name: str) -> None:
    whole = {unit.timestamp: unit for unit in assemble(name)}
    size = next((unit.width, unit.height) for unit in whole.values())
    for lost, packet in enumerate(received(name)[:-1]):
        units = assemble(name, lost)
        assert {(unit.width, unit.height) for unit in units} - {(0, 0)} == {size}
        complete = {unit.timestamp: unit for unit in units if unit.complete}
        assert all(unit.data == whole[timestamp].data for timestamp, unit in complete.items())
        assert not packet.payload or packet.timestamp not in complete


def test_opus_in_red_is_the_same_stream() -> None:
    units = assemble("red")
    assert len(units) == len(received("red"))
    assert {parse_toc(unit.data).duration_us for unit in units} == {20000}
    # Each packet carries a copy of the one before it: a lost one changes nothing.
    for lost in range(1, len(units) - 1):
        assert [unit.data for unit in assemble("red", lost)] == [unit.data for unit in units]


def test_opus() -> None:
    units = assemble("opus")
    assert [unit.data for unit in units] == [packet.payload for packet in received("opus")]
    assert {parse_toc(unit.data).duration_us for unit in units} == {20000}
