"""How a file of pictures may be called in DICOM, and what has to be done for it."""

from __future__ import annotations

from typing import Literal, NamedTuple

from mediaserver.codecs import h264, h265
from mediaserver.recording.export import avc
from mediaserver.recording.export.dicom.options import DicomOptions
from mediaserver.recording.export.progress import ExportError
from mediaserver.recording.manifest import Segment, Track

H264_41 = "1.2.840.10008.1.2.4.102"
H264_42 = "1.2.840.10008.1.2.4.104"
H265_51 = "1.2.840.10008.1.2.4.107"
NAMES = {
    H264_41: "H.264 High Profile / Level 4.1",
    H264_42: "H.264 High Profile / Level 4.2",
    H265_51: "H.265 Main Profile / Level 5.1",
}
METHODS = {H264_41: "ISO_14496_10", H264_42: "ISO_14496_10", H265_51: "ISO_23008_2"}

# Macroblocks of a frame and in a second (H.264, table A-1).
_LEVELS = ((41, H264_41, 8_192, 245_760), (42, H264_42, 8_704, 522_240))
_H265_LEVEL_51 = 153
_H265_MAIN = 1

How = Literal["copy", "relabel", "transcode"]


class Coding(NamedTuple):
    """`level` is for the encoder, where there is one."""

    syntax: str
    how: How
    level: str = ""


class Pictures(NamedTuple):
    """What is to be judged: the description of the codec in its file, and how many pictures there are in a second."""

    extradata: bytes
    rate: float


def judge(track: Track, segment: Segment, pictures: Pictures, options: DicomOptions) -> Coding:
    """Raises `ExportError`, which says what can be chosen instead."""
    name = f"{track.label or track.source} ({segment.file})"
    if options.masks_of(track.source):
        return _transcoded(name, segment, pictures.rate)
    match segment.codec:
        case "H264":
            return _h264(name, segment, pictures, options)
        case "H265":
            problem = _h265_problem(pictures.extradata)
            if not problem:
                return Coding(H265_51, "copy")
        case codec:
            problem = f"DICOM has no transfer syntax for {codec}"
    if options.transcode:
        return _transcoded(name, segment, pictures.rate)
    raise ExportError(f"{name}: {problem}: have it transcoded to H.264 (--transcode) or leave it out ({_drop(track)})")


def _h264(name: str, segment: Segment, pictures: Pictures, options: DicomOptions) -> Coding:
    sps = _sps(name, [nal for nal in avc.avcc_sets(pictures.extradata) if avc.kind_264(nal) == avc.SPS_264])
    syntax = _fitting(segment, pictures.rate, sps.level_idc)
    plain = sps.chroma_format == 1 and sps.bit_depth == 8
    if sps.profile_idc == avc.HIGH and plain and syntax:
        return Coding(syntax, "copy")
    problem = f"its profile is {sps.profile_idc} at level {sps.level_idc / 10}, and DICOM asks for High up to 4.2"
    match options.below_high:
        case "transcode":
            return _transcoded(name, segment, pictures.rate)
        case "relabel" if syntax and plain and avc.may_be_high(sps):
            return Coding(syntax, "relabel")
        case "relabel":
            raise ExportError(f"{name}: {problem}, and it may not be called that: use --h264 transcode")
    raise ExportError(
        f"{name}: {problem}: choose --h264 relabel (the pictures stay as they are, the stream is called High), "
        "or --h264 transcode (they are encoded again)"
    )


def _sps(name: str, found: list[bytes]) -> h264.Sps:
    try:
        return h264.parse_sps(found[0])
    except (IndexError, ValueError) as error:
        raise ExportError(f"{name}: its description of H.264 can't be read") from error


def _fitting(segment: Segment, rate: float, level: int = 0) -> str:
    """The transfer syntax with the least level that takes such pictures; empty where none does."""
    blocks = -(-segment.width // 16) * -(-segment.height // 16)
    for most, syntax, frame, second in _LEVELS:
        if level <= most and blocks <= frame and blocks * rate <= second * 1.05:
            return syntax
    return ""


def _transcoded(name: str, segment: Segment, rate: float) -> Coding:
    syntax = _fitting(segment, rate)
    if not syntax:
        size = f"{segment.width}x{segment.height} at {rate:.0f} frames/s"
        raise ExportError(f"{name}: {size} is more than H.264 may be in DICOM (level 4.2): leave it out by --drop")
    return Coding(syntax, "transcode", "4.1" if syntax == H264_41 else "4.2")


def _h265_problem(extradata: bytes) -> str:
    """Why it is not H.265 of the Main profile up to level 5.1; empty when it is."""
    try:
        found = [nal for nal in avc.hvcc_sets(extradata) if avc.kind_265(nal) == avc.SPS_265]
        sps = h265.parse_sps(found[0])
    except (IndexError, ValueError):
        return "its description of H.265 can't be read"
    if sps.profile_idc != _H265_MAIN or sps.chroma_format != 1 or sps.bit_depth != 8 or sps.level_idc > _H265_LEVEL_51:
        return (
            f"it is H.265 of profile {sps.profile_idc} at level {sps.level_idc / 30}, and DICOM asks for Main up to 5.1"
        )
    return ""


def _drop(track: Track) -> str:
    return f"--drop {track.source}"
