"""HTTP errors as problem documents (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from aiohttp import web


class Problem(Exception):
    """A request that is refused: it becomes a response of `application/problem+json`."""

    def __init__(
        self, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **members: object
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members

    def response(self) -> web.Response:
        return problem_response(self.status, self.detail, self.headers, **self.members)


def problem_response(
    status: int, detail: str, headers: Mapping[str, str] | None = None, **members: object
) -> web.Response:
    """`members` are further fields of the document, such as the line of an offer."""
    kept = {key: value for key, value in members.items() if value}
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail} | kept
    return web.Response(
        status=status, body=msgspec.json.encode(body), content_type="application/problem+json", headers=headers
    )
