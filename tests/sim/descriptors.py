"""What a browser reads of a payload's descriptor to find out what a frame refers to."""

from __future__ import annotations

from typing import NamedTuple

from mediaserver.codecs.payload import Codec
from tests.sim.payloads import KEY, Truth


class Descriptor(NamedTuple):
    """-1 stands for absent. `differences` are VP9's, in pictures; `below` its D bit; `sync` VP8's Y bit."""

    begins: bool
    ends: bool
    key: bool
    picture: int = -1
    tl0: int = -1
    temporal: int = -1
    spatial: int = 0
    sync: bool = False
    below: bool = False
    differences: tuple[int, ...] = ()


def read_descriptor(codec: Codec, payload: bytes, truth: Truth) -> Descriptor:
    """Of formats whose payload tells no frame's end or key, the truth stands in for a look into the bitstream."""
    if codec == Codec.CODEC_VP8:
        return read_vp8(payload)
    if codec == Codec.CODEC_VP9:
        return read_vp9(payload)
    return Descriptor(truth.index == 0, truth.index == truth.count - 1, bool(truth.flags & KEY))


def read_vp8(payload: bytes) -> Descriptor:
    """RFC 7741, section 4.2, with a picture id of 7 or 15 bits."""
    first, at = payload[0], 1
    begins = first & 0x17 == 0x10
    picture = tl0 = temporal = -1
    sync = False
    if first & 0x80:
        extension, at = payload[1], 2
        if extension & 0x80:
            if payload[at] & 0x80:
                picture, at = (payload[at] & 0x7F) << 8 | payload[at + 1], at + 2
            else:
                picture, at = payload[at], at + 1
        if extension & 0x40:
            tl0, at = payload[at], at + 1
        if extension & 0x30:
            if extension & 0x20:
                temporal, sync = payload[at] >> 6, bool(payload[at] & 0x20)
            at += 1
    return Descriptor(begins, False, begins and not payload[at] & 1, picture, tl0, temporal, 0, sync)


def read_vp9(payload: bytes) -> Descriptor:
    """RFC 9628, section 4.2, flexible mode."""
    flags, at = payload[0], 1
    picture = temporal = -1
    spatial, below, sync = 0, False, False
    differences = []
    if flags & 0x80:
        if payload[at] & 0x80:
            picture, at = (payload[at] & 0x7F) << 8 | payload[at + 1], at + 2
        else:
            picture, at = payload[at], at + 1
    if flags & 0x20:
        layers, at = payload[at], at + 1
        temporal, spatial = layers >> 5, layers >> 1 & 7
        sync, below = bool(layers & 0x10), bool(layers & 1)
    if flags & 0x50 == 0x50:
        more = 1
        while more:
            differences.append(payload[at] >> 1)
            more, at = payload[at] & 1, at + 1
    key = not flags & 0x40 and not below
    return Descriptor(
        bool(flags & 8), bool(flags & 4), key, picture, -1, temporal, spatial, sync, below, tuple(differences)
    )
