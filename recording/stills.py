"""Thumbnails: pictures of recorded files, made by `still` processes and kept for a while."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from mediaserver.recording.storage.face import Opening

AT_ONCE = 2
WAITING = 64
"""Pictures that may be asked for at once, those being made included."""
KEPT_BYTES = 32 << 20
SECONDS = 10.0
"""A picture that takes longer is given up."""
LEAST, MOST = 16, 1280
"""Widths."""


class NoStill(Exception):
    """There is no picture there; the message says why."""


class StillsBusy(Exception):
    """Too many pictures are being made: ask again in a while."""


class Stills:
    """Makes pictures, few at once, and keeps those that were asked for last."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept: OrderedDict[tuple[str, int, int], bytes] = OrderedDict()
        self._kept_bytes = kept_bytes
        self._size = 0
        self._making: dict[tuple[str, int, int], asyncio.Task[bytes]] = {}
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def picture(self, opener: Callable[[], Opening], sha256: str, second: int, width: int) -> bytes:
        """A JPEG of the keyframe at or before a second of a file, which `sha256` names. `opener` gives the file; it is
        called on a thread.

        Raises `NoStill`, `StillsBusy`, and OSError when the file can't be had.
        """
        key = (sha256, second, width)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        if key not in self._making:
            if len(self._making) >= WAITING:
                raise StillsBusy("many pictures are being made; ask again in a moment")
            self._making[key] = asyncio.create_task(self._make(key, opener), name="still")
        # One who goes away does not take the picture from the others who wait for it.
        return await asyncio.shield(self._making[key])

    async def close(self) -> None:
        making = list(self._making.values())
        for task in making:
            task.cancel()
        await asyncio.gather(*making, return_exceptions=True)

    async def _make(self, key: tuple[str, int, int], opener: Callable[[], Opening]) -> bytes:
        try:
            async with self._turn:
                made = await _run(await asyncio.to_thread(opener), key[1], key[2])
        finally:
            del self._making[key]
        self._kept[key] = made
        self._size += len(made)
        while self._size > self._kept_bytes:
            self._size -= len(self._kept.popitem(last=False)[1])
        return made


async def _run(file: Opening, second: int, width: int) -> bytes:
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "mediaserver.recording.still", str(second), str(width), pass_fds=[file.fd],
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
    finally:
        os.close(file.fd)
    try:
        async with asyncio.timeout(SECONDS):
            picture, words = await process.communicate(msgspec.json.encode(file))
    except TimeoutError:
        raise NoStill(f"no picture could be made within {SECONDS:g} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode or not picture:
        raise NoStill(words.decode(errors="replace").strip().rpartition("\n")[2] or "the decoder ended without a word")
    return picture
