"""What of an offered m-section is taken: payload types, their feedback and retransmission, header extensions.

Pure functions from the facts of an offer; the rules are tables.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from mediaserver.codecs.payload import Codec
from mediaserver.sfu.session.model import Source
from mediaserver.sfu.session.settings import SourcePolicy
from mediaserver.sfu.stream.params import LegPayload, PayloadParams
from mediaserver.sfu.wire.packet import EXT_URIS, ExtKind
from mediaserver.sfu.wire.sdp import Format, Media

T = TypeVar("T", bound=Hashable)


@lru_cache(1024)
def _first(value: Any) -> Any:
    return value


def shared(value: T) -> T:
    """The same value as it was first seen: of a thousand legs nearly all have equal parameters, and each would keep its
    own."""
    result: T = _first(value)
    return result


class Known(NamedTuple):
    """A codec that we carry, by its rtpmap."""

    codec: int
    kind: str
    clock_rate: int


CODECS: Final = {
    "OPUS": Known(Codec.CODEC_OPUS, "audio", 48000),
    "RED": Known(Codec.CODEC_RED, "audio", 48000),
    "VP8": Known(Codec.CODEC_VP8, "video", 90000),
    "VP9": Known(Codec.CODEC_VP9, "video", 90000),
    "H264": Known(Codec.CODEC_H264, "video", 90000),
    "H265": Known(Codec.CODEC_H265, "video", 90000),
    "AV1": Known(Codec.CODEC_AV1, "video", 90000),
}
CODEC_NAMES: Final = {known.codec: name for name, known in CODECS.items()}

CCFB: Final = "ack ccfb"
"""Feedback about each packet by its own number (RFC 8888, section 6)."""

MAX_PUBLISHED: Final = 16  # payload types of one track; browsers offer up to 4 of one codec

FEEDBACK: Final = {
    "video": ("nack", "nack pli", "ccm fir", "transport-cc", "goog-remb"),
    "audio": ("nack", "transport-cc"),
}

# Video orientation is left out on purpose: where it is not agreed on the sender turns the pixels itself
# (3GPP TS 26.114, section 6.2.3), and so every viewer and the archive get an upright picture.
EXTENSIONS: Final = frozenset(
    {
        ExtKind.EXT_MID,
        ExtKind.EXT_TWCC,
        ExtKind.EXT_ABS_SEND_TIME,
        ExtKind.EXT_AUDIO_LEVEL,
        ExtKind.EXT_ABS_CAPTURE_TIME,
        ExtKind.EXT_PLAYOUT_DELAY,
        ExtKind.EXT_DEPENDENCY_DESCRIPTOR,
        ExtKind.EXT_VIDEO_CONTENT_TYPE,
        ExtKind.EXT_VIDEO_TIMING,
        ExtKind.EXT_COLOR_SPACE,
    }
)
"""What a publisher may send, and a viewer may get."""
SIMULCAST_EXTENSIONS: Final = frozenset({ExtKind.EXT_RID, ExtKind.EXT_RRID})
"""What a publisher may send besides where it offers several encodings."""


class Agreed(NamedTuple):
    """One payload type of an answer: as it was offered, its retransmissions, and the feedback that both know."""

    format: Format
    codec: int
    rtx: Format | None
    feedback: tuple[str, ...]

    @property
    def payload_type(self) -> int:
        return self.format.payload_type

    @property
    def rtx_type(self) -> int:
        return self.rtx.payload_type if self.rtx is not None else 0


class AgreedExtension(NamedTuple):
    """A header extension of an answer: the offer's id, direction and URI, and our number for it."""

    id: int
    kind: int
    uri: str
    direction: str = ""


# Payload types


def agree_formats(media: Media, extensions: Sequence[AgreedExtension]) -> Sequence[Agreed]:
    """Every offered payload type that we can carry, in the order of the offer."""
    twcc = any(extension.kind == ExtKind.EXT_TWCC for extension in extensions)
    key = "formats", media.kind, twcc
    derived: dict[object, Sequence[Agreed]] = media.codecs.derived
    if key not in derived:
        derived[key] = tuple(_agree_formats(media, twcc))
    return derived[key]


def _agree_formats(media: Media, twcc: bool) -> list[Agreed]:
    taken = []
    for one in media.formats.values():
        known = CODECS.get(one.name.upper())
        if known is None or known.kind != media.kind or known.clock_rate != one.clock_rate or not _supported(one):
            continue
        taken.append(Agreed(one, known.codec, _rtx(media, one), _feedback(media.kind, one, twcc)))
    return [_with_inner(one, taken) for one in taken if one.codec != Codec.CODEC_RED or _inner(one, taken)]


def inner_type(one: Format) -> int:
    """The payload type whose packets and copies RED carries (RFC 2198, section 5), -1 when there is not just one."""
    types = set(one.fmtp.split("/"))
    text = types.pop() if len(types) == 1 else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 3 else -1


def _inner(red: Agreed, formats: Iterable[Agreed]) -> Agreed | None:
    """The Opus that the RED carries."""
    inner = inner_type(red.format)
    return next((one for one in formats if one.codec == Codec.CODEC_OPUS and one.payload_type == inner), None)


def _with_inner(one: Agreed, formats: Sequence[Agreed]) -> Agreed:
    """RED is one stream with the Opus inside: what is agreed for that holds for both."""
    inner = _inner(one, formats) if one.codec == Codec.CODEC_RED else None
    return one if inner is None else one._replace(feedback=inner.feedback)


def _supported(one: Format) -> bool:
    """VP9 in profiles 0 and 2 (4:2:0) alone; an H.264 packetization-mode of 2 (interleaved) is nobody's."""
    match one.name.upper():
        case "VP9":
            return one.parameters.get("profile-id", "0") in ("0", "2")
        case "H264":
            return one.parameters.get("packetization-mode", "0") in ("0", "1")
    return True


def _rtx(media: Media, one: Format) -> Format | None:
    for other in media.formats.values():
        if other.name.lower() == "rtx" and other.parameters.get("apt") == str(one.payload_type):
            return other
    return None


def _feedback(kind: str, one: Format, twcc: bool) -> tuple[str, ...]:
    """The common feedback. Transport-wide feedback needs its extension; REMB only where there is none of that."""
    taken = []
    for name in FEEDBACK[kind]:
        if name in one.feedback and not (name == "transport-cc" and not twcc) and not (name == "goog-remb" and twcc):
            taken.append(name)
    return tuple(taken)


def choose_published(agreed: Sequence[Agreed], policy: SourcePolicy) -> list[Agreed]:
    """The one codec that a publisher is to send: the first of the policy's that is offered, else the offer's first.

    All its payload types stay, except that H.264 in packetization-mode 1 puts mode 0 aside. RED stays too: in front
    where it is asked for, else where it stands, as browsers send what comes first.
    """
    if not agreed:
        return []
    names = [one.format.name.upper() for one in agreed if one.codec != Codec.CODEC_RED]
    family = next((name for name in policy.video_codecs if name in names), names[0])
    chosen = [one for one in agreed if one.format.name.upper() == family or one.codec == Codec.CODEC_RED]
    if policy.opus_red:
        chosen.sort(key=lambda one: one.codec != Codec.CODEC_RED)
    if family == "H264":
        chosen = [one for one in chosen if _packetization_mode(one.format) == 1] or chosen
    return chosen[:MAX_PUBLISHED]


def _packetization_mode(one: Format) -> int:
    return 1 if one.parameters.get("packetization-mode") == "1" else 0


def payload_params(agreed: Agreed) -> PayloadParams:
    """What the data plane needs to know of a payload type that is published."""
    feedback = agreed.feedback
    return PayloadParams(
        payload_type=agreed.payload_type,
        codec=agreed.codec,
        clock_rate=agreed.format.clock_rate,
        rtx_type=agreed.rtx_type,
        nack="nack" in feedback,
        pli="nack pli" in feedback,
        fir="ccm fir" in feedback,
        transport_cc="transport-cc" in feedback,
        remb="goog-remb" in feedback,
    )


def match_payloads(published: Sequence[Agreed], offered: Sequence[Agreed]) -> tuple[LegPayload, ...]:
    """How each payload type of a track leaves to a viewer; those that the viewer cannot take are missing."""
    found = []
    for one in published:
        if one.codec == Codec.CODEC_RED:
            found += _match_red(one, published, offered)
            continue
        fits = [(rank, at) for at, other in enumerate(offered) if (rank := _fit(one, other)) is not None]
        if fits:
            best = offered[min(fits)[1]]
            found.append(LegPayload(one.payload_type, best.payload_type, best.rtx_type, "nack" in best.feedback))
    return shared(tuple(found))


def _match_red(red: Agreed, published: Sequence[Agreed], offered: Sequence[Agreed]) -> list[LegPayload]:
    """As it is to those who take it with the same number for what is inside (the copies bear that), else unwrapped."""
    inner = inner_type(red.format)
    for other in offered:
        if other.codec == Codec.CODEC_RED and inner_type(other.format) == inner:
            return [LegPayload(red.payload_type, other.payload_type, other.rtx_type, "nack" in other.feedback)]
    plain = match_payloads([one for one in published if one.payload_type == inner], offered)
    return [msgspec.structs.replace(one, incoming=red.payload_type, unwrap=True) for one in plain]


def main_codec(published: Sequence[Agreed]) -> str:
    """The name of the codec that a track is in, whatever is around it."""
    return next(one for one in published if one.codec != Codec.CODEC_RED).format.name.upper()


def _fit(sent: Agreed, taken: Agreed) -> int | None:
    """How well a viewer's payload type takes a publisher's: 0 exactly, more is less well, None not at all."""
    if sent.codec != taken.codec:
        return None
    ours, theirs = sent.format.parameters, taken.format.parameters
    match sent.codec:
        case Codec.CODEC_H264:
            return _h264_fit(sent.format, taken.format)
        case Codec.CODEC_VP9:
            return 0 if ours.get("profile-id", "0") == theirs.get("profile-id", "0") else None
        case Codec.CODEC_AV1:
            return 0 if ours.get("profile", "0") == theirs.get("profile", "0") else None
        case Codec.CODEC_H265:
            return 0 if ours.get("profile-id", "1") == theirs.get("profile-id", "1") else None
    return 0


# H.264 profiles by profile_idc and profile-iop (RFC 6184, section 8.1) to what a decoder must at least do. Baseline
# counts as its constrained form: what the two differ in (FMO, ASO) no real-time encoder uses.
CONSTRAINED_BASELINE, MAIN, HIGH = 0, 1, 2


def h264_profile(one: Format) -> int | None:
    """CONSTRAINED_BASELINE, MAIN or HIGH; None for others (extended, 4:2:2, 10 bit ...) and for nonsense."""
    text = one.parameters.get("profile-level-id", "420010")
    try:
        value = int(text, 16) if len(text) == 6 else -1
    except ValueError:
        return None
    constrained = bool(value & 0x4000)  # constraint_set1_flag: "obeys Main and (with Baseline) is constrained"
    match value >> 16:
        case 0x42:
            return CONSTRAINED_BASELINE
        case 0x4D:
            return CONSTRAINED_BASELINE if value & 0x8000 else MAIN
        case 0x58:
            return CONSTRAINED_BASELINE if constrained and value & 0x8000 else None
        case 0x64:
            return HIGH
    return None


def _h264_fit(sent: Format, taken: Format) -> int | None:
    """A higher profile decodes a lower one. Levels are not compared: decoders go beyond what they declare, and
    level-asymmetry-allowed is in every browser's offer."""
    if _packetization_mode(sent) > _packetization_mode(taken):
        return None
    same = (
        sent.parameters.get("profile-level-id", "")[:4].lower()
        == taken.parameters.get("profile-level-id", "")[:4].lower()
    )
    if same:
        return 0
    ours, theirs = h264_profile(sent), h264_profile(taken)
    if ours is None or theirs is None or theirs < ours:
        return None
    return 1 + theirs - ours


# Header extensions


def agree_extensions(media: Media) -> Sequence[AgreedExtension]:
    """The offered extensions that we know, with the offer's ids (RFC 8285, section 5). Abs-send-time gives way to
    transport-wide sequence numbers."""
    key = "extensions", bool(media.simulcast), media.direction
    derived: dict[object, Sequence[AgreedExtension]] = media.codecs.derived
    if key not in derived:
        derived[key] = tuple(_agree_extensions(media))
    return derived[key]


def _agree_extensions(media: Media) -> list[AgreedExtension]:
    taken: list[AgreedExtension] = []
    kinds = set()
    carried = EXTENSIONS | SIMULCAST_EXTENSIONS if media.simulcast and media.sends else EXTENSIONS
    for one in media.extensions:
        kind = EXT_URIS.get(one.uri, ExtKind.EXT_NONE)
        usable = (media.sends and one.direction != "recvonly") or (media.receives and one.direction != "sendonly")
        if kind in carried and kind not in kinds and usable and one.direction != "inactive":
            kinds.add(kind)
            taken.append(AgreedExtension(one.id, kind, one.uri, one.direction))
    if ExtKind.EXT_TWCC in kinds:
        taken = [one for one in taken if one.kind != ExtKind.EXT_ABS_SEND_TIME]
    return taken


def incoming_extensions(agreed: Iterable[AgreedExtension]) -> tuple[tuple[int, int], ...]:
    """Those that the peer may send, as the data plane takes them: id and kind."""
    return tuple((one.id, one.kind) for one in agreed if one.direction != "recvonly")


def outgoing_extensions(agreed: Iterable[AgreedExtension]) -> tuple[tuple[int, int], ...]:
    """Those that we may send to the peer, as the data plane takes them: id and kind."""
    return shared(tuple((one.id, one.kind) for one in agreed if one.direction != "sendonly"))


def by_own_numbers(formats: Sequence[Agreed]) -> list[Agreed]:
    """The formats where packets are told of by their own numbers: not by transport-wide ones too."""
    return [one._replace(feedback=tuple(name for name in one.feedback if name != "transport-cc")) for one in formats]


# What an answer says of a format


def answer_fmtp(agreed: Agreed, policy: SourcePolicy | None) -> str:
    """The fmtp of an answer: as offered, and for Opus what we ask of the publisher (`policy` None: we send)."""
    if agreed.codec != Codec.CODEC_OPUS:
        return agreed.format.fmtp
    offered = agreed.format.parameters
    asked = {"minptime": offered.get("minptime", "10"), "useinbandfec": "1"}
    if policy is not None:
        if not policy.opus_stereo:
            asked |= {"stereo": "0", "sprop-stereo": "0"}
        elif offered.get("sprop-stereo") == "1":
            asked["stereo"] = "1"
        if not policy.opus_dtx:
            asked["usedtx"] = "0"
        if not policy.opus_fec:
            asked["useinbandfec"] = "0"
        if policy.opus_cbr:
            asked["cbr"] = "1"
        if policy.opus_bitrate:
            asked["maxaveragebitrate"] = str(policy.opus_bitrate)
    return ";".join(f"{name}={value}" for name, value in asked.items())


def source_fits(source: Source, kind: str) -> bool:
    """Whether an m-section of this kind can carry the source."""
    if source is Source.SCREEN:
        return True
    if source is Source.VITALS:
        return False
    return (source in (Source.STETHOSCOPE, Source.MICROPHONE)) == (kind == "audio")
