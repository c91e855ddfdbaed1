"""A recording as one zip that explains and checks itself: all its files, and a page that verifies them.

Nothing is deflated, since media don't shrink, so any part can be read in place. The zip is written from front to end
in pieces: memory stays bounded, and `stream` need not be a file.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import BinaryIO

import msgspec

from mediaserver.recording import journal
from mediaserver.recording.export.media import PLAIN, Files
from mediaserver.recording.export.progress import ExportError
from mediaserver.recording.manifest import Manifest, Segment
from mediaserver.recording.storage import LocalReader, Reader, keys
from mediaserver.recording.storage.sealed import MAGIC, BytesReader

PAGE = "verify.html"
PIECE = 1 << 20


def bundle(
    folder: Path,
    manifest: Manifest,
    stream: BinaryIO,
    progress: Callable[[float], None] = lambda share: None,
    storage: Files = PLAIN,
) -> list[str]:
    """Write the zip. Gives the names of media files that are not as the manifest says: they are in it all the same.
    `storage` is where the files lie; what is encrypted there is in the clear in the zip.

    Raises `ExportError` and OSError.
    """
    media = {segment.file: segment for track in manifest.tracks for segment in track.segments}
    names = _names(folder, media, storage)
    altered = []
    when = datetime.fromtimestamp(max(manifest.ended_us, manifest.started_us) // 1_000_000, UTC).timetuple()[:6]
    total = max(1, sum(_facts(segment)[0] for segment in media.values()))
    done = 0
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED, allowZip64=True) as target:
        for name in names:
            segment = media.get(name)
            source = storage.media(folder, segment) if segment else _small(folder / name, storage)
            entry = _entry(f"{manifest.id}/{name}", source.size, when)
            digest = hashlib.sha256()
            with closing(source), target.open(entry, "w", force_zip64=entry.file_size >= 1 << 31) as inner:
                for offset in range(0, source.size, PIECE):
                    piece = source.read(PIECE, offset)
                    inner.write(piece)
                    digest.update(piece)
                    done += len(piece) if segment else 0
                    progress(min(1.0, done / total))
            if segment and _facts(segment)[1] != digest.hexdigest():
                altered.append(name)
        page = resources.files(__package__).joinpath(PAGE).read_bytes()
        target.writestr(_entry(f"{manifest.id}/{PAGE}", len(page), when), page)
    return altered


def _facts(segment: Segment) -> tuple[int, str]:
    """Size and SHA-256 of a media file in the clear."""
    content = segment.content
    return (segment.bytes, segment.sha256) if content is msgspec.UNSET else (content.bytes, content.sha256)


def _names(folder: Path, media: Mapping[str, Segment], storage: Files) -> Sequence[str]:
    """All files of the recording, those that explain it first."""
    missing = [name for name, segment in media.items() if not _is_there(folder, segment, storage)]
    if missing:
        raise ExportError(f"the recording has lost {', '.join(sorted(missing))}: see what `archive verify` says")
    small = {path.name for path in folder.iterdir() if path.is_file() and not path.is_symlink()}
    # A name with a dot in front is one that is being written. In the clear nothing needs a key.
    kept = {name for name in small if name not in (journal.NAME, PAGE, keys.NAME) and not name.startswith(".")}
    return sorted(kept | media.keys(), key=lambda name: (not name.endswith(".json"), name))


def _small(path: Path, storage: Files) -> Reader:
    """Nobody says how large it is, unless it is sealed: then it was sealed as a whole."""
    with path.open("rb") as stream:
        is_sealed = stream.read(len(MAGIC)) == MAGIC
    return BytesReader(storage.read(path)) if is_sealed else LocalReader(path)


def _is_there(folder: Path, segment: Segment, storage: Files) -> bool:
    if (folder / segment.file).is_symlink():
        return False
    try:
        storage.stored(folder, segment).close()
    except FileNotFoundError:
        return False
    return True


def _entry(name: str, size: int, when: tuple[int, ...]) -> zipfile.ZipInfo:
    year, month, day, hour, minute, second = when
    entry = zipfile.ZipInfo(name, (max(1980, year), month, day, hour, minute, second))
    entry.external_attr = 0o644 << 16
    entry.file_size = size
    return entry
