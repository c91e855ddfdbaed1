"""The swarm's session descriptions: offers written by hand, and as much of an answer as it needs to be read.

Written as a browser would, so that a server can't tell the difference where it matters: BUNDLE, rtcp-mux, one SSRC
pair for each m-line that sends, retransmission offered for each video codec.
"""

from __future__ import annotations

import secrets
from typing import Literal

import msgspec

EXTENSIONS: dict[str, int] = {
    "urn:ietf:params:rtp-hdrext:sdes:mid": 1,
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01": 2,
    "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time": 3,
}
"""What the swarm offers, with its own ids."""

_VIDEO_FEEDBACK = ("transport-cc", "ccm fir", "nack", "nack pli")
_AUDIO_FEEDBACK = ("transport-cc",)


class OfferedCodec(msgspec.Struct, frozen=True):
    name: str
    payload_type: int
    rtx_type: int = 0
    clock_rate: int = 90_000
    channels: int = 0
    fmtp: str = ""


H264 = OfferedCodec("H264", 102, 103, fmtp="level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f")
VP8 = OfferedCodec("VP8", 96, 97)
AV1 = OfferedCodec("AV1", 45, 46, fmtp="level-idx=5;profile=0;tier=0")
OPUS = OfferedCodec("opus", 111, clock_rate=48_000, channels=2, fmtp="minptime=10;useinbandfec=1")
CODECS = {codec.name: codec for codec in (H264, VP8, AV1, OPUS)}

Direction = Literal["sendonly", "recvonly"]


class Section(msgspec.Struct, frozen=True):
    """One m-line of an offer. SSRCs are for those that send."""

    mid: str
    kind: Literal["audio", "video"]
    direction: Direction
    codecs: tuple[OfferedCodec, ...]
    ssrc: int = 0
    rtx_ssrc: int = 0


class Credentials(msgspec.Struct, frozen=True):
    ufrag: str
    password: str

    @classmethod
    def make(cls) -> Credentials:
        """Fresh ones, longer than RFC 8839 (section 5.4) asks for."""
        return cls(secrets.token_hex(4), secrets.token_hex(12))


class AnsweredSection(msgspec.Struct, frozen=True):
    """One m-line of an answer. `codecs` maps payload types to upper-case names, `apt` those of RTX to what they repeat;
    `extensions` maps ids to URIs; `ssrcs` are in the order of their lines, `repairs` maps a media SSRC to its RTX."""

    mid: str
    kind: str
    accepted: bool
    direction: str
    payload_types: tuple[int, ...]
    codecs: dict[int, str]
    apt: dict[int, int]
    extensions: dict[int, str]
    ssrcs: tuple[int, ...]
    repairs: dict[int, int]


class Answer(msgspec.Struct, frozen=True):
    ufrag: str
    password: str
    fingerprint: str
    setup: str
    candidates: tuple[tuple[str, int], ...]
    """UDP host candidates, best first."""
    sections: tuple[AnsweredSection, ...]


class AnswerError(ValueError):
    """The answer lacks something that a session needs."""


def write_offer(sections: list[Section], credentials: Credentials, fingerprint: str, cname: str = "swarm") -> str:
    lines = [
        "v=0",
        f"o=- {secrets.randbits(62)} 2 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        f"a=group:BUNDLE {' '.join(section.mid for section in sections)}",
        "a=msid-semantic: WMS *",
    ]
    for section in sections:
        lines += _write_section(section, credentials, fingerprint, cname)
    return "\r\n".join(lines) + "\r\n"


def _write_section(section: Section, credentials: Credentials, fingerprint: str, cname: str) -> list[str]:
    types = [number for codec in section.codecs for number in (codec.payload_type, codec.rtx_type) if number]
    lines = [
        f"m={section.kind} 9 UDP/TLS/RTP/SAVPF {' '.join(map(str, types))}",
        "c=IN IP4 0.0.0.0",
        "a=rtcp:9 IN IP4 0.0.0.0",
        f"a=ice-ufrag:{credentials.ufrag}",
        f"a=ice-pwd:{credentials.password}",
        "a=ice-options:trickle",
        f"a=fingerprint:sha-256 {fingerprint}",
        "a=setup:actpass",
        f"a=mid:{section.mid}",
        *(f"a=extmap:{number} {uri}" for uri, number in EXTENSIONS.items()),
        f"a={section.direction}",
        "a=rtcp-mux",
    ]
    for codec in section.codecs:
        lines += _write_codec(section.kind, codec)
    if section.direction == "sendonly":
        lines.append(f"a=msid:{cname} {cname}-{section.mid}")
        if section.rtx_ssrc:
            lines.append(f"a=ssrc-group:FID {section.ssrc} {section.rtx_ssrc}")
        lines += [f"a=ssrc:{ssrc} cname:{cname}" for ssrc in (section.ssrc, section.rtx_ssrc) if ssrc]
    return lines


def _write_codec(kind: str, codec: OfferedCodec) -> list[str]:
    number = codec.payload_type
    channels = f"/{codec.channels}" if codec.channels else ""
    lines = [f"a=rtpmap:{number} {codec.name}/{codec.clock_rate}{channels}"]
    feedback = _VIDEO_FEEDBACK if kind == "video" else _AUDIO_FEEDBACK
    lines += [f"a=rtcp-fb:{number} {item}" for item in feedback]
    if codec.fmtp:
        lines.append(f"a=fmtp:{number} {codec.fmtp}")
    if codec.rtx_type:
        lines += [f"a=rtpmap:{codec.rtx_type} rtx/{codec.clock_rate}", f"a=fmtp:{codec.rtx_type} apt={number}"]
    return lines


def read_answer(sdp: str) -> Answer:
    """Raises `AnswerError`."""
    lines = [line.strip() for line in sdp.splitlines() if "=" in line]
    starts = [number for number, line in enumerate(lines) if line.startswith("m=")]
    if not starts:
        raise AnswerError("the answer has no m-line")
    session = lines[: starts[0]]
    blocks = [lines[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)]
    sections = tuple(_read_section(block, number) for number, block in enumerate(blocks))
    # With BUNDLE the transport is that of the first accepted m-line (RFC 9143, section 7.2).
    first = next((block for block, section in zip(blocks, sections, strict=True) if section.accepted), None)
    if first is None:
        raise AnswerError("the answer accepts no m-line")
    transport = [*first, *session]
    fingerprints = [value.split() for value in _values(transport, "fingerprint")]
    digest = next((parts[1] for parts in fingerprints if len(parts) == 2 and parts[0].lower() == "sha-256"), "")
    answer = Answer(
        ufrag=_first(transport, "ice-ufrag"),
        password=_first(transport, "ice-pwd"),
        fingerprint=digest,
        setup=_first(transport, "setup"),
        candidates=_candidates(transport),
        sections=sections,
    )
    for name in ("ufrag", "password", "fingerprint", "candidates"):
        if not getattr(answer, name):
            raise AnswerError(f"the answer has no {name} that can be used")
    return answer


def _values(lines: list[str], name: str) -> list[str]:
    return [line[len(name) + 3 :] for line in lines if line.startswith(f"a={name}:")]


def _first(lines: list[str], name: str) -> str:
    return next(iter(_values(lines, name)), "")


def _candidates(lines: list[str]) -> tuple[tuple[str, int], ...]:
    found = []
    for value in _values(lines, "candidate"):
        # foundation component transport priority address port "typ" type (RFC 8839, section 5.1)
        parts = value.split()
        if len(parts) >= 8 and parts[1] == "1" and parts[2].lower() == "udp" and parts[7] == "host":
            found.append((int(parts[3]), parts[4], int(parts[5])))
    return tuple((address, port) for _, address, port in sorted(found, reverse=True))


def _read_section(lines: list[str], number: int) -> AnsweredSection:
    kind, port, _, *types = lines[0][2:].split()
    codecs, apt, extensions = {}, {}, {}
    for value in _values(lines, "rtpmap"):
        payload_type, _, encoding = value.partition(" ")
        codecs[int(payload_type)] = encoding.split("/")[0].upper()
    for value in _values(lines, "fmtp"):
        payload_type, _, parameters = value.partition(" ")
        for parameter in parameters.split(";"):
            name, _, setting = parameter.strip().partition("=")
            if name == "apt" and setting.isdigit():
                apt[int(payload_type)] = int(setting)
    for value in _values(lines, "extmap"):
        ext_id, _, uri = value.partition(" ")
        extensions[int(ext_id.split("/")[0])] = uri.split()[0]
    groups = [value.split() for value in _values(lines, "ssrc-group")]
    repairs = {int(group[1]): int(group[2]) for group in groups if group[0] == "FID" and len(group) == 3}
    ssrcs = dict.fromkeys(int(value.split()[0]) for value in _values(lines, "ssrc"))
    directions = ("sendrecv", "sendonly", "recvonly", "inactive")
    return AnsweredSection(
        mid=_first(lines, "mid") or str(number),
        kind=kind,
        accepted=port != "0",
        direction=next((name for name in directions if f"a={name}" in lines), "sendrecv"),
        payload_types=tuple(int(text) for text in types if text.isdigit()),
        codecs=codecs,
        apt=apt,
        extensions=extensions,
        ssrcs=tuple(ssrc for ssrc in ssrcs if ssrc not in repairs.values()),
        repairs=repairs,
    )
