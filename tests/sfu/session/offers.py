"""Small offers for tests: no more lines than a test needs to be read."""

from __future__ import annotations

from dataclasses import dataclass

from tests.sfu.session.harness import identity

MID = "urn:ietf:params:rtp-hdrext:sdes:mid"
TWCC = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
H264 = "H264/90000 packetization-mode=1;profile-level-id=42e01f"
VP8 = "VP8/90000"
OPUS = "opus/48000/2 minptime=10;useinbandfec=1"


@dataclass
class Line:
    """An m-line; `extra` are more lines of it. `codecs` are "<rtpmap> <fmtp>"; their payload types go from 96 (video,
    each with its RTX) or 111 (audio)."""

    kind: str = "video"
    direction: str = "sendonly"
    codecs: tuple[str, ...] = ()
    mid: str = ""
    ssrc: int = 0
    port: int = 9
    extra: str = ""

    def text(self, mid: str) -> list[str]:
        codecs = self.codecs or ((VP8, H264) if self.kind == "video" else (OPUS,))
        first = 96 if self.kind == "video" else 111
        types = [str(n) for n in range(first, first + len(codecs) * (2 if self.kind == "video" else 1))]
        lines = [f"m={self.kind} {self.port} UDP/TLS/RTP/SAVPF {' '.join(types)}", "c=IN IP4 0.0.0.0"]
        lines += [f"a=mid:{mid}", f"a={self.direction}", "a=rtcp-mux", f"a=extmap:4 {MID}", f"a=extmap:5 {TWCC}"]
        for at, codec in enumerate(codecs):
            rtpmap, _, fmtp = codec.partition(" ")
            number = first + at * (2 if self.kind == "video" else 1)
            lines += [f"a=rtpmap:{number} {rtpmap}", f"a=rtcp-fb:{number} transport-cc"]
            if fmtp:
                lines.append(f"a=fmtp:{number} {fmtp}")
            if self.kind == "video":
                lines += [f"a=rtcp-fb:{number} nack", f"a=rtcp-fb:{number} nack pli"]
                lines += [f"a=rtpmap:{number + 1} rtx/90000", f"a=fmtp:{number + 1} apt={number}"]
        if self.ssrc:
            lines.append(f"a=ssrc:{self.ssrc} cname:x")
        return [*lines, *self.extra.splitlines()]


def video(direction: str = "sendonly", *codecs: str, **more: object) -> Line:
    return Line("video", direction, codecs, **more)  # type: ignore[arg-type]


def audio(direction: str = "sendonly", *codecs: str, **more: object) -> Line:
    return Line("audio", direction, codecs, **more)  # type: ignore[arg-type]


def make_offer(
    *lines: Line,
    ufrag: str = "cafe",
    session: int = 1,
    client: int = 1,
    setup: str = "actpass",
    extra: str = "",
) -> str:
    """An offer of these m-lines; mids are "0", "1" ... unless a line has its own. `client` chooses the certificate."""
    mids = [line.mid or str(at) for at, line in enumerate(lines)]
    bundled = [mid for mid, line in zip(mids, lines, strict=True) if line.port]
    text = ["v=0", f"o=- {session} 2 IN IP4 127.0.0.1", "s=-", "t=0 0", f"a=group:BUNDLE {' '.join(bundled)}"]
    text += [f"a=ice-ufrag:{ufrag}", "a=ice-pwd:0123456789abcdefghijkl", f"a=setup:{setup}"]
    text.append(f"a=fingerprint:sha-256 {identity(client).fingerprint}")
    text += extra.splitlines()
    for mid, line in zip(mids, lines, strict=True):
        text += line.text(mid)
    return "\r\n".join([*text, ""])
