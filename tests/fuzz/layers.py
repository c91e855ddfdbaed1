"""Fuzz targets of dependency descriptors and of the layer gate."""

from __future__ import annotations

from contextlib import suppress

from mediaserver.codecs.dependency import Dependency
from mediaserver.codecs.payload import Codec, facts
from mediaserver.sfu.policy.gate import Gate, Passed

from .steps import step, steps

CODECS = (Codec.CODEC_VP8, Codec.CODEC_VP9, Codec.CODEC_AV1, Codec.CODEC_H264, Codec.CODEC_H265)


def dependency(data: bytes) -> None:
    """Each step is a descriptor."""
    state = Dependency()
    for _, ext in steps(data):
        with suppress(ValueError):
            state.read(ext)
        assert len(state.targets) <= 32
        assert len(state.structure) <= 255


def gate(data: bytes) -> None:
    """The first byte: codec and encodings. Each step: by its flags a wish, a restart or a packet of some encoding."""
    if not data:
        return
    codec = CODECS[data[0] % len(CODECS)]
    layers = Gate(codec, 1 + (data[0] >> 4) % 4)
    kept: list[tuple[int, int, int, bool, bytes, bytes]] = []
    sequence = timestamp = 1 << 20
    for flags, part in steps(data[1:]):
        encoding = flags & 3
        if flags & 0xE0 == 0xE0:
            layers.target((flags >> 2 & 7) - 1, part[0] % 5 - 1 if part else -1)
        elif flags & 0xE0 == 0xC0:
            layers.gone(encoding) if flags & 4 else layers.restart(encoding, bool(flags & 8))
        elif len(part) > 2:
            sequence += part[0] % 16 - 3
            timestamp += (flags >> 3 & 1) * 3000
            descriptor, payload = part[2 : 2 + part[1]], part[2 + part[1] :]
            packet = (encoding, sequence, timestamp % 2**32, bool(flags & 4), payload, descriptor)
            check(codec, packet, layers.offer(*packet))
            kept = [*kept[-15:], packet]
            check(codec, kept[0], layers.again(*kept[0]))
        assert -1 <= layers.want_key_of < 8


def check(codec: Codec, packet: tuple[int, int, int, bool, bytes, bytes], found: Passed | int | None) -> None:
    if not isinstance(found, Passed):
        return
    assert len(found.descriptor) <= 255
    before, after = facts(codec, packet[4]), facts(codec, found.payload)
    assert before.valid == after.valid
    assert found.payload[after.descriptor_size :] == packet[4][before.descriptor_size :]
    assert (before.temporal_id, before.spatial_id) == (after.temporal_id, after.spatial_id)


def descriptor_seeds() -> list[bytes]:
    key, rest = bytes.fromhex("bc0007801d0400"), bytes.fromhex("bd0008")
    structure = bytes.fromhex("80000180003a414100efaa85149428a5105c0280b400")
    return [b"".join(step(0, ext) for ext in (key, rest)), b"".join(step(0, ext) for ext in (structure, rest, rest))]


def gate_seeds() -> list[bytes]:
    """A keyframe and pictures of two temporal layers, for each codec, in one and in three encodings."""
    key = {
        0: "90f0800105001000009d012a4001f000",
        1: "ac8001000982498342001 3f00ef000".replace(" ", ""),
        2: "18301000",
        3: "6742c01fd90141fb0110000003001000000303c0f1832e",
        4: "26010000",
    }
    inter = {0: "90f0800205600001", 1: "ec8002300986004092", 2: "10303000", 3: "419a020510", 4: "02010000"}
    found = []
    for codec in range(5):
        for several in (0, 0x20):
            descriptor = bytes.fromhex("80000180003a4141")
            parts = [step(0xE0 | 1 << 2, b"\x01")]
            for encoding in range(3 if several else 1):
                parts.append(step(encoding | 4, bytes([4, len(descriptor)]) + descriptor + bytes.fromhex(key[codec])))
                parts.append(step(encoding | 12, bytes([4, 0]) + bytes.fromhex(inter[codec])))
            found.append(bytes([codec | several]) + b"".join(parts * 2))
    return found
