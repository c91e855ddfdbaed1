"""An export in a process of its own, so that it takes no time from consultations and can be stopped at any moment.

    python -m mediaserver.recording.export.work OUT FORMAT <order

It inherits the files that the order (`Order`, as JSON) speaks of, and is told their keys by the pipe alone. Prints its
progress as lines of JSON: `{"progress": 0.25}`, and at the end `{"sha256": ..., "bytes": ...}` or `{"error": ...}`. It
ends when nobody reads them any more.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import msgspec

from mediaserver.recording.export.join import ExportError, Format, join
from mediaserver.recording.export.media import playable
from mediaserver.recording.manifest import Manifest, Segment
from mediaserver.recording.storage import ReaderFile
from mediaserver.recording.storage.face import Opening

NICE = 10


class Line(msgspec.Struct, omit_defaults=True):
    """What the process says. `progress` is a share of 1."""

    progress: float = 0.0
    sha256: str = ""
    bytes: int = 0
    error: str = ""


class Order(msgspec.Struct, frozen=True):
    """What is to be exported: the manifest, and by name the files, whose descriptors are this process's until
    `close`."""

    manifest: Manifest
    files: dict[str, Opening]

    @classmethod
    def of(cls, manifest: Manifest, opener: Callable[[Segment], Opening]) -> Order:
        """Raises OSError."""
        order = cls(manifest, {})
        try:
            for segment in [segment for track in manifest.tracks for segment in playable(track)]:
                order.files[segment.file] = opener(segment)
        except BaseException:
            order.close()
            raise
        return order

    def fetch(self, folder: Path, segment: Segment) -> Path | ReaderFile:
        """As `Storage.fetch`, in the process that was handed it."""
        return self.files[segment.file].open()

    def close(self) -> None:
        for opening in self.files.values():
            os.close(opening.fd)
        self.files.clear()


def tell(line: Line) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


class _Progress:
    """Tells each hundredth once."""

    def __init__(self) -> None:
        self._told = 0

    def __call__(self, share: float) -> None:
        if int(share * 100) > self._told:
            self._told = int(share * 100)
            tell(Line(progress=self._told / 100))


def work(order: Order, out: Path, container: Format) -> Line:
    """Make the file, and give its last line."""

    try:
        join(out.parent, order.manifest, out, container, _Progress(), source=order)
        with out.open("rb") as made:
            digest = hashlib.file_digest(made, "sha256").hexdigest()
        return Line(progress=1.0, sha256=digest, bytes=out.stat().st_size)
    except (ExportError, ValueError) as error:
        return Line(error=str(error))
    except OSError as error:
        return Line(error=f"{error.strerror or error}")
    finally:
        order.close()


def main() -> None:
    os.nice(NICE)
    out, container = sys.argv[1:]
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    tell(work(order, Path(out), cast(Format, container)))


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        os._exit(1)
