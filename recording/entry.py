"""What a track hands to the disk: a record for the journal and the bytes that must be on disk before it."""

from __future__ import annotations

from typing import NamedTuple

from mediaserver.recording.journal import AnyRecord


class Entry(NamedTuple):
    """`data` is a file's header for `Opened`, a fragment for `Written`, and empty for all others."""

    record: AnyRecord
    data: bytes = b""
