"""A recording as one zip that explains and checks itself: all its files as they are, and a page that verifies them.

Nothing is deflated, since media don't shrink, so any part can be read in place. The zip is written from front to end
in pieces: memory stays bounded, and `stream` need not be a file.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import BinaryIO

from mediaserver.recording import journal
from mediaserver.recording.export.progress import ExportError
from mediaserver.recording.manifest import Manifest

PAGE = "verify.html"
PIECE = 1 << 20


def bundle(
    folder: Path, manifest: Manifest, stream: BinaryIO, progress: Callable[[float], None] = lambda share: None
) -> list[str]:
    """Write the zip. Gives the names of media files that are not as the manifest says: they are in it all the same.

    Raises `ExportError` and OSError.
    """
    paths = _paths(folder, manifest)
    known = {segment.file: segment.sha256 for track in manifest.tracks for segment in track.segments}
    altered = []
    when = datetime.fromtimestamp(max(manifest.ended_us, manifest.started_us) // 1_000_000, UTC).timetuple()[:6]
    total = max(1, sum(path.stat().st_size for path in paths))
    done = 0
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED, allowZip64=True) as target:
        for path in paths:
            entry = _entry(f"{manifest.id}/{path.name}", path.stat().st_size, when)
            digest = hashlib.sha256()
            with path.open("rb") as source, target.open(entry, "w", force_zip64=entry.file_size >= 1 << 31) as inner:
                while piece := source.read(PIECE):
                    inner.write(piece)
                    digest.update(piece)
                    done += len(piece)
                    progress(done / total)
            if known.get(path.name, digest.hexdigest()) != digest.hexdigest():
                altered.append(path.name)
        page = resources.files(__package__).joinpath(PAGE).read_bytes()
        target.writestr(_entry(f"{manifest.id}/{PAGE}", len(page), when), page)
    return altered


def _paths(folder: Path, manifest: Manifest) -> Sequence[Path]:
    """All files of the recording, the manifest first."""
    paths = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.is_symlink()]
    missing = {segment.file for track in manifest.tracks for segment in track.segments} - {path.name for path in paths}
    if missing:
        raise ExportError(f"the recording has lost {', '.join(sorted(missing))}: see what `archive verify` says")
    # A name with a dot in front is one that is being written.
    kept = [path for path in paths if path.name not in (journal.NAME, PAGE) and not path.name.startswith(".")]
    return sorted(kept, key=lambda path: path.suffix != ".json")


def _entry(name: str, size: int, when: tuple[int, ...]) -> zipfile.ZipInfo:
    year, month, day, hour, minute, second = when
    entry = zipfile.ZipInfo(name, (max(1980, year), month, day, hour, minute, second))
    entry.external_attr = 0o644 << 16
    entry.file_size = size
    return entry
