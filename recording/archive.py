"""The archive as one object: the folder, the catalog over it, and what is being recorded now.

On the event loop::

    archive = Archive(folder, live=recorder.recordings)
    await archive.open()         # migrates the catalog, closes what a crash left open, indexes what is missing
    await archive.index(id)      # after a recording's stop() future is done
    await archive.close()
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mediaserver.recording.recorder import Recording


class Archive:
    """Finds, shows, verifies and exports recordings below `folder`. No method blocks the event loop."""

    def __init__(self, folder: Path, *, live: Callable[[], Sequence[Recording]] = lambda: ()) -> None: ...

    async def open(self) -> None: ...

    async def index(self, recording: str) -> None: ...

    async def close(self) -> None: ...
