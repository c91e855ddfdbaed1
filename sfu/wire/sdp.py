"""Session descriptions (RFC 8866) as WebRTC uses them (RFC 9429): text to facts, with errors that name the line.

Only what a server needs is understood; other lines are kept by their name and otherwise passed over, as RFC 8866,
section 5, asks. Every size is bounded, and whatever is wrong with the text comes out as `OfferError` alone.
"""

from __future__ import annotations

from typing import Final

from mediaserver.sfu.wire import sdp_attributes as attributes
from mediaserver.sfu.wire.sdp_model import (
    DIRECTIONS,
    MAX_LISTED,
    Candidate,
    Description,
    Extension,
    Format,
    Line,
    Media,
    OfferError,
    Transport,
)

__all__ = [
    "DIRECTIONS",
    "Candidate",
    "Description",
    "Extension",
    "Format",
    "Line",
    "Media",
    "OfferError",
    "Transport",
    "parse",
    "parse_candidate",
]

MAX_BYTES: Final = 256 * 1024
MAX_LINES: Final = 8192
MAX_LINE: Final = 8192
MAX_MEDIA: Final = 64


def parse(text: str, *, max_bytes: int = MAX_BYTES, max_media: int = MAX_MEDIA) -> Description:
    """Read a description; `OfferError` for anything that is not one, with the line."""
    lines = _split(text, max_bytes)
    description = Description()
    sections = [at for at, line in enumerate(lines) if line.type == "m"]
    if len(sections) > max_media:
        raise OfferError("too-large", f"more than {max_media} m-lines", str(lines[sections[max_media]]))
    head = lines[: sections[0]] if sections else lines
    if not head or head[0].type != "v" or head[0].value != "0":
        raise OfferError("bad-sdp", "a session description starts with v=0", str(lines[0]) if lines else "")
    for line in head:
        if line.type == "o":
            description.origin = line.value
        elif line.type == "a":
            attributes.read_session(description, line)
    ends = [*sections[1:], len(lines)]
    for start, end in zip(sections, ends, strict=False):
        description.media.append(_section(lines[start:end], description, len(description.media)))
    _check_mids(description)
    return description


def parse_candidate(text: str) -> Candidate:
    """A candidate as trickle ICE brings it, with or without "a=" and "candidate:"."""
    line = Line(1, "a", text.removeprefix("a=")[:MAX_LINE])
    value = line.value.removeprefix("candidate:")
    try:
        return attributes.read_candidate(value)
    except ValueError as error:
        raise OfferError("bad-sdp", str(error), str(line)) from None


def _split(text: str, max_bytes: int) -> list[Line]:
    if len(text) > max_bytes:
        raise OfferError("too-large", f"the description has more than {max_bytes} bytes")
    # Only CR LF and LF end a line; str.splitlines would also split at form feeds and Unicode separators.
    texts = text.split("\n")
    if len(texts) > MAX_LINES:
        raise OfferError("too-large", f"the description has more than {MAX_LINES} lines")
    lines = []
    for number, raw in enumerate(texts, 1):
        stripped = raw.rstrip("\r \t")
        if not stripped:
            continue
        line = Line(number, stripped[0], stripped[2:])
        if len(stripped) > MAX_LINE:
            raise OfferError("too-large", f"longer than {MAX_LINE} characters", str(line))
        if stripped[1:2] != "=" or "\r" in stripped or "\0" in stripped:
            raise OfferError("bad-sdp", "not of the form <letter>=<value>", f"line {number}: {stripped[:200]!r}")
        lines.append(line)
    if not lines:
        raise OfferError("bad-sdp", "the description is empty")
    return lines


def _section(lines: list[Line], session: Description, index: int) -> Media:
    media = _media_line(lines[0], index)
    late = []  # lines about a payload type, which may stand before its rtpmap
    for line in lines[1:]:
        if line.type != "a":
            continue
        if line.value.startswith(("fmtp:", "rtcp-fb:")):
            late.append(line)
        else:
            attributes.read_media(media, line)
    order = {int(f): at for at, f in enumerate(media.fmt) if f.isdecimal()}
    media.formats = {
        number: media.formats[number]
        for number in sorted(media.formats, key=lambda n: order.get(n, MAX_LISTED))
        if number in order
    }
    for line in late:
        attributes.read_format(media, line)
    media.transport.inherit(session.transport)
    return media


def _media_line(line: Line, index: int) -> Media:
    parts = line.value.split()
    if len(parts) < 3:
        raise OfferError("bad-sdp", "an m-line has a medium, a port, a protocol and formats", str(line))
    kind, port, protocol, *fmt = parts
    port_text = port.partition("/")[0]
    try:
        number = attributes.read_number(port_text, 0, 65535, "a port")
        if len(fmt) > MAX_LISTED:
            raise ValueError(f"more than {MAX_LISTED} formats")
        if "RTP/" in protocol:
            for one in fmt:
                attributes.read_number(one, 0, 127, "a payload type")
    except ValueError as error:
        raise OfferError("bad-sdp", str(error), str(line)) from None
    return Media(line, index, kind, number, protocol, tuple(fmt))


def _check_mids(description: Description) -> None:
    seen = set()
    for media in description.media:
        if media.mid and media.mid in seen:
            raise OfferError("bad-sdp", f"the mid {media.mid!r} stands twice", str(media.line))
        seen.add(media.mid)
