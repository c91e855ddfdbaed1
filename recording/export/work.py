"""An export in a process of its own, so that it takes no time from consultations and can be stopped at any moment.

    python -m mediaserver.recording.export.work FOLDER OUT FORMAT

Prints its progress as lines of JSON: `{"progress": 0.25}`, and at the end `{"sha256": ..., "bytes": ...}` or
`{"error": ...}`. It ends when nobody reads them any more.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import cast

import msgspec

from mediaserver.recording import manifest
from mediaserver.recording.export.join import ExportError, Format, join

NICE = 10


class Line(msgspec.Struct, omit_defaults=True):
    """What the process says. `progress` is a share of 1."""

    progress: float = 0.0
    sha256: str = ""
    bytes: int = 0
    error: str = ""


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


def work(folder: Path, out: Path, container: Format) -> Line:
    """Make the file, and give its last line."""
    try:
        kept = manifest.decode((folder / manifest.NAME).read_bytes())
        join(folder, kept, out, container, _Progress())
        with out.open("rb") as made:
            digest = hashlib.file_digest(made, "sha256").hexdigest()
        return Line(progress=1.0, sha256=digest, bytes=out.stat().st_size)
    except (ExportError, ValueError) as error:
        return Line(error=str(error))
    except OSError as error:
        return Line(error=f"{error.strerror or error}")


def main() -> None:
    os.nice(NICE)
    folder, out, container = sys.argv[1:]
    tell(work(Path(folder), Path(out), cast(Format, container)))


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        os._exit(1)
