"""The archive's storage as the settings describe it, for the server and for `mediaserver archive`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from mediaserver import config
from mediaserver.clock import Clock
from mediaserver.config import ConfigError
from mediaserver.recording.storage import LocalStorage
from mediaserver.recording.storage.keys import KeysError, MasterKeys
from mediaserver.settings import Config, EncryptionSettings

if TYPE_CHECKING:
    from mediaserver.recording.storage.logs import LogCopy
    from mediaserver.recording.storage.remote import S3Storage

log = structlog.get_logger("mediaserver.storage")

SWEEP_SECONDS = 3600.0
"""How often all recordings are looked at: whether something was not sent, and what need not be here any more."""
LOGS_SECONDS = 60.0
"""How often the bucket gets what is new in the register and the audit trail."""


def make_storage(settings: Config, clock: Clock) -> LocalStorage:
    """Raises `ConfigError`."""
    root = Path(settings.data.dir) / "archive"
    masters = _masters(settings.encryption)
    if settings.storage.kind == "local":
        return LocalStorage(root, masters)
    return _s3(settings, clock, root, masters)


async def bring_logs_back(storage: LocalStorage, data: Path) -> None:
    """For a server whose data folder was lost: its register and its audit trail go on where the bucket has them."""
    try:
        for name in await asyncio.to_thread(storage.restore_logs, data):
            log.warning("there was none here, so it was brought back from the bucket", log=name)
    except OSError as error:
        log.error("whether the bucket has a register and an audit trail can't be said", reason=str(error))


class Sending:
    """Sends recordings while the server runs."""

    def __init__(self, storage: S3Storage, threads: int, logs: Sequence[LogCopy]) -> None:
        self.logs = logs
        self._storage = storage
        self._threads = threads
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self._storage.start(self._threads)
        self._tasks.append(asyncio.create_task(self._sweep(), name="storage sweep"))
        self._tasks += [asyncio.create_task(self._copy(one), name=f"copy of the {one.name}") for one in self.logs]

    async def close(self) -> None:
        """What is not up yet goes on at the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._storage.stop)

    async def _copy(self, copy: LogCopy) -> None:
        trouble = ""
        while True:
            try:
                await asyncio.to_thread(copy.send)
                if trouble:
                    log.info("the bucket has what is new in a log again", log=copy.name)
                trouble = ""
            except OSError as error:
                if str(error) != trouble:
                    log.error("the bucket does not get what is new in a log", log=copy.name, reason=str(error))
                trouble = str(error)
            await asyncio.sleep(LOGS_SECONDS)

    async def _sweep(self) -> None:
        with contextlib.suppress(OSError):  # the bucket's own rules drop them in the end
            await asyncio.to_thread(self._storage.clean)
        while True:
            try:
                freed = await asyncio.to_thread(self._storage.sweep)
                if freed:
                    log.info("media that are safe in the bucket were removed here", bytes=freed)
            except OSError as error:
                log.error("the archive could not be looked through", reason=str(error))
            await asyncio.sleep(SWEEP_SECONDS)


def _s3(settings: Config, clock: Clock, root: Path, masters: MasterKeys) -> S3Storage:
    try:
        from mediaserver.recording.storage.remote import S3Storage
        from mediaserver.recording.storage.s3 import S3Settings
    except ImportError as error:
        raise ConfigError(f'storage.kind is "s3", which needs {error.name}: pip install "mediaserver[s3]"') from None
    given = settings.storage
    return S3Storage(
        root,
        S3Settings(
            bucket=given.bucket,
            prefix=given.prefix,
            endpoint=given.endpoint,
            region=given.region,
            access_key=given.access_key,
            secret_key=given.secret_key,
            retention_days=given.retention_days,
            retention_mode=given.retention_mode,
            legal_hold=given.legal_hold,
        ),
        masters,
        monotonic=clock.monotonic_us,
        wall=clock.wall_us,
        local_days=given.local_days,
        cache_bytes=given.cache_mb * 1_000_000,
        on_trouble=_tell,
    )


def _tell(trouble: str) -> None:
    if trouble:
        log.error("recordings can't be sent to the bucket; they stay here and are tried again", reason=trouble)
    else:
        log.info("recordings go to the bucket again")


def _masters(settings: EncryptionSettings) -> MasterKeys:
    lines = [*settings.keys]
    if settings.keys_file:
        lines += config.read_text(settings.keys_file).splitlines()
    try:
        return MasterKeys.parse(settings.master, lines)
    except KeysError as error:
        raise ConfigError(f"encryption: {error}") from None
