"""H.264 and H.265 as MP4 holds them: NAL units behind their size, parameter sets in the description of the track."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mediaserver.codecs import h264

START_CODE = b"\0\0\0\1"
SPS_264, SEI_264 = 7, 6
SPS_265, SEI_265 = 33, (39, 40)
PARAMETER_SETS_264 = (7, 8)
PARAMETER_SETS_265 = (32, 33, 34)

HIGH, MAIN, BASELINE = 100, 77, 66
LEVEL_1B = 9
_CONSTRAINT_SET1 = 0x40
_CONSTRAINT_SET3 = 0x10


def units(sample: bytes) -> Iterator[bytes]:
    """The NAL units of a sample, each behind its size in 4 bytes. Raises ValueError when they don't fill it."""
    at = 0
    while at < len(sample):
        size = int.from_bytes(sample[at : at + 4], "big")
        at += 4
        if not size or at + size > len(sample):
            raise ValueError("a sample's NAL units don't fill it")
        yield sample[at : at + size]
        at += size


def annex_b(nals: Iterable[bytes]) -> bytes:
    """NAL units behind start codes."""
    return b"".join(START_CODE + nal for nal in nals)


def kind_264(nal: bytes) -> int:
    return nal[0] & 0x1F


def kind_265(nal: bytes) -> int:
    return nal[0] >> 1 & 0x3F


def avcc_sets(box: bytes) -> list[bytes]:
    """SPS and PPS of an `avcC` (ISO/IEC 14496-15, 5.3.3.1). Raises ValueError."""
    at, found = 5, []
    for mask in (0x1F, 0xFF):
        count, at = _at(box, at) & mask, at + 1
        for _ in range(count):
            nal, at = _sized(box, at)
            found.append(nal)
    return found


def hvcc_sets(box: bytes) -> list[bytes]:
    """VPS, SPS and PPS of an `hvcC` (ISO/IEC 14496-15, 8.3.3.1). Raises ValueError."""
    at, found = 23, []
    for _ in range(_at(box, 22)):
        count, at = int.from_bytes(box[at + 1 : at + 3], "big"), at + 3
        for _ in range(count):
            nal, at = _sized(box, at)
            found.append(nal)
    return found


def may_be_high(sps: h264.Sps) -> bool:
    """Whether a stream keeps to all that H.264 asks of the High profile (A.2.4), whatever profile it names.

    Constrained Baseline (A.2.1.1) and Main (A.2.2) are subsets of it: no slice groups, no redundant pictures, no
    arbitrary slice order, 4:2:0 of 8 bits. Plain Baseline may have those, so it may not.
    """
    if sps.chroma_format > 1 or sps.bit_depth != 8:
        return False
    return sps.profile_idc in (MAIN, HIGH) or (sps.profile_idc == BASELINE and bool(sps.constraints & _CONSTRAINT_SET1))


def as_high(sps: bytes) -> bytes:
    """The SPS of a Constrained Baseline or Main stream with the High profile's name; nothing else changes.

    What High adds to the syntax (7.3.2.1.1) is said with its inferred values: 4:2:0, 8 bits, no scaling matrix.
    Raises ValueError when the stream may not be called that.
    """
    facts = h264.parse_sps(sps)
    if facts.profile_idc == HIGH:
        return sps
    if not may_be_high(facts):
        raise ValueError(f"a stream of profile {facts.profile_idc} can't be called High")
    level = facts.level_idc
    if level == 11 and facts.constraints & _CONSTRAINT_SET3:
        level = LEVEL_1B  # as High writes level 1b (A.3.4.1)
    payload = _unescape(sps[4:])
    bits = "".join(f"{byte:08b}" for byte in payload)
    identifier = 2 * bits.index("1") + 1  # the length of an Exp-Golomb code
    # chroma_format_idc 1, both bit depths 0, no bypass, no scaling matrix.
    bits = bits[:identifier] + "010" + "1" + "1" + "0" + "0" + bits[identifier:].rstrip("0")
    bits += "0" * (-len(bits) % 8)
    body = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
    head = bytes((HIGH, facts.constraints & ~_CONSTRAINT_SET3 & 0xFF, level))
    return sps[:1] + _escape(head + body)


def _at(box: bytes, at: int) -> int:
    if at >= len(box):
        raise ValueError("a description of the codec ends too early")
    return box[at]


def _sized(box: bytes, at: int) -> tuple[bytes, int]:
    size = int.from_bytes(box[at : at + 2], "big")
    if not size or at + 2 + size > len(box):
        raise ValueError("a description of the codec ends too early")
    return box[at + 2 : at + 2 + size], at + 2 + size


def _unescape(data: bytes) -> bytes:
    """Without the emulation prevention of 7.4.1."""
    out = bytearray()
    zeros = 0
    for byte in data:
        if zeros >= 2 and byte == 3:
            zeros = 0
            continue
        out.append(byte)
        zeros = 0 if byte else zeros + 1
    return bytes(out)


def _escape(data: bytes) -> bytes:
    out = bytearray()
    zeros = 0
    for byte in data:
        if zeros >= 2 and byte <= 3:
            out.append(3)
            zeros = 0
        out.append(byte)
        zeros = 0 if byte else zeros + 1
    return bytes(out)
