"""What the recorder is given: its settings and who is recorded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from mediaserver.sfu.stream.params import PayloadParams

if TYPE_CHECKING:
    from mediaserver.sfu.stream.tap import TapEntry

IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What a track's or recording's identifier may look like: it becomes part of a file name."""

DICOM_OUTBOX = "dicom-outbox"
"""The folder beside the archive where a recording's objects wait until every PACS has them."""


class Ring(Protocol):
    """The consumer's face of `mediaserver.sfu.stream.tap.TapRing`. Packets stand in the order of their arrival."""

    @property
    def dropped(self) -> int:
        """Packets that did not fit."""

    @property
    def closed(self) -> bool:
        """The tap is gone and everything was read."""

    @property
    def backlog(self) -> int: ...

    @property
    def awaited(self) -> int:
        """The lowest extended number that the publisher is still asked for, 0: none. To be observed before `read`,
        which then gives what has come of those below."""

    def read(self, limit: int) -> list[TapEntry]: ...


class RecordingSettings(msgspec.Struct, frozen=True):
    """Settings of the recorder; times in µs.

    What a crash can cost is at most `fragment_us + poll_us` and the time of one write; where a missing packet is waited
    for, `reorder_us + fragment_us + poll_us` and that time.
    """

    folder: Path
    """The archive's root; recordings go to <folder>/<yyyy>/<mm>/<dd>/<recording id>/."""
    fragment_us: int = 800_000
    """A fragment is written and synced when it is this long; at most one second."""
    reorder_us: int = 600_000
    """How long a missing packet is waited for before it becomes a gap, when the publisher is not asked for it."""
    repair_us: int = 6_000_000
    """The same when it is: longer than the data plane asks, so that its word decides and this is for none alone."""
    poll_us: int = 50_000
    """How often the writer looks into the rings."""
    read_limit: int = 512
    """Packets taken from one ring at once, so that one track never starves another."""
    keyframe_every_us: int = 10_000_000
    """A keyframe is asked for when none has come for so long: a player can seek no finer. 0: never."""
    segment_us: int = 0
    """A file that is so long ends at the next keyframe, and another goes on: a file can leave for another store only
    when it has ended. 0: never."""
    retry_us: int = 500_000
    """How often a write that failed is tried again."""
    patience_us: int = 10_000_000
    """How long a recording that is being stopped tries a disk that refuses."""
    hold_bytes: int = 64 << 20
    """What a recording may hold in memory while the disk refuses; beyond it that becomes a gap."""


class ParticipantMeta(msgspec.Struct, frozen=True):
    """A participant as the manifest names it."""

    id: str
    name: str = ""
    role: str = ""


class TrackMeta(msgspec.Struct, frozen=True):
    """A track to record. `codec` is the name of the codec now in use, where known ("H264"); what counts is
    `payloads`, which says how each payload type is to be read."""

    id: str
    source: str
    kind: str
    payloads: tuple[PayloadParams, ...]
    codec: str = ""
    label: str = ""
    participant: str = ""

    def __post_init__(self) -> None:
        if not IDENTIFIER.fullmatch(self.id):
            raise ValueError(f"a track's id must match {IDENTIFIER.pattern}: {self.id!r}")
        if self.kind not in ("audio", "video"):
            raise ValueError(f"a track is audio or video, not {self.kind!r}")
