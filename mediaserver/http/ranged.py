"""A file over HTTP in ranges, with a strong ETag of the caller's (RFC 9110, sections 8.8.3, 13 and 14).

aiohttp's own file response makes its ETag of size and time, and takes no ETag in If-Range.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import structlog
from aiohttp import ETag, web

from mediaserver.recording.storage import LocalReader, Reader

log = structlog.get_logger("mediaserver.archive")

CHUNK = 256 * 1024
READERS = 16
"""Threads that wait for files. They are apart from all others, for a store far away may let them wait for long."""

ResultT = TypeVar("ResultT")
_readers = ThreadPoolExecutor(READERS, thread_name_prefix="archive-read")
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


async def send(
    request: web.Request,
    opener: Callable[[], Reader],
    etag: str,
    content_type: str,
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """Answer GET or HEAD with a file or the range of it that is asked for. `etag` names its bytes for good; `headers`
    go with them.

    `opener` is called on a thread; what it raises is raised, unless the answer has begun.

    One range is served; of several all of the file is, as section 14.2 allows.
    """
    if _matches(request.if_none_match, etag):
        return _empty(304, etag)
    if request.if_match is not None and not _matches(request.if_match, etag):
        return _empty(412, etag)
    reader = await _on_thread(opener)
    try:
        size = reader.size
        wanted = _wanted(request, etag, size)
        if wanted is None:
            response = _empty(416, etag)
            response.headers["Content-Range"] = f"bytes */{size}"
            return response
        first, last = wanted
        partial = (first, last) != (0, size - 1)
        response = web.StreamResponse(status=206 if partial else 200, headers=headers)
        response.content_type = content_type
        response.content_length = last - first + 1
        response.etag = etag
        response.headers["Accept-Ranges"] = "bytes"
        response.headers["Cache-Control"] = "private, no-cache"
        if partial:
            response.headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        await response.prepare(request)
        if request.method != "HEAD":
            await _send(request, reader, response, first, last - first + 1)
        return response
    finally:
        reader.close()


async def copy_file(path: Path, response: web.StreamResponse) -> None:
    """All of a file, in chunks, into a response that has been prepared."""
    reader = await _on_thread(lambda: LocalReader(path))
    try:
        await _copy(reader, response, 0, reader.size)
    finally:
        reader.close()


def _matches(tags: tuple[ETag, ...] | None, etag: str) -> bool:
    return any(tag.value in (etag, "*") for tag in tags or ())


def _empty(status: int, etag: str) -> web.StreamResponse:
    response = web.Response(status=status)
    response.etag = etag
    return response


def _wanted(request: web.Request, etag: str, size: int) -> tuple[int, int] | None:
    """First and last byte to send; None when what is asked for lies outside."""
    whole = (0, size - 1)
    condition = request.headers.get("If-Range")
    found = _RANGE.fullmatch(request.headers.get("Range", ""))
    if found is None or found.groups() == ("", "") or (condition is not None and condition != f'"{etag}"'):
        return whole
    start, end = found.groups()
    if not start:
        return (max(0, size - int(end)), size - 1) if int(end) else None
    if int(start) >= size:
        return None
    last = min(int(end), size - 1) if end else size - 1
    return (int(start), last) if last >= int(start) else whole


async def _send(request: web.Request, reader: Reader, response: web.StreamResponse, offset: int, left: int) -> None:
    """A store that fails in the middle ends the connection: a client must not take a part for the whole."""
    try:
        await _copy(reader, response, offset, left)
    except ConnectionError:
        raise
    except OSError as error:
        log.error("a file could not be read to its end", path=request.path, reason=str(error))
        if request.transport is not None:
            request.transport.abort()


async def _copy(reader: Reader, response: web.StreamResponse, offset: int, left: int) -> None:
    while left > 0:
        chunk = await _on_thread(lambda: reader.read(min(CHUNK, left), offset))  # noqa: B023 - it is called at once
        if not chunk:
            break
        left -= len(chunk)
        offset += len(chunk)
        await response.write(chunk)


async def _on_thread(work: Callable[[], ResultT]) -> ResultT:
    return await asyncio.get_running_loop().run_in_executor(_readers, work)
