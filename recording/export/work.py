"""An export in a process of its own, so that it takes no time from consultations and can be stopped at any moment.

    python -m mediaserver.recording.export.work OUT <order

It inherits the files that the order (`Order`, as JSON) speaks of, and is told their keys by the pipe alone. Prints its
progress as lines of JSON: `{"progress": 0.25}`, and at the end `{"sha256": ..., "bytes": ...}` or `{"error": ...}`. It
ends when nobody reads them any more.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import msgspec

from mediaserver.recording.export import kinds
from mediaserver.recording.export.progress import ExportError, Progress
from mediaserver.recording.manifest import Manifest, Segment
from mediaserver.recording.storage import LocalReader, Reader, ReaderFile, Storage
from mediaserver.recording.storage.face import Opening
from mediaserver.recording.storage.sealed import MAGIC, SealedReader

NICE = 10


class Line(msgspec.Struct, omit_defaults=True):
    """What the process says. `progress` is a share of 1."""

    progress: float = 0.0
    sha256: str = ""
    bytes: int = 0
    error: str = ""
    warnings: list[str] = []


class Order(msgspec.Struct, frozen=True):
    """What is to be exported, and how: the manifest, by name the media files, whose descriptors are this process's
    until `close`, and in the clear the small files that are encrypted in the recording's folder. It serves as
    `media.Files`."""

    manifest: Manifest
    folder: Path
    kind: str
    options: dict[str, Any]
    files: dict[str, Opening]
    small: dict[str, bytes]

    @classmethod
    def of(
        cls, manifest: Manifest, storage: Storage, kind: str = "mkv", options: msgspec.Struct | None = None
    ) -> Order:
        """Raises OSError."""
        folder = _folder(storage, manifest.id)
        chosen = {} if options is None else msgspec.to_builtins(options)
        order = cls(manifest, folder, kind, chosen, {}, {})
        try:
            for segment in [segment for track in manifest.tracks for segment in track.segments]:
                order.files[segment.file] = storage.opening(folder, segment)
            for path in folder.iterdir():
                if path.suffix == ".json" and path.name not in order.files and _is_sealed(path):
                    order.small[path.name] = storage.read(path)
        except BaseException:
            order.close()
            raise
        return order

    def fetch(self, folder: Path, segment: Segment) -> Path | ReaderFile:
        """As `Storage.fetch`, in the process that was handed it."""
        return self.files[segment.file].open()

    def stored(self, folder: Path, segment: Segment) -> Reader:
        """As `Storage.stored`."""
        return LocalReader(Path(f"/proc/self/fd/{self.files[segment.file].fd}"))

    def media(self, folder: Path, segment: Segment) -> Reader:
        """As `Storage.media`."""
        opening = self.files[segment.file]
        stored = self.stored(folder, segment)
        return stored if opening.key is None else SealedReader(stored, opening.key, opening.name)

    def read(self, path: Path) -> bytes:
        """As `Storage.read`."""
        found = self.small.get(path.name)
        return path.read_bytes() if found is None else found

    def close(self) -> None:
        for opening in self.files.values():
            os.close(opening.fd)
        self.files.clear()


def _folder(storage: Storage, recording: str) -> Path:
    folder = storage.find(recording)
    if folder is None:
        raise FileNotFoundError(f"there is no recording {recording}")
    return folder


def _is_sealed(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC


def tell(line: Line) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


def work(order: Order, out: Path) -> Line:
    """Make the file, and give its last line."""
    try:
        kind = kinds.find(order.kind)
        options = msgspec.convert(order.options, kind.options)
        progress = Progress(lambda share: tell(Line(progress=share)))
        kinds.export(kind, order.folder, order.manifest, out, options, progress, order)
        with out.open("rb") as made:
            digest = hashlib.file_digest(made, "sha256").hexdigest()
        size = out.stat().st_size
        return Line(progress=1.0, sha256=digest, bytes=size, warnings=progress.warnings)
    except (ExportError, ValueError) as error:
        return Line(error=str(error))
    except OSError as error:
        return Line(error=f"{error.strerror or error}")
    finally:
        order.close()


def main() -> None:
    os.nice(NICE)
    (out,) = sys.argv[1:]
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order, dec_hook=_decoded)
    tell(work(order, Path(out)))


def encode(order: Order) -> bytes:
    """For the process's standard input."""
    return msgspec.json.encode(order, enc_hook=str)


def _decoded(kind: type, value: Any) -> Any:
    return kind(value)


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        os._exit(1)
