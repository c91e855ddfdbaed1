"""Session descriptions (RFC 8866) as WebRTC uses them (RFC 9429): text to facts, with errors that name the line.

Only what a server needs is understood; other lines are kept by their name and otherwise passed over, as RFC 8866,
section 5, asks. Every size is bounded, and whatever is wrong with the text comes out as `OfferError` alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sized
from dataclasses import dataclass, field
from typing import Final

MAX_BYTES: Final = 256 * 1024
MAX_LINES: Final = 8192
MAX_LINE: Final = 8192
MAX_MEDIA: Final = 64
MAX_LISTED: Final = 256  # formats, extensions, ssrcs, candidates ... of one m-line

DIRECTIONS: Final = ("sendrecv", "sendonly", "recvonly", "inactive")
SETUPS: Final = ("actpass", "active", "passive", "holdconn")

TOKEN: Final = re.compile(r"[!#$%&'*+\-.0-9A-Z^_`a-z{|}~]+")
ICE_CHARS: Final = re.compile(r"[\x21-\x39\x3b-\x7e]+")  # wider than RFC 8839: some clients use "-" and "="
FINGERPRINT: Final = re.compile(r"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2})*")


class OfferError(Exception):
    """An offer that cannot be served. `line` is "line 12: a=…", or "" where no single line is to blame.

    `code`: bad-sdp (not to be understood), too-large, unsupported (understood, but this server cannot do it),
    unknown-mid, unknown-track, not-allowed.
    """

    def __init__(self, code: str, message: str, line: str = "") -> None:
        super().__init__(f"{message} ({line})" if line else message)
        self.code = code
        self.message = message
        self.line = line


@dataclass(slots=True, frozen=True)
class Line:
    """One line of a description: its number from 1, its type letter and the value behind the "="."""

    number: int
    type: str
    value: str

    def __str__(self) -> str:
        text = f"{self.type}={self.value}"
        return f"line {self.number}: {text if len(text) <= 200 else text[:200] + '…'}"


@dataclass(slots=True)
class Format:
    """One payload type: its rtpmap, and its fmtp and rtcp-fb as they stand."""

    payload_type: int
    name: str
    clock_rate: int
    channels: int
    line: Line
    fmtp: str = ""
    feedback: list[str] = field(default_factory=list)

    @property
    def parameters(self) -> dict[str, str]:
        """The fmtp as name (lower case) to value; a parameter without "=" has the value ""."""
        found = {}
        for part in self.fmtp.split(";"):
            name, _, value = part.strip().partition("=")
            if name:
                found[name.strip().lower()] = value.strip()
        return found


@dataclass(slots=True, frozen=True)
class Extension:
    """One extmap line (RFC 8285): its id, 1 to 255, its direction ("" is sendrecv) and its URI."""

    id: int
    direction: str
    uri: str


@dataclass(slots=True, frozen=True)
class Candidate:
    """An ICE candidate (RFC 8839, section 5.1); `address` may be a name (mDNS)."""

    foundation: str
    component: int
    transport: str
    priority: int
    address: str
    port: int
    type: str


@dataclass(slots=True)
class Transport:
    """What may stand at the session's level and at an m-line's alike."""

    ufrag: str = ""
    pwd: str = ""
    fingerprints: list[tuple[str, str]] = field(default_factory=list)
    setup: str = ""
    ice_options: tuple[str, ...] = ()

    def inherit(self, session: Transport) -> None:
        """Take from the session's level what the m-section does not say itself."""
        if not self.ufrag:
            self.ufrag, self.pwd = session.ufrag, session.pwd
        self.fingerprints = self.fingerprints or list(session.fingerprints)
        self.setup = self.setup or session.setup
        self.ice_options = self.ice_options or session.ice_options


@dataclass(slots=True)
class Media:
    """One m-section. `formats` holds the payload types that have an rtpmap, in the order of the m-line."""

    line: Line
    index: int
    kind: str
    port: int
    protocol: str
    fmt: tuple[str, ...]
    transport: Transport = field(default_factory=Transport)
    mid: str = ""
    direction: str = "sendrecv"
    rtcp_mux: bool = False
    rtcp_rsize: bool = False
    bundle_only: bool = False
    allow_mixed: bool = False
    end_of_candidates: bool = False
    formats: dict[int, Format] = field(default_factory=dict)
    extensions: list[Extension] = field(default_factory=list)
    ssrcs: dict[int, dict[str, str]] = field(default_factory=dict)
    ssrc_groups: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)
    msids: list[str] = field(default_factory=list)
    rids: dict[str, str] = field(default_factory=dict)
    simulcast: str = ""
    candidates: list[Candidate] = field(default_factory=list)
    others: dict[str, str] = field(default_factory=dict)

    @property
    def rejected(self) -> bool:
        """Port 0 without bundle-only: not wanted, or recycled later (RFC 9429, section 5.2.2)."""
        return self.port == 0 and not self.bundle_only

    @property
    def sends(self) -> bool:
        return self.direction in ("sendrecv", "sendonly")

    @property
    def receives(self) -> bool:
        return self.direction in ("sendrecv", "recvonly")

    def primary_ssrcs(self) -> list[int]:
        """The sources of media: neither retransmission (RFC 4588, FID) nor repair (FEC-FR), in their order."""
        repairs = {s for meaning, group in self.ssrc_groups if meaning in ("FID", "FEC-FR") for s in group[1:]}
        return [ssrc for ssrc in self.ssrcs if ssrc not in repairs]

    def rtx_ssrc(self, ssrc: int) -> int:
        """The source of the retransmissions of `ssrc`, 0 when none is named."""
        for meaning, group in self.ssrc_groups:
            if meaning == "FID" and len(group) == 2 and group[0] == ssrc:
                return group[1]
        return 0


@dataclass(slots=True)
class Description:
    """A whole session description."""

    origin: str = ""
    transport: Transport = field(default_factory=Transport)
    ice_lite: bool = False
    allow_mixed: bool = False
    groups: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    others: dict[str, str] = field(default_factory=dict)
    media: list[Media] = field(default_factory=list)

    @property
    def bundle(self) -> tuple[str, ...]:
        """The mids of the first BUNDLE group (RFC 8843)."""
        return next((mids for meaning, mids in self.groups if meaning == "BUNDLE"), ())


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
            _attribute(description, None, line)
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
        return _candidate(value)
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
            _attribute(None, media, line)
    order = {int(f): at for at, f in enumerate(media.fmt) if f.isdecimal()}
    media.formats = {
        number: media.formats[number]
        for number in sorted(media.formats, key=lambda n: order.get(n, MAX_LISTED))
        if number in order
    }
    for line in late:
        _format_line(media, line)
    media.transport.inherit(session.transport)
    return media


def _media_line(line: Line, index: int) -> Media:
    parts = line.value.split()
    if len(parts) < 3:
        raise OfferError("bad-sdp", "an m-line has a medium, a port, a protocol and formats", str(line))
    kind, port, protocol, *fmt = parts
    port_text = port.partition("/")[0]
    try:
        number = _number(port_text, 0, 65535, "a port")
        if len(fmt) > MAX_LISTED:
            raise ValueError(f"more than {MAX_LISTED} formats")
        if "RTP/" in protocol:
            for one in fmt:
                _number(one, 0, 127, "a payload type")
    except ValueError as error:
        raise OfferError("bad-sdp", str(error), str(line)) from None
    return Media(line, index, kind, number, protocol, tuple(fmt))


def _check_mids(description: Description) -> None:
    seen = set()
    for media in description.media:
        if media.mid and media.mid in seen:
            raise OfferError("bad-sdp", f"the mid {media.mid!r} stands twice", str(media.line))
        seen.add(media.mid)


# Attributes: tables from the name to what reads the value. A ValueError becomes an OfferError that names the line.


def _attribute(session: Description | None, media: Media | None, line: Line) -> None:
    name, _, value = line.value.partition(":")
    transport = media.transport if media is not None else session.transport if session is not None else None
    assert transport is not None
    try:
        if name in _TRANSPORT:
            _TRANSPORT[name](transport, value)
        elif media is not None:
            reader = _MEDIA.get(name)
            if reader is not None:
                reader(media, value, line)
            elif len(media.others) < MAX_LISTED:
                media.others[name] = value
        elif session is not None:
            if name in _SESSION:
                _SESSION[name](session, value)
            elif len(session.others) < MAX_LISTED:
                session.others[name] = value
    except ValueError as error:
        raise OfferError("bad-sdp", str(error), str(line)) from None


def _number(text: str, least: int, most: int, what: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 10 and least <= int(text) <= most):
        raise ValueError(f"{what} is a number from {least} to {most}, not {text[:32]!r}")
    return int(text)


def _token(text: str, what: str, most: int = 64) -> str:
    if len(text) > most or not TOKEN.fullmatch(text):
        raise ValueError(f"{what} is a token of at most {most} characters, not {text[: most + 1]!r}")
    return text


def _room(listed: Sized, what: str) -> None:
    if len(listed) >= MAX_LISTED:
        raise ValueError(f"more than {MAX_LISTED} {what}")


def _ufrag(transport: Transport, value: str) -> None:
    if not 4 <= len(value) <= 256 or not ICE_CHARS.fullmatch(value):
        raise ValueError("an ice-ufrag has 4 to 256 ice-chars (RFC 8839, section 5.4)")
    transport.ufrag = value


def _pwd(transport: Transport, value: str) -> None:
    if not 22 <= len(value) <= 256 or not ICE_CHARS.fullmatch(value):
        raise ValueError("an ice-pwd has 22 to 256 ice-chars (RFC 8839, section 5.4)")
    transport.pwd = value


def _fingerprint(transport: Transport, value: str) -> None:
    algorithm, _, digest = value.partition(" ")
    if not TOKEN.fullmatch(algorithm) or not FINGERPRINT.fullmatch(digest):
        raise ValueError("a fingerprint is a hash function and pairs of hex digits between colons (RFC 8122)")
    _room(transport.fingerprints, "fingerprints")
    transport.fingerprints.append((algorithm.lower(), digest.upper()))


def _setup(transport: Transport, value: str) -> None:
    if value not in SETUPS:
        raise ValueError(f"setup is one of {', '.join(SETUPS)} (RFC 4145)")
    transport.setup = value


def _ice_options(transport: Transport, value: str) -> None:
    transport.ice_options = tuple(value.split()[:MAX_LISTED])


def _group(session: Description, value: str) -> None:
    meaning, *mids = value.split() or [""]
    if not meaning:
        raise ValueError("a group has a meaning (RFC 5888)")
    if len(mids) != len(set(mids)):
        raise ValueError("a mid stands twice in one group")
    _room(session.groups, "groups")
    session.groups.append((meaning, tuple(mids)))


def _session_ice_lite(session: Description, value: str) -> None:
    session.ice_lite = True


def _session_allow_mixed(session: Description, value: str) -> None:
    session.allow_mixed = True


def _mid(media: Media, value: str, line: Line) -> None:
    media.mid = _token(value, "a mid", 32)


def _rtpmap(media: Media, value: str, line: Line) -> None:
    number, _, encoding = value.partition(" ")
    payload_type = _number(number, 0, 127, "a payload type")
    name, *rest = encoding.strip().split("/")
    if not rest or len(rest) > 2:
        raise ValueError("an rtpmap is <payload type> <name>/<clock rate>[/<channels>]")
    clock_rate = _number(rest[0], 1, 2**31, "a clock rate")
    channels = _number(rest[1], 1, 255, "a number of channels") if len(rest) == 2 and rest[1] else 1
    if payload_type in media.formats:
        raise ValueError(f"payload type {payload_type} has two rtpmap lines")
    media.formats[payload_type] = Format(payload_type, _token(name, "an encoding name"), clock_rate, channels, line)


def _extmap(media: Media, value: str, line: Line) -> None:
    head, _, rest = value.partition(" ")
    number, _, direction = head.partition("/")
    uri = rest.strip().partition(" ")[0]
    if direction and direction not in DIRECTIONS:
        raise ValueError(f"the direction of an extmap is one of {', '.join(DIRECTIONS)}")
    if not uri:
        raise ValueError("an extmap is <id>[/<direction>] <URI> (RFC 8285)")
    identifier = _number(number, 1, 4351, "an extension id")  # from 4096 on: more offered than ids (section 7)
    if identifier > 255 or identifier == 15:
        return
    if any(extension.id == identifier for extension in media.extensions):
        raise ValueError(f"the extension id {identifier} stands twice")
    _room(media.extensions, "extensions")
    media.extensions.append(Extension(identifier, direction, uri))


def _ssrc(media: Media, value: str, line: Line) -> None:
    number, _, attribute = value.partition(" ")
    ssrc = _number(number, 0, 2**32 - 1, "an SSRC")
    if ssrc not in media.ssrcs:
        _room(media.ssrcs, "SSRCs")
    name, _, text = attribute.partition(":")
    facts = media.ssrcs.setdefault(ssrc, {})
    _room(facts, "attributes of one SSRC")
    facts[name] = text


def _ssrc_group(media: Media, value: str, line: Line) -> None:
    meaning, *numbers = value.split() or [""]
    if not meaning:
        raise ValueError("an ssrc-group has a meaning (RFC 5576)")
    _room(media.ssrc_groups, "SSRC groups")
    _room(numbers, "SSRCs")
    media.ssrc_groups.append((meaning, tuple(_number(one, 0, 2**32 - 1, "an SSRC") for one in numbers)))


def _msid(media: Media, value: str, line: Line) -> None:
    _room(media.msids, "msids")
    media.msids.append(value)


def _rid(media: Media, value: str, line: Line) -> None:
    name, _, rest = value.partition(" ")
    _room(media.rids, "rids")
    media.rids[_token(name, "a rid", 255)] = rest


def _simulcast(media: Media, value: str, line: Line) -> None:
    media.simulcast = value


def _add_candidate(media: Media, value: str, line: Line) -> None:
    _room(media.candidates, "candidates")
    media.candidates.append(_candidate(value))


def _candidate(value: str) -> Candidate:
    parts = value.split()
    if len(parts) < 8 or parts[6] != "typ":
        raise ValueError("a candidate has a foundation, component, transport, priority, address, port and type")
    foundation, component, transport, priority, address, port, _, kind = parts[:8]
    if len(foundation) > 32 or len(address) > 255:
        raise ValueError("a candidate's foundation or address is too long")
    return Candidate(
        foundation,
        _number(component, 1, 256, "a component"),
        transport.lower(),
        _number(priority, 0, 2**32 - 1, "a priority"),
        address,
        _number(port, 0, 65535, "a port"),
        kind,
    )


def _flag(name: str) -> Callable[[Media, str, Line], None]:
    def read(media: Media, value: str, line: Line) -> None:
        setattr(media, name, True)

    return read


def _direction(direction: str) -> Callable[[Media, str, Line], None]:
    def read(media: Media, value: str, line: Line) -> None:
        media.direction = direction

    return read


def _format_line(media: Media, line: Line) -> None:
    """An fmtp or rtcp-fb line. One for a payload type without an rtpmap is passed over."""
    name, _, value = line.value.partition(":")
    number, _, text = value.partition(" ")
    try:
        if name == "rtcp-fb" and number == "*":
            formats = list(media.formats.values())
        else:
            payload_type = _number(number, 0, 127, "a payload type")
            formats = [media.formats[payload_type]] if payload_type in media.formats else []
        for one in formats:
            if name == "fmtp":
                one.fmtp = text.strip()
            else:
                _room(one.feedback, "rtcp-fb lines of one payload type")
                one.feedback.append(" ".join(text.split()))
    except ValueError as error:
        raise OfferError("bad-sdp", str(error), str(line)) from None


_TRANSPORT: Final[dict[str, Callable[[Transport, str], None]]] = {
    "ice-ufrag": _ufrag,
    "ice-pwd": _pwd,
    "ice-options": _ice_options,
    "fingerprint": _fingerprint,
    "setup": _setup,
}
_SESSION: Final[dict[str, Callable[[Description, str], None]]] = {
    "group": _group,
    "ice-lite": _session_ice_lite,
    "extmap-allow-mixed": _session_allow_mixed,
}
_MEDIA: Final[dict[str, Callable[[Media, str, Line], None]]] = {
    "mid": _mid,
    "rtpmap": _rtpmap,
    "extmap": _extmap,
    "ssrc": _ssrc,
    "ssrc-group": _ssrc_group,
    "msid": _msid,
    "rid": _rid,
    "simulcast": _simulcast,
    "candidate": _add_candidate,
    "rtcp-mux": _flag("rtcp_mux"),
    "rtcp-rsize": _flag("rtcp_rsize"),
    "bundle-only": _flag("bundle_only"),
    "extmap-allow-mixed": _flag("allow_mixed"),
    "end-of-candidates": _flag("end_of_candidates"),
    **{direction: _direction(direction) for direction in DIRECTIONS},
}
