"""Queries and bodies of requests as types, and answers as JSON."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from aiohttp import web

from mediaserver.auth import bearer

T = TypeVar("T")


class BadRequest(Exception):
    """The request can't be understood; the message says what it should be."""


def asked(request: web.Request, kind: type[T]) -> T:
    """The query as that type; what is given empty is not given. Raises `BadRequest`."""
    given = {name: text for name, text in request.query.items() if text}
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise BadRequest(str(error).replace("$.", "")) from None


async def body(request: web.Request, kind: type[T]) -> T:
    """The body as that type. Raises `BadRequest`."""
    try:
        return msgspec.json.decode(await request.read() or b"{}", type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body can't be used: {error}") from None


def token_of(request: web.Request) -> str:
    """The token of the Authorization header, or of `?token=` for what a page loads without headers."""
    return bearer(request.headers.get("Authorization", "")) or request.query.get("token", "")


def answer(value: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(value), content_type="application/json")
