"""The decision that a recording goes, in its folder: `disposed.json`, all that is left of it in the end."""

from __future__ import annotations

from pathlib import Path

import msgspec

from mediaserver.recording import signed
from mediaserver.recording.storage.keys import DISPOSED
from mediaserver.recording.views import iso

VERSION = 1


class Decision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`disposed.json`. `manifest` is the SHA-256 of the manifest's bytes; `files` and `bytes` are the media."""

    version: int
    recording: str
    retention: str
    disposed_us: int
    by: str
    reason: str
    manifest: str
    files: int
    bytes: int
    key: str = ""
    signature: str = ""

    @property
    def words(self) -> str:
        return f"disposed of at {iso(self.disposed_us)} by {self.by}: {self.reason}"


def decode(data: bytes) -> Decision:
    """Raises ValueError."""
    return signed.decode(data, Decision, "a disposal", VERSION)


def read(folder: Path) -> Decision | None:
    """The decision that lies in a folder. Raises OSError and ValueError."""
    try:
        return decode((folder / DISPOSED).read_bytes())
    except FileNotFoundError:
        return None
