"""The journal of a recording in progress: what happened, one JSON object a line, synced with the media.

Everything that the manifest will say is folded from these lines (`ledger`), while recording and after a crash
alike. A line about media is written only after the media itself is on the disk.
"""

from __future__ import annotations

import msgspec

from mediaserver.recording.manifest import Content

NAME = "journal.jsonl"
VERSION = 1


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
    """A gap; fields as in `manifest.Gap`. A later line with the same track and `number` replaces it."""

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


class Ended(Record, frozen=True, tag="end"):
    ended_us: int


AnyRecord = (
    Begun | Joined | Added | Payloads | Opened | Written | Reported | Lost | Noted | Closed | Dropped | Sealed | Ended
)

_decoder = msgspec.json.Decoder(AnyRecord)


def encode(record: Record) -> bytes:
    return msgspec.json.encode(record) + b"\n"


def decode(data: bytes) -> list[AnyRecord]:
    """The whole lines of a journal, up to the first that is torn or not understood."""
    records: list[AnyRecord] = []
    for line in data.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        try:
            records.append(_decoder.decode(line))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            break
    return records
