"""The attributes of session descriptions: tables from the name to what reads the value.

A reader raises `ValueError` for a value that is not right; `read_session`, `read_media` and `read_format` make of
it an `OfferError` that names the line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sized
from typing import Final

from mediaserver.sfu.wire.sdp_model import (
    DIRECTIONS,
    MAX_LISTED,
    SETUPS,
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

TOKEN: Final = re.compile(r"[!#$%&'*+\-.0-9A-Z^_`a-z{|}~]+")
ICE_CHARS: Final = re.compile(r"[\x21-\x39\x3b-\x7e]+")  # wider than RFC 8839: some clients use "-" and "="
FINGERPRINT: Final = re.compile(r"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2})*")


def read_session(session: Description, line: Line) -> None:
    """An attribute before the first m-line."""
    name, _, value = line.value.partition(":")
    try:
        if name in _TRANSPORT:
            _TRANSPORT[name](session.transport, value)
        elif name in _SESSION:
            _SESSION[name](session, value)
        elif len(session.others) < MAX_LISTED:
            session.others[name] = value
    except ValueError as error:
        raise OfferError("bad-sdp", str(error), str(line)) from None


def read_media(media: Media, line: Line) -> None:
    """An attribute of an m-section, but for what `read_codecs` and `read_format` read."""
    name, _, value = line.value.partition(":")
    try:
        if name in _TRANSPORT:
            _TRANSPORT[name](media.transport, value)
        elif name in _MEDIA:
            _MEDIA[name](media, value, line)
        elif len(media.others) < MAX_LISTED:
            media.others[name] = value
    except ValueError as error:
        raise OfferError("bad-sdp", str(error), str(line)) from None


def read_codecs(codecs: Codecs, line: Line) -> None:
    """An rtpmap or an extmap."""
    name, _, value = line.value.partition(":")
    try:
        (_rtpmap if name == "rtpmap" else _extmap)(codecs, value)
    except ValueError as error:
        raise OfferError("bad-sdp", str(error), str(line)) from None


def read_number(text: str, least: int, most: int, what: str) -> int:
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


def _rtpmap(codecs: Codecs, value: str) -> None:
    number, _, encoding = value.partition(" ")
    payload_type = read_number(number, 0, 127, "a payload type")
    name, *rest = encoding.strip().split("/")
    if not rest or len(rest) > 2:
        raise ValueError("an rtpmap is <payload type> <name>/<clock rate>[/<channels>]")
    clock_rate = read_number(rest[0], 1, 2**31, "a clock rate")
    channels = read_number(rest[1], 1, 255, "a number of channels") if len(rest) == 2 and rest[1] else 1
    if payload_type in codecs.formats:
        raise ValueError(f"payload type {payload_type} has two rtpmap lines")
    codecs.formats[payload_type] = Format(payload_type, _token(name, "an encoding name"), clock_rate, channels)


def _extmap(codecs: Codecs, value: str) -> None:
    head, _, rest = value.partition(" ")
    number, _, direction = head.partition("/")
    uri = rest.strip().partition(" ")[0]
    if direction and direction not in DIRECTIONS:
        raise ValueError(f"the direction of an extmap is one of {', '.join(DIRECTIONS)}")
    if not uri:
        raise ValueError("an extmap is <id>[/<direction>] <URI> (RFC 8285)")
    identifier = read_number(number, 1, 4351, "an extension id")  # from 4096 on: more offered than ids (section 7)
    if identifier > 255 or identifier == 15:
        return
    if any(extension.id == identifier for extension in codecs.extensions):
        raise ValueError(f"the extension id {identifier} stands twice")
    _room(codecs.extensions, "extensions")
    codecs.extensions.append(Extension(identifier, direction, uri))


def _ssrc(media: Media, value: str, line: Line) -> None:
    number, _, attribute = value.partition(" ")
    ssrc = read_number(number, 0, 2**32 - 1, "an SSRC")
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
    media.ssrc_groups.append((meaning, tuple(read_number(one, 0, 2**32 - 1, "an SSRC") for one in numbers)))


def _msid(media: Media, value: str, line: Line) -> None:
    _room(media.msids, "msids")
    media.msids.append(value)


def _rid(media: Media, value: str, line: Line) -> None:
    name, _, rest = value.partition(" ")
    _room(media.rids, "rids")
    media.rids[_token(name, "a rid", 255)] = rest


def _simulcast(media: Media, value: str, line: Line) -> None:
    media.simulcast = value


def _candidate(media: Media, value: str, line: Line) -> None:
    _room(media.candidates, "candidates")
    media.candidates.append(read_candidate(value))


def read_candidate(value: str) -> Candidate:
    parts = value.split()
    if len(parts) < 8 or parts[6] != "typ":
        raise ValueError("a candidate has a foundation, component, transport, priority, address, port and type")
    foundation, component, transport, priority, address, port, _, kind = parts[:8]
    if len(foundation) > 32 or len(address) > 255:
        raise ValueError("a candidate's foundation or address is too long")
    return Candidate(
        foundation,
        read_number(component, 1, 256, "a component"),
        transport.lower(),
        read_number(priority, 0, 2**32 - 1, "a priority"),
        address,
        read_number(port, 0, 65535, "a port"),
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


def read_format(codecs: Codecs, line: Line) -> None:
    """An fmtp or rtcp-fb line. One for a payload type without an rtpmap is passed over."""
    name, _, value = line.value.partition(":")
    number, _, text = value.partition(" ")
    try:
        if name == "rtcp-fb" and number == "*":
            formats = list(codecs.formats.values())
        else:
            payload_type = read_number(number, 0, 127, "a payload type")
            formats = [codecs.formats[payload_type]] if payload_type in codecs.formats else []
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
    "ssrc": _ssrc,
    "ssrc-group": _ssrc_group,
    "msid": _msid,
    "rid": _rid,
    "simulcast": _simulcast,
    "candidate": _candidate,
    "rtcp-mux": _flag("rtcp_mux"),
    "rtcp-rsize": _flag("rtcp_rsize"),
    "bundle-only": _flag("bundle_only"),
    "extmap-allow-mixed": _flag("allow_mixed"),
    "end-of-candidates": _flag("end_of_candidates"),
    **{direction: _direction(direction) for direction in DIRECTIONS},
}
