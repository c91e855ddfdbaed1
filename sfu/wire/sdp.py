"""Session descriptions (RFC 8866) as WebRTC uses them (RFC 9429): text to facts, with errors that name the line.

Only what a server needs is understood; other lines are kept by their name and otherwise passed over, as RFC 8866,
section 5, asks. Every size is bounded, and whatever is wrong with the text comes out as `OfferError` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from mediaserver.sfu.wire import sdp_attributes as attributes
from mediaserver.sfu.wire.sdp_model import (
    DIRECTIONS,
    MAX_LISTED,
    Candidate,
    Codecs,
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

CODEC_LINES: Final = ("a=rtpmap:", "a=fmtp:", "a=rtcp-fb:", "a=extmap:")
"""What a browser says of its codecs is most of its offers, and the same in each of them."""
KEPT: Final = 128
KEPT_BYTES: Final = 16 * 1024
"""So many of such blocks are kept, the last used, and none that is longer."""


def parse(text: str, *, max_bytes: int = MAX_BYTES, max_media: int = MAX_MEDIA) -> Description:
    """Read a description; `OfferError` for anything that is not one, with the line."""
    lines = _split(text, max_bytes)
    description = Description()
    sections = [at for at, line in enumerate(lines) if line.startswith("m=")]
    if len(sections) > max_media:
        raise OfferError("too-large", f"more than {max_media} m-lines", str(_line(lines, sections[max_media])))
    ends = [*sections, len(lines)]
    head = [_line(lines, at) for at in range(ends[0]) if lines[at]]
    if not head or head[0].type != "v" or head[0].value != "0":
        first = next(at for at, line in enumerate(lines) if line)
        raise OfferError("bad-sdp", "a session description starts with v=0", str(_line(lines, first)))
    for line in head:
        if line.type == "o":
            description.origin = line.value
        elif line.type == "a":
            attributes.read_session(description, line)
    for start, end in pairwise(ends):
        description.media.append(_section(lines, start, end, description))
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


def _line(lines: Sequence[str], at: int) -> Line:
    return Line(at + 1, lines[at][:1], lines[at][2:])


def _split(text: str, max_bytes: int) -> list[str]:
    """The lines; one that is empty is none, and stands there for the numbers of those behind it."""
    if len(text) > max_bytes:
        raise OfferError("too-large", f"the description has more than {max_bytes} bytes")
    # Only CR LF and LF end a line; str.splitlines would also split at form feeds and Unicode separators.
    texts = text.split("\n")
    if len(texts) > MAX_LINES:
        raise OfferError("too-large", f"the description has more than {MAX_LINES} lines")
    lines = [raw.rstrip("\r \t") for raw in texts]
    together = "".join(lines)
    if not together:
        raise OfferError("bad-sdp", "the description is empty")
    odd = "\r" in together or "\0" in together
    for at, line in enumerate(lines):
        if line and (odd or line[1:2] != "=" or len(line) > MAX_LINE):
            _check_line(lines, at)
    return lines


def _check_line(lines: Sequence[str], at: int) -> None:
    line = lines[at]
    if len(line) > MAX_LINE:
        raise OfferError("too-large", f"longer than {MAX_LINE} characters", str(_line(lines, at)))
    if line[1:2] != "=" or "\r" in line or "\0" in line:
        raise OfferError("bad-sdp", "not of the form <letter>=<value>", f"line {at + 1}: {line[:200]!r}")


def _section(lines: Sequence[str], start: int, end: int, session: Description) -> Media:
    media = _media_line(_line(lines, start), len(session.media))
    codec_lines = []
    for at in range(start + 1, end):
        line = lines[at]
        if line.startswith(CODEC_LINES):
            codec_lines.append(at)
        elif line.startswith("a="):
            attributes.read_media(media, _line(lines, at))
    media.codecs = _codecs(media.fmt, lines, codec_lines)
    media.transport.inherit(session.transport)
    return media


_kept: dict[tuple[tuple[str, ...], str], Codecs] = {}


def _codecs(fmt: tuple[str, ...], lines: Sequence[str], codec_lines: Sequence[int]) -> Codecs:
    """What these lines say, or what they said when they were last read."""
    key = fmt, "\n".join([lines[at] for at in codec_lines])
    codecs = _kept.pop(key, None)
    if codecs is None:
        codecs = _read_codecs(fmt, [_line(lines, at) for at in codec_lines])
        if len(key[1]) > KEPT_BYTES:
            return codecs
        if len(_kept) >= KEPT:
            del _kept[next(iter(_kept))]
    _kept[key] = codecs  # behind those that were used before
    return codecs


def _read_codecs(fmt: tuple[str, ...], lines: Sequence[Line]) -> Codecs:
    codecs = Codecs()
    late = []  # lines about a payload type, which may stand before its rtpmap
    for line in lines:
        if line.value.startswith(("fmtp:", "rtcp-fb:")):
            late.append(line)
        else:
            attributes.read_codecs(codecs, line)
    order = {int(f): at for at, f in enumerate(fmt) if f.isdecimal()}
    codecs.formats = {
        number: codecs.formats[number]
        for number in sorted(codecs.formats, key=lambda n: order.get(n, MAX_LISTED))
        if number in order
    }
    for line in late:
        attributes.read_format(codecs, line)
    return codecs


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
