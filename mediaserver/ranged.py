"""A file over HTTP in ranges, with a strong ETag of the caller's (RFC 9110, sections 8.8.3, 13 and 14).

aiohttp's own file response makes its ETag of size and time, and takes no ETag in If-Range.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from aiohttp import ETag, web

CHUNK = 256 * 1024
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


async def send(
    request: web.Request, path: Path, etag: str, content_type: str, headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    """Answer GET or HEAD with `path` or the range of it that is asked for. `etag` names its bytes for good; `headers`
    go with them.

    One range is served; of several all of the file is, as section 14.2 allows.
    """
    if _matches(request.if_none_match, etag):
        return _empty(304, etag)
    if request.if_match is not None and not _matches(request.if_match, etag):
        return _empty(412, etag)
    stream = await asyncio.to_thread(path.open, "rb")
    try:
        size = os.fstat(stream.fileno()).st_size
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
            await _copy(stream, response, first, last - first + 1)
        return response
    finally:
        stream.close()


async def copy_file(path: Path, response: web.StreamResponse) -> None:
    """All of a file, in chunks, into a response that has been prepared."""
    stream = await asyncio.to_thread(path.open, "rb")
    try:
        await _copy(stream, response, 0, os.fstat(stream.fileno()).st_size)
    finally:
        stream.close()


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


async def _copy(stream: IO[bytes], response: web.StreamResponse, offset: int, left: int) -> None:
    stream.seek(offset)
    while left > 0:
        chunk = await asyncio.to_thread(stream.read, min(CHUNK, left))
        if not chunk:
            break
        left -= len(chunk)
        await response.write(chunk)
