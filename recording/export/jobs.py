"""Exports that take a while: each is a process, few run at once, and their results go by themselves."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from mediaserver.recording.export import kinds
from mediaserver.recording.export.work import Line, Order, encode
from mediaserver.recording.views import iso

AT_ONCE = 2
MOST = 32
"""Jobs that are known at once: waiting, running, and with a result."""
KEEP_SECONDS = 3600.0
RESERVE_BYTES = 1 << 30
"""What an export leaves free on the disk, so that consultations go on being recorded."""

State = Literal["queued", "running", "done", "failed"]


JobKind = Literal["mkv", "mp4", "zip"]
"""The kinds of export that are one file."""


class UnknownExport(LookupError):
    """There is no such export, or it has gone."""


class TooManyExports(Exception):
    """So many are there that another has to wait; the message says so."""


class DiskFull(Exception):
    """There is no room for the result."""


class ExportView(msgspec.Struct, frozen=True, kw_only=True):
    """How an export stands. `progress` is a share of 1; times are RFC 3339 in UTC.

    `bytes` and `sha256` are those of the result, once it is there; `expires` says when it goes. `error` says why it
    failed, `warnings` what should be known of the result.
    """

    id: str
    recording: str
    kind: JobKind
    state: State
    progress: float
    created: str
    expires: str | None = None
    bytes: int = 0
    sha256: str = ""
    error: str = ""
    warnings: list[str] = []


class _Job:
    def __init__(self, view: ExportView, out: Path) -> None:
        self.view = view
        self.out = out
        self.task: asyncio.Task[None] | None = None
        self.expiry: asyncio.TimerHandle | None = None

    def change(self, **fields: object) -> None:
        self.view = msgspec.structs.replace(self.view, **fields)


class Exports:
    """The jobs below `folder`, of which each has a folder of its own."""

    def __init__(
        self,
        folder: Path,
        wall_us: Callable[[], int],
        *,
        at_once: int = AT_ONCE,
        most: int = MOST,
        keep_seconds: float = KEEP_SECONDS,
        reserve_bytes: int = RESERVE_BYTES,
    ) -> None:
        self._folder = folder
        self._wall_us = wall_us
        self._turn = asyncio.Semaphore(at_once)
        self._most = most
        self._keep_seconds = keep_seconds
        self._reserve_bytes = reserve_bytes
        self._jobs: dict[str, _Job] = {}

    async def begin(self, recording: str, order: Callable[[], Order], kind: JobKind, size: int) -> ExportView:
        """Export a recording with `size` bytes of media. `order` is called on a thread when its turn has come.

        Raises `TooManyExports`, `DiskFull` and OSError.
        """
        if len(self._jobs) >= self._most:
            raise TooManyExports(
                f"{self._most} exports are waiting or wait to be fetched; remove one or come back later"
            )
        identifier = secrets.token_hex(8)
        out = self._folder / identifier / f"{recording}{kinds.find(kind).suffix}"
        created = iso(self._wall_us())
        view = ExportView(id=identifier, recording=recording, kind=kind, state="queued", progress=0.0, created=created)
        job = self._jobs[identifier] = _Job(view, out)
        try:
            await asyncio.to_thread(self._prepare, out.parent, size)
        except BaseException:
            del self._jobs[identifier]
            raise
        job.task = asyncio.create_task(self._run(job, order), name=f"export {identifier}")
        return job.view

    def of(self, recording: str) -> list[ExportView]:
        """The exports of a recording, the newest first."""
        return [job.view for job in reversed(self._jobs.values()) if job.view.recording == recording]

    def use_of(self, recording: str) -> str:
        """Why the recording is in use, in words: a job of it, or its result, is there. Empty: it is not."""
        return "an export of it is there" if self.of(recording) else ""

    def get(self, recording: str, identifier: str) -> ExportView:
        """Raises `UnknownExport`."""
        return self._find(recording, identifier).view

    def result(self, recording: str, identifier: str) -> Path | None:
        """The file, once it is there. Raises `UnknownExport`."""
        job = self._find(recording, identifier)
        return job.out if job.view.state == "done" else None

    async def remove(self, recording: str, identifier: str) -> None:
        """Stop it, and forget it with its result. Raises `UnknownExport`."""
        await self._forget(self._find(recording, identifier))

    async def close(self) -> None:
        """Stop and remove all."""
        await asyncio.gather(*(self._forget(job) for job in list(self._jobs.values())))

    def _find(self, recording: str, identifier: str) -> _Job:
        job = self._jobs.get(identifier)
        if job is None or job.view.recording != recording:
            raise UnknownExport(f"there is no export {identifier} of recording {recording}, or it has gone")
        return job

    def _prepare(self, folder: Path, size: int) -> None:
        folder.mkdir(parents=True)
        if shutil.disk_usage(folder).free < size + self._reserve_bytes:
            folder.rmdir()
            raise DiskFull("the archive's disk has no room for this export")

    async def _run(self, job: _Job, order: Callable[[], Order]) -> None:
        try:
            async with self._turn:
                job.change(state="running")
                last = await self._work(job, await _carried_out(order))
            if last.sha256:
                job.change(state="done", progress=1.0, bytes=last.bytes, sha256=last.sha256, warnings=last.warnings)
            else:
                job.change(state="failed", error=last.error or "the export ended without a word")
        except OSError as error:
            job.change(state="failed", error=f"the export could not be started: {_said(error)}")
        job.change(expires=iso(self._wall_us() + round(self._keep_seconds * 1e6)))
        loop = asyncio.get_running_loop()
        job.expiry = loop.call_later(self._keep_seconds, lambda: loop.create_task(self._forget(job)))

    async def _work(self, job: _Job, order: Order) -> Line:
        """The last line of the process; it is killed when the job is."""
        text = encode(order)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "mediaserver.recording.export.work", str(job.out),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                pass_fds=[opening.fd for opening in order.files.values()],
            )  # fmt: skip
        finally:
            order.close()
        last = Line()
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            with contextlib.suppress(ConnectionError):  # it has ended; what it said tells why
                process.stdin.write(text)
                await process.stdin.drain()
            process.stdin.close()
            async for line in process.stdout:
                last = msgspec.json.decode(line, type=Line)
                if not last.error:
                    job.change(progress=last.progress)
            await process.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        return last

    async def _forget(self, job: _Job) -> None:
        self._jobs.pop(job.view.id, None)
        if job.expiry is not None:
            job.expiry.cancel()
        if job.task is not None:
            job.task.cancel()
            await asyncio.gather(job.task, return_exceptions=True)
        await asyncio.to_thread(shutil.rmtree, job.out.parent, ignore_errors=True)


def _said(error: OSError) -> str:
    return f"{Path(error.filename).name}: {error.strerror}" if error.filename else str(error)


async def _carried_out(order: Callable[[], Order]) -> Order:
    """On a thread. Who is cancelled meanwhile leaves no file open."""
    work = asyncio.ensure_future(asyncio.to_thread(order))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        work.add_done_callback(lambda done: None if done.cancelled() or done.exception() else done.result().close())
        raise
