"""A storage with a bucket, driven by a test: in virtual time, on its own thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mediaserver.recording.storage.keys import MasterKeys
from mediaserver.recording.storage.remote import S3Storage
from mediaserver.recording.storage.s3 import S3Settings
from tests.recording.feed import WALL_START

PATIENCE = 1000


class Driven(S3Storage):
    """Sends when it is told to. `now` is virtual, in µs."""

    def __init__(
        self, root: Path, settings: S3Settings, masters: MasterKeys | None = None, *, days: float = 0, **others: Any
    ) -> None:
        self.now = 0
        self.troubles: list[str] = []
        super().__init__(
            root,
            settings,
            masters,
            monotonic=lambda: self.now,
            wall=lambda: WALL_START + self.now + 3_600_000_000,
            local_days=days,
            on_trouble=self.troubles.append,
            **others,
        )

    def drain(self) -> None:
        """Until nothing waits any more."""
        for _ in range(PATIENCE):
            while self.uploader.step():
                pass
            if not self.uploader.backlog().files:
                return
            self.now += 1_000_000
        raise AssertionError(f"still waiting: {self.uploader.backlog()}, {self.troubles}")

    def settle(self) -> int:
        """Send everything, then let go of what need not be here; gives the bytes that were let go of."""
        freed = self.sweep()
        self.drain()
        return freed + self.sweep()
