"""WebM (Matroska, RFC 9559) with one VP8 or VP9 track, written cluster by cluster.

While it grows, the segment has no size, no duration and no index, and room is kept for them in the header; players
take it so. When it is complete the cues go to its end and the rest is filled in.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from mediaserver.recording.sample import Fragment, Patch, Sample

_EBML = 0x1A45DFA3
_SEGMENT = 0x18538067
_SEEK_HEAD = 0x114D9B74
_INFO = 0x1549A966
_TRACKS = 0x1654AE6B
_CLUSTER = 0x1F43B675
_CUES = 0x1C53BB6B
_VOID = 0xEC
_SEEK_ROOM = 96
_DURATION_SIZE = 2 + 1 + 8
_NANOSECONDS_PER_TICK = 1_000_000

CODEC_IDS = {"vp8": "V_VP8", "vp9": "V_VP9"}


def _number(value: int) -> bytes:
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")


def _element(identifier: int, content: bytes) -> bytes:
    """An element with its size in 8 bytes when it is large, in as few as possible else (RFC 8794, section 4)."""
    length = len(content)
    for width in range(1, 9):
        if length < (1 << 7 * width) - 1:
            return _number(identifier) + (length | 1 << 7 * width).to_bytes(width, "big") + content
    raise ValueError("an element of this size cannot be written")


def _void(size: int) -> bytes:
    """A Void element of exactly `size` bytes, from 2 to 128."""
    return bytes((_VOID, 0x80 | size - 2)) + bytes(size - 2)


def header(codec: str, width: int, height: int) -> bytes:
    """The file up to the first cluster. `codec` is FFmpeg's name: vp8 or vp9."""
    ebml = _element(
        _EBML,
        _element(0x4286, b"\1") + _element(0x42F7, b"\1") + _element(0x42F2, b"\4") + _element(0x42F3, b"\x08")
        + _element(0x4282, b"webm") + _element(0x4287, b"\2") + _element(0x4285, b"\2"),
    )  # fmt: skip
    info = _element(
        _INFO,
        _void(_DURATION_SIZE) + _element(0x2AD7B1, _number(_NANOSECONDS_PER_TICK))
        + _element(0x4D80, b"mediaserver") + _element(0x5741, b"mediaserver"),
    )  # fmt: skip
    video = _element(0xE0, _element(0xB0, _number(width)) + _element(0xBA, _number(height)))
    track = _element(
        0xAE,
        _element(0xD7, b"\1") + _element(0x73C5, b"\1") + _element(0x9C, b"\0") + _element(0x83, b"\1")
        + _element(0x86, CODEC_IDS[codec].encode()) + video,
    )  # fmt: skip
    segment = _number(_SEGMENT) + b"\x01\xff\xff\xff\xff\xff\xff\xff"
    return ebml + segment + _void(_SEEK_ROOM) + info + _element(_TRACKS, track)


def cluster(clock_rate: int, samples: Sequence[Sample]) -> bytes:
    """A cluster of simple blocks. The samples must lie within 30 s."""
    start = _milliseconds(samples[0].pts, clock_rate)
    blocks = [_element(0xE7, _number(start))]
    for sample in samples:
        head = struct.pack(">BhB", 0x81, _milliseconds(sample.pts, clock_rate) - start, 0x80 if sample.keyframe else 0)
        blocks.append(_element(0xA3, head + sample.data))
    return _element(_CLUSTER, b"".join(blocks))


def finish(head: bytes, clock_rate: int, fragments: Sequence[Fragment]) -> tuple[list[Patch], bytes]:
    """What completes a file: patches to its header `head`, and the cues that go behind its last cluster."""
    seek_at = head.index(_number(_SEGMENT)) + 12
    info_at = seek_at + _SEEK_ROOM
    tracks_at = head.index(_number(_TRACKS), info_at)
    end = fragments[-1].offset + fragments[-1].size if fragments else len(head)
    points = b"".join(
        _element(
            0xBB,
            _element(0xB3, _number(_milliseconds(part.time, clock_rate)))
            + _element(0xB7, _element(0xF7, b"\1") + _element(0xF1, _number(part.offset - seek_at))),
        )
        for part in fragments
        if part.keyframe
    )
    cues = _element(_CUES, points) if points else b""
    places = [(_INFO, info_at), (_TRACKS, tracks_at)] + ([(_CUES, end)] if cues else [])
    seek_head = _element(
        _SEEK_HEAD,
        b"".join(
            _element(0x4DBB, _element(0x53AB, _number(identifier)) + _element(0x53AC, _number(at - seek_at)))
            for identifier, at in places
        ),
    )
    last = fragments[-1] if fragments else Fragment(0, 0, 0, 0, False)
    duration = struct.pack(">HBd", 0x4489, 0x88, (last.time + last.duration) * 1000 / clock_rate)
    size = struct.pack(">Q", end + len(cues) - seek_at | 1 << 56)
    info_content = info_at + 5 if head[info_at + 4] & 0x80 else info_at + 6
    return [
        Patch(seek_at - 8, size),
        Patch(seek_at, seek_head + _void(_SEEK_ROOM - len(seek_head))),
        Patch(info_content, duration),
    ], cues


def _milliseconds(ticks: int, clock_rate: int) -> int:
    return (ticks * 1000 + clock_rate // 2) // clock_rate
