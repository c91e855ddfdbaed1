"""Disposes of a recording, or places a hold, in copies of an archive, one after the other, and is killed in each at
another step: before the first change of the disk, before the second, until nothing is left to be killed at. For
`test_retention`.

Prints the exit statuses as JSON. Each try is a fork, so that the libraries are loaded once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from mediaserver.recording.keys import read_private
from mediaserver.recording.storage import LocalStorage
from tests.recording import feed
from tests.recording.test_retention import Kept

CALLS = ("rename", "unlink", "fsync", "fdatasync", "pwrite", "ftruncate")


def killed_at(step: int) -> None:
    """From now on count what changes the disk."""
    count = 0

    def counted(call: Any) -> Any:
        def counting(*arguments: Any, **named: Any) -> Any:
            nonlocal count
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **named)

        return counting

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))


def act(root: Path, key: Path, name: str, kind: str, step: int, action: str) -> None:
    kept = Kept(root, LocalStorage(root, feed.MASTERS if kind == "encrypted" else None))
    kept.key = read_private(key.read_text(), "key")

    async def work(kept: Kept) -> None:
        killed_at(step)
        if action == "hold":
            await kept.archive.place_hold(name, reason="a lawsuit", by="Eve", at_us=1)
            return
        report = await kept.dispose()
        assert [case.state for case in report.cases] == ["disposed"], (name, report)

    kept.run(work)


def main() -> None:
    folder, key, name, kind, action = Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]
    statuses: list[int] = []
    while not statuses or statuses[-1]:
        step = len(statuses) + 1
        root = folder / str(step)
        shutil.copytree(folder / "0", root)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                act(root, key, name, kind, step, action)
                status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        if status not in (0, signal.SIGKILL):
            raise SystemExit(f"step {step} ended with {status}")
        statuses.append(status)
    print(json.dumps(statuses))


if __name__ == "__main__":
    main()
