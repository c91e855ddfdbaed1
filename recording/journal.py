"""The journal of a recording in progress: what happened, one JSON object a line, synced with the media.

Everything that the manifest will say is folded from these lines (`ledger`), while recording and after a crash
alike. A line about media is written only after the media itself is on the disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from mediaserver.recording.keys import SigningKey, Trust, TrustedKeys
from mediaserver.recording.manifest import Content

NAME = "journal.jsonl"
VERSION = 1
LONGEST_LINE = 1 << 20
"""Bytes; no line that is written comes near it."""


class Record(msgspec.Struct, frozen=True, tag_field="what", omit_defaults=False):
    """One line. `track` is the track's id; times are Unix times in µs."""


class Begun(Record, frozen=True, tag="begun"):
    version: int
    software: str
    id: str
    room: str
    started_us: int


class Joined(Record, frozen=True, tag="participant"):
    id: str
    name: str
    role: str
    at_us: int


class Added(Record, frozen=True, tag="track"):
    track: str
    source: str
    kind: str
    codec: str
    label: str
    participant: str


class Payloads(Record, frozen=True, tag="payloads"):
    """How the track's payload types are to be read: each with its codec and clock rate."""

    track: str
    payloads: list[tuple[int, int, int]]


class Opened(Record, frozen=True, tag="open"):
    """A file was begun; `header` is the size of what stands in it. `stream` counts the track's SSRCs from 0."""

    track: str
    file: str
    container: str
    codec: str
    clock_rate: int
    stream: int
    ssrc: int
    width: int
    height: int
    first_rtp: int
    reason: str
    header: int
    first_sequence: int = 0
    """Of a file of packets: the extended number of the first."""


class Written(Record, frozen=True, tag="fragment"):
    """A fragment is on disk. `time` and `duration` are in RTP units from the file's start. The media of
    `rtp` arrived at `arrived_us`, quicker than any other of this fragment."""

    track: str
    file: str
    size: int
    time: int
    duration: int
    units: int
    keyframes: int
    keyframe: bool
    rtp: int
    arrived_us: int
    sha256: str = ""
    """Of the file up to here."""
    sequence: int = 0
    """Extended number of the last packet that is in it."""


class Reported(Record, frozen=True, tag="report"):
    """A sender report: RTP timestamp (unwrapped), the publisher's clock, our clock."""

    track: str
    stream: int
    rtp: int
    ntp_us: int
    wall_us: int


class Lost(Record, frozen=True, tag="gap"):
    """A gap; fields as in `manifest.Gap`. A later line with the same track and `number` replaces it. `to_us` is 0 while
    a gap for want of consent goes on."""

    track: str
    number: int
    cause: str
    ssrc: int
    first: int
    last: int
    packets: int
    skipped: int
    from_us: int
    to_us: int


class Noted(Record, frozen=True, tag="note"):
    track: str
    at_us: int
    text: str


class Ruled(Record, frozen=True, tag="rule"):
    """Whose tracks may go in from now on; fields as in `manifest.ConsentRule`."""

    whose: str
    withdrawal: str
    version: str
    text: str
    from_us: int


class Consented(Record, frozen=True, tag="consent"):
    """A participant's consent, refusal or withdrawal; fields as in `manifest.ConsentFact`."""

    participant: str
    state: str
    by: str
    witness: str
    version: str
    at_us: int
    erase: bool
    sources: list[str] | msgspec.UnsetType = msgspec.UNSET


class Admitted(Record, frozen=True, tag="admit"):
    """What is recorded of the track from now on is so with consent, whatever was withdrawn before."""

    track: str
    at_us: int


class Closed(Record, frozen=True, tag="close"):
    """Nothing more comes to this file; it is about to be completed."""

    track: str
    file: str


class Dropped(Record, frozen=True, tag="drop"):
    """What the file holds is elsewhere by now: it goes."""

    track: str
    file: str


class Sealed(Record, frozen=True, tag="sealed"):
    """The file is complete and will not change any more. Without media (`bytes` is 0) it is gone."""

    track: str
    file: str
    bytes: int
    sha256: str
    link: str = ""
    """Of the chain over the recording's files (`chain`)."""
    content: Content | msgspec.UnsetType = msgspec.UNSET


class Head(Record, frozen=True, tag="head"):
    """The end of what was written at once, where the recorder signs. `sha256` is that of the journal's first `bytes`
    bytes, all before this line; the signature is over `head_text`, in hexadecimal."""

    bytes: int
    sha256: str
    key: str
    signature: str


class Ended(Record, frozen=True, tag="end"):
    ended_us: int


AnyRecord = (
    Begun
    | Joined
    | Added
    | Payloads
    | Opened
    | Written
    | Reported
    | Lost
    | Noted
    | Ruled
    | Consented
    | Admitted
    | Closed
    | Dropped
    | Sealed
    | Ended
    | Head
)

ALTERED = "the journal was altered before the recording was closed"
"""How the note of a recovery begins that has found so."""
_HEAD = b'{"what":"head",'
_decoder = msgspec.json.Decoder(AnyRecord)


def encode(record: Record) -> bytes:
    return msgspec.json.encode(record) + b"\n"


class Reading:
    """The records of a journal, one after the other, up to the first line that is torn or not understood. However long
    it is, one line is held at a time."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.is_whole = True
        """Nothing was left unread so far: at the end, whether all of it was understood."""

    def __iter__(self) -> Iterator[AnyRecord]:
        for line in _lines(self._stream):
            try:
                if not line.endswith(b"\n"):
                    raise ValueError("the line is torn")
                record = _decoder.decode(line)
            except ValueError:  # a `msgspec.MsgspecError` and a `UnicodeDecodeError` are such
                self.is_whole = False
                return
            yield record


def read(path: Path) -> Iterator[AnyRecord]:
    """As far as it is understood. Raises OSError."""
    with path.open("rb") as stream:
        yield from Reading(stream)


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    """What is longer than any line that is written comes in pieces."""
    while line := stream.readline(LONGEST_LINE):
        yield line


def head_text(recording: str, size: int, sha256: str) -> bytes:
    """What the signature of a head is over."""
    return f"mediaserver journal {recording} {size} {sha256}\n".encode()


def sign_head(recording: str, size: int, sha256: str, signer: SigningKey) -> Head:
    return Head(size, sha256, signer.id, signer.sign(head_text(recording, size, sha256)).hex())


def check(stream: BinaryIO, recording: str, trusted: TrustedKeys) -> str:
    """What is wrong with a journal by its signed heads, in words; empty when nothing is. What stands behind the last
    head was on its way to the disk when the recorder died, and nothing vouches for it."""
    digest = hashlib.sha256()
    offset, heads = 0, 0
    for line in _lines(stream):
        if line.startswith(_HEAD):
            heads += 1
            if wrong := _check_head(line, recording, offset, digest.hexdigest(), trusted):
                return f"head {heads} {wrong}"
        digest.update(line)
        offset += len(line)
    return "" if heads else "no head of it is signed"


def behind_head(stream: BinaryIO) -> int:
    """How many whole lines stand behind the last head, where there is one."""
    count, head = 0, 0
    for line in _lines(stream):
        count += line.endswith(b"\n")
        if line.startswith(_HEAD) and line.endswith(b"\n"):
            head = count
    return count - head if head else 0


def _check_head(line: bytes, recording: str, offset: int, sha256: str, trusted: TrustedKeys) -> str:
    try:
        head = _decoder.decode(line)
        signature = bytes.fromhex(head.signature) if isinstance(head, Head) else b""
    except (msgspec.MsgspecError, ValueError):
        return "can't be read"
    if not isinstance(head, Head) or (head.bytes, head.sha256) != (offset, sha256):
        return "is not over what stands before it"
    match trusted.check(head.key, signature, head_text(recording, offset, sha256)):
        case Trust.GOOD:
            return ""
        case Trust.UNKNOWN:
            return f"is signed by {head.key}, which is not trusted"
        case Trust.BAD:
            return f"is not what {head.key} has signed"
