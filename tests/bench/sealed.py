"""What encryption at rest costs, in CPU time of one core.

python -m tests.bench.sealed
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from mediaserver.recording.storage import LocalReader, StoredFile
from mediaserver.recording.storage.sealed import SealedFile, SealedReader

FRAGMENTS = 380
RANGE = 256 * 1024


def cpu(work: Callable[[], object]) -> float:
    """Seconds."""
    started = time.process_time()
    work()
    return time.process_time() - started


def main() -> None:
    fragment, key = os.urandom(500_000), os.urandom(32)
    with tempfile.TemporaryDirectory() as name:
        sealed, plain = Path(name) / "sealed", Path(name) / "plain"
        growing, other = SealedFile(StoredFile(sealed), key, "r/a"), StoredFile(plain)

        def grow(file: SealedFile | StoredFile) -> None:
            for number in range(FRAGMENTS):
                file.write(fragment, number * len(fragment))

        writing, writing_plain = cpu(lambda: grow(growing)), cpu(lambda: grow(other))
        size = growing.size
        completing = cpu(lambda: growing.complete([], b"", size))
        larger = sealed.stat().st_size / size - 1
        opening = cpu(lambda: SealedReader(LocalReader(sealed), key, "r/a"))
        reader = SealedReader(LocalReader(sealed), key, "r/a")
        reading = cpu(lambda: [reader.read(RANGE, at) for at in range(0, size, RANGE)])
        print(f"{size / 1e6:.0f} MB: written sealed in {writing:.2f} s, plain in {writing_plain:.2f} s")
        print(f"completed in {completing:.2f} s, {larger:.2%} larger")
        print(f"opened in {opening * 1e3:.1f} ms, read at {size / reading / 1e6:.0f} MB/s")
        print(f"a range of {RANGE // 1024} KiB in {reading / (size / RANGE) * 1e3:.2f} ms")


if __name__ == "__main__":
    main()
