"""What a session description says, as plain types, and the error of one that cannot be served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

MAX_LISTED: Final = 256  # formats, extensions, SSRCs, candidates ... of one m-line
DIRECTIONS: Final = ("sendrecv", "sendonly", "recvonly", "inactive")
SETUPS: Final = ("actpass", "active", "passive", "holdconn")


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


@dataclass(slots=True, eq=False)
class Format:
    """One payload type: its rtpmap, and its fmtp and rtcp-fb as they stand. Descriptions share it: once it is read it
    is not changed."""

    payload_type: int
    name: str
    clock_rate: int
    channels: int
    fmtp: str = ""
    feedback: list[str] = field(default_factory=list)
    _parameters: dict[str, str] | None = None

    @property
    def parameters(self) -> Mapping[str, str]:
        """The fmtp as name (lower case) to value; a parameter without "=" has the value ""."""
        if self._parameters is None:
            self._parameters = _parameters(self.fmtp)
        return self._parameters


def _parameters(fmtp: str) -> dict[str, str]:
    found = {}
    for part in fmtp.split(";"):
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


@dataclass(slots=True, eq=False)
class Codecs:
    """What an m-section says of payload types and header extensions. Descriptions that say the same share it: once it
    is read it is not changed. `derived` is for what others work out from it alone, under keys of their own.

    `formats` holds the payload types that have an rtpmap, in the order of the m-line.
    """

    formats: dict[int, Format] = field(default_factory=dict)
    extensions: list[Extension] = field(default_factory=list)
    derived: dict[Any, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Media:
    """One m-section."""

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
    codecs: Codecs = field(default_factory=Codecs)
    ssrcs: dict[int, dict[str, str]] = field(default_factory=dict)
    ssrc_groups: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)
    msids: list[str] = field(default_factory=list)
    rids: dict[str, str] = field(default_factory=dict)
    simulcast: str = ""
    candidates: list[Candidate] = field(default_factory=list)
    others: dict[str, str] = field(default_factory=dict)

    @property
    def formats(self) -> Mapping[int, Format]:
        return self.codecs.formats

    @property
    def extensions(self) -> Sequence[Extension]:
        return self.codecs.extensions

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
