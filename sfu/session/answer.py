"""The text of an answer (RFC 9429, section 5.3): ICE-lite, one bundled transport, what was agreed on each m-line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mediaserver.sfu.session.ice import Credentials, candidate_lines, connection_line
from mediaserver.sfu.session.negotiate import CCFB, Agreed, AgreedExtension, answer_fmtp
from mediaserver.sfu.session.settings import SourcePolicy
from mediaserver.sfu.session.simulcast import Encoding, answer_lines
from mediaserver.sfu.stream.params import Address
from mediaserver.sfu.wire.sdp import Description, Media

DIRECTIONS = {  # (we send, we receive)
    (True, True): "sendrecv",
    (True, False): "sendonly",
    (False, True): "recvonly",
    (False, False): "inactive",
}
MIRRORED = {"": "", "sendrecv": "/sendrecv", "sendonly": "/recvonly", "recvonly": "/sendonly"}
"""An extension's direction in the offer to that in the answer (RFC 8285, section 6)."""


@dataclass(slots=True)
class Sender:
    """What we send on an m-line: the stream and track ids that the viewer sees, and the sources."""

    stream: str
    track: str
    cname: str
    ssrc: int
    rtx_ssrc: int


@dataclass(slots=True)
class Section:
    """The answer to one m-section. `policy` is that of the source that the client publishes on it; `named`: feedback
    is by the packets' own numbers (RFC 8888)."""

    media: Media
    rejected: bool = False
    sends: bool = False
    receives: bool = False
    formats: Sequence[Agreed] = ()
    extensions: Sequence[AgreedExtension] = ()
    policy: SourcePolicy | None = None
    sender: Sender | None = None
    encodings: Sequence[Encoding] = ()
    named: bool = False


@dataclass(slots=True)
class Answer:
    """Everything that an answer says."""

    offer: Description
    session_id: int
    version: int
    credentials: Credentials
    fingerprint: str
    setup: str
    candidates: Sequence[Address]
    tcp_candidates: Sequence[Address] = ()
    sections: list[Section] = field(default_factory=list)

    def text(self) -> str:
        """The description, lines ending in CR LF."""
        bundled = [s for s in self.sections if not s.rejected]
        lines = ["v=0", f"o=- {self.session_id} {self.version} IN IP4 127.0.0.1", "s=-", "t=0 0"]
        if self.offer.bundle:
            mids = " ".join(section.media.mid for section in bundled if section.media.mid in self.offer.bundle)
            lines.append(f"a=group:BUNDLE {mids}".rstrip())
        if self.offer.allow_mixed:
            lines.append("a=extmap-allow-mixed")
        lines += ["a=msid-semantic: WMS *", "a=ice-lite"]
        for section in self.sections:
            if section.rejected:
                lines += self._rejected(section.media)
            else:
                lines += self._section(section)
        return "\r\n".join(lines) + "\r\n"

    def _rejected(self, media: Media) -> list[str]:
        lines = [f"m={media.kind} 0 {media.protocol} {' '.join(media.fmt)}".rstrip(), "c=IN IP4 0.0.0.0"]
        if media.mid:
            lines.append(f"a=mid:{media.mid}")
        return [*lines, "a=inactive"] if "RTP/" in media.protocol else lines

    def _section(self, section: Section) -> list[str]:
        media = section.media
        numbers = [n for one in section.formats for n in (one.payload_type, one.rtx_type) if n or n is one.payload_type]
        port = self.candidates[0][1] if self.candidates else 9
        lines = [
            f"m={media.kind} {port} {media.protocol} {' '.join(str(n) for n in dict.fromkeys(numbers))}",
            f"c={connection_line(self.candidates)}",
        ]
        # RFC 8843, section 9.3 asks for candidates in the tagged section alone. aiortc keeps those of a bundle's last
        # section and finds none then; browsers take the repetition.
        lines += [
            *(f"a={line}" for line in candidate_lines(self.candidates, self.tcp_candidates)),
            "a=end-of-candidates",
            f"a=ice-ufrag:{self.credentials.ufrag}",
            f"a=ice-pwd:{self.credentials.pwd}",
            f"a=fingerprint:sha-256 {self.fingerprint}",
            f"a=setup:{self.setup}",
        ]
        if media.mid:
            lines.append(f"a=mid:{media.mid}")
        if media.allow_mixed:
            lines.append("a=extmap-allow-mixed")
        lines += [f"a=extmap:{one.id}{MIRRORED[one.direction]} {one.uri}" for one in section.extensions]
        lines.append(f"a={DIRECTIONS[section.sends, section.receives]}")
        if section.sends and section.sender is not None:
            lines.append(f"a=msid:{section.sender.stream} {section.sender.track}")
        lines.append("a=rtcp-mux")
        if media.rtcp_rsize:
            lines.append("a=rtcp-rsize")
        for one in section.formats:
            lines += self._format(one, section.policy)
        if section.named:
            lines.append(f"a=rtcp-fb:* {CCFB}")
        lines += answer_lines(section.encodings)
        if section.sends and section.sender is not None and section.sender.ssrc:
            lines += self._sources(section.sender)
        return lines

    @staticmethod
    def _format(one: Agreed, policy: SourcePolicy | None) -> list[str]:
        offered = one.format
        channels = f"/{offered.channels}" if offered.channels > 1 else ""
        lines = [f"a=rtpmap:{offered.payload_type} {offered.name}/{offered.clock_rate}{channels}"]
        # RED has the feedback of the Opus inside, which is said there.
        named = [feedback for feedback in one.feedback if feedback in offered.feedback]
        lines += [f"a=rtcp-fb:{offered.payload_type} {feedback}" for feedback in named]
        fmtp = answer_fmtp(one, policy)
        if fmtp:
            lines.append(f"a=fmtp:{offered.payload_type} {fmtp}")
        if one.rtx is not None:
            lines.append(f"a=rtpmap:{one.rtx_type} {one.rtx.name}/{one.rtx.clock_rate}")
            lines.append(f"a=fmtp:{one.rtx_type} {one.rtx.fmtp}")
        return lines

    @staticmethod
    def _sources(sender: Sender) -> list[str]:
        sources = [sender.ssrc, sender.rtx_ssrc] if sender.rtx_ssrc else [sender.ssrc]
        lines = [f"a=ssrc-group:FID {sources[0]} {sources[1]}"] if len(sources) == 2 else []
        for ssrc in sources:
            lines.append(f"a=ssrc:{ssrc} cname:{sender.cname}")
            lines.append(f"a=ssrc:{ssrc} msid:{sender.stream} {sender.track}")
        return lines
