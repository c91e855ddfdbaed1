"""Whatever the network sends: no crash, no exception, flags that hold, bounded memory."""

from __future__ import annotations

from functools import lru_cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediaserver.codecs import av1, h264, h265, opus
from mediaserver.codecs.payload import AccessUnit, Codec, assembler, codec_name, facts
from tests.codecs import media
from tests.codecs.media import Packet

CODECS = [codec for codec in Codec if codec != Codec.CODEC_NONE]
VIDEO = [codec for codec in media.FFMPEG_NAMES if codec != Codec.CODEC_OPUS]


@lru_cache
def real_packets(codec: Codec) -> list[Packet]:
    """A short real stream: several packets a picture, two keyframes."""
    if codec in (Codec.CODEC_OPUS, Codec.CODEC_RED):
        packets = media.packetise(Codec.CODEC_OPUS, media.encode_sound(6))
        if codec == Codec.CODEC_OPUS:
            return packets
        return [red(packets[max(i - 1, 0)], packet) for i, packet in enumerate(packets)]
    options = {
        Codec.CODEC_H264: (("x264-params", "slices=2:keyint=3"),),
        Codec.CODEC_H265: (("x265-params", "log-level=none:keyint=3:slices=2"),),
    }.get(codec, (("g", "3"),))
    return media.packetise(codec, media.encode(codec, 176, 144, 5, options), 176, 144, 600)


def red(before: Packet, packet: Packet) -> Packet:
    """`packet` with a copy of the one before it (RFC 2198)."""
    offset = (packet.timestamp - before.timestamp) % 2**32
    header = (1 << 31 | 111 << 24 | offset << 10 | len(before.payload)).to_bytes(4) + b"\x6f"
    return packet._replace(payload=header + before.payload + packet.payload)


def check_facts(codec: Codec, payload: bytes) -> None:
    found = facts(codec, payload)
    if not found.valid:
        assert not any(found[:6])
        assert found[6:11] == (-1, -1, -1, -1, -1)
        assert not any(found[11:])
        return
    assert payload
    assert found.descriptor_size <= len(payload)
    assert -1 <= found.temporal_id < 8
    assert -1 <= found.picture_id < 1 << 15
    assert -1 <= found.tl0_pic_idx < 256
    assert -1 <= found.key_idx < 32
    assert (found.width == 0) == (found.height == 0) or codec in (Codec.CODEC_VP8, Codec.CODEC_VP9)


def check_unit(codec: Codec, unit: AccessUnit) -> None:
    assert unit.data
    assert len(unit.data) <= 16 << 20
    assert 0 <= unit.width < 65537
    assert 0 <= unit.height < 65537
    assert unit.keyframe or unit.config is None
    if unit.keyframe and unit.complete and codec in (Codec.CODEC_H264, Codec.CODEC_H265, Codec.CODEC_AV1):
        assert unit.config


def drive(codec: Codec, packets: list[tuple[bytes, int, bool, bool]]) -> list[AccessUnit]:
    machine = assembler(codec)
    units = []
    for packet in packets:
        made = machine.push(*packet)
        assert len(made) <= (256 if codec == Codec.CODEC_RED else 2)
        units += made
    units += machine.flush()
    assert machine.flush() == []
    for unit in units:
        check_unit(codec, unit)
    return units


@pytest.mark.parametrize("codec", CODECS, ids=codec_name)
@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_random_bytes(codec: Codec, data: st.DataObject) -> None:
    payloads = st.binary(max_size=40)
    packets = data.draw(st.lists(st.tuples(payloads, st.integers(0, 3), st.booleans(), st.booleans()), max_size=12))
    for payload, *_ in packets:
        check_facts(codec, payload)
    drive(codec, packets)


@pytest.mark.parametrize("codec", CODECS, ids=codec_name)
def test_truncation_at_any_byte(codec: Codec) -> None:
    """One packet of a real stream is cut short; all the others come through."""
    packets = real_packets(codec)
    whole = {unit.timestamp: unit for unit in media.assemble(codec, packets)}
    for victim in range(min(len(packets), 5)):
        payload = packets[victim].payload
        for cut in range(0, len(payload), 1 if len(payload) < 100 else 7):
            check_facts(codec, payload[:cut])
            mangled = list(packets)
            mangled[victim] = packets[victim]._replace(payload=payload[:cut])
            units = drive(codec, [(*packet, False) for packet in mangled])
            for unit in units:
                if unit.timestamp != packets[victim].timestamp and not unit.keyframe:
                    assert unit.data == whole[unit.timestamp].data


@pytest.mark.parametrize("codec", CODECS, ids=codec_name)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_changed_bytes(codec: Codec, data: st.DataObject) -> None:
    packets = real_packets(codec)
    mangled: list[tuple[bytes, int, bool, bool]] = []
    for payload, timestamp, marker in packets:
        changed = bytearray(payload)
        # The first bytes are the ones that are interpreted.
        for at, value in data.draw(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 255)), max_size=3)):
            changed[at % len(changed)] = value
        check_facts(codec, bytes(changed))
        mangled.append((bytes(changed), timestamp, marker, False))
    drive(codec, mangled)


@pytest.mark.parametrize("codec", CODECS, ids=codec_name)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_drops(codec: Codec, data: st.DataObject) -> None:
    """Packets are lost and their successors told of it: what is given as complete is what was sent."""
    packets = real_packets(codec)
    whole = {unit.timestamp: unit for unit in media.assemble(codec, packets)}
    kept = data.draw(st.lists(st.booleans(), min_size=len(packets), max_size=len(packets)))
    received = []
    lost = False
    for packet, keep in zip(packets, kept, strict=True):
        if keep:
            received.append((*packet, lost))
        lost = not keep
    units = drive(codec, received)
    for unit in units:
        if unit.complete:
            assert unit.data == whole[unit.timestamp].data
            assert unit.keyframe == whole[unit.timestamp].keyframe
    complete = {unit.timestamp for unit in units if unit.complete}
    if codec != Codec.CODEC_RED:
        for packet, keep in zip(packets, kept, strict=True):
            assert keep or packet.timestamp not in complete


@pytest.mark.parametrize("codec", CODECS, ids=codec_name)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_disorder(codec: Codec, data: st.DataObject) -> None:
    """Wrong order is against the contract, and yet harmless."""
    packets = data.draw(st.permutations(real_packets(codec)))
    drive(codec, [(*packet, False) for packet in packets])


@pytest.mark.parametrize("codec", VIDEO, ids=codec_name)
def test_a_unit_that_never_ends_stays_bounded(codec: Codec) -> None:
    """One timestamp for ever: no more than 16 MiB are kept, and the next picture arrives."""
    packets = real_packets(codec)
    endless = {
        Codec.CODEC_VP8: [b"\x10" + b"\x01" * 60000, b"\x00" + b"\x01" * 60000],
        Codec.CODEC_VP9: [b"\x08\x86\x00\x40" + b"\x01" * 60000, b"\x00" + b"\x01" * 60000],
        Codec.CODEC_H264: [b"\x7c\x85\x88\x84" + b"\x01" * 60000, b"\x7c\x05" + b"\x01" * 60000],
        Codec.CODEC_H265: [b"\x62\x01\x93\xaf" + b"\x01" * 60000, b"\x62\x01\x13" + b"\x01" * 60000],
        Codec.CODEC_AV1: [b"\x50\x30\x10" + b"\x01" * 60000, b"\xd0" + b"\x01" * 60000],
    }[codec]
    machine = assembler(codec)
    timestamp = packets[0].timestamp
    for i in range(400):
        assert machine.push(endless[min(i, 1)], timestamp - 3000, False) == []
    units = [unit for packet in packets for unit in machine.push(*packet)]
    if units[0].timestamp != timestamp:
        assert not units[0].complete
        assert len(units[0].data) <= 16 << 20
        units = units[1:]
    assert [unit.data for unit in units] == [unit.data for unit in media.assemble(codec, packets)]
    assert all(unit.complete for unit in units)


@pytest.mark.parametrize("codec", [Codec.CODEC_H264, Codec.CODEC_H265], ids=codec_name)
def test_whole_nal_units_without_end_stay_bounded(codec: Codec) -> None:
    machine = assembler(codec)
    nal = (b"\x41\x9a" if codec == Codec.CODEC_H264 else b"\x02\x01\xd0") + b"\x11" * 60000
    for _ in range(400):
        assert machine.push(nal, 1, False) == []
    (unit,) = machine.push(nal, 1, True)
    assert not unit.complete
    assert (16 << 20) - 70000 < len(unit.data) <= 16 << 20


@given(st.binary(max_size=80))
@settings(max_examples=500, deadline=None)
def test_parsers_of_parameter_sets(data: bytes) -> None:
    for head, parse in (
        (b"\x67\x64\x00\x28", h264.parse_sps),
        (b"\x42\x01\x01", h265.parse_sps),
        (b"\x08", av1.parse_sequence),
        (b"", opus.parse_toc),
    ):
        try:
            found = parse(head + data)
        except ValueError:
            continue
        if not isinstance(found, opus.Toc):
            assert 0 < found.width < 65536
            assert 0 < found.height < 65536
