"""The OpenAPI 3.1 document of the HTTP interface, made from what the handlers themselves read and write.

Every route has an `Operation`. Its types are those that the handler decodes its query and body with and encodes its
answer from, so the document can't say anything else than the code does. `GET /openapi.json` serves the document of
the routes that a server has; a test holds that each of them is described.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from mediaserver import __version__

Document = dict[str, Any]
References = Mapping[type[msgspec.Struct], Document]
Content = type[msgspec.Struct] | str | None
"""A type that is sent as JSON, a media type of anything else, or nothing."""

REF = "#/components/schemas/{name}"
PROBLEM = "application/problem+json"
RANGED: Mapping[int, tuple[str, Content]] = {
    206: ("The range that was asked for.", None),
    304: ("The client has these bytes.", None),
    412: ("The bytes are others than If-Match says.", None),
    416: ("The range lies outside of the file.", None),
}
"""What a file that is sent by ranges can be answered with beside 200 (RFC 9110, section 14)."""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one path. `answers` are the good ones by status: what it means, and what comes. `refusals` are
    statuses that come with a problem document, those of the token (401, 403) aside."""

    method: str
    path: str
    name: str
    tag: str
    summary: str
    query: type[msgspec.Struct] | None = None
    headers: Mapping[str, str] = {}
    body: Content = None
    answers: Mapping[int, tuple[str, Content]] = {}
    refusals: Iterable[int] = ()
    token: bool = True

    @property
    def key(self) -> tuple[str, str]:
        return self.method, self.path


class ProblemDocument(msgspec.Struct, omit_defaults=True):
    """Why a request was refused (RFC 9457)."""

    title: str
    status: int
    detail: str
    type: str = "about:blank"


def by_route(operations: Iterable[Operation]) -> dict[tuple[str, str], Operation]:
    """Operations by method and path. Raises ValueError for two of one."""
    table: dict[tuple[str, str], Operation] = {}
    for operation in operations:
        if table.setdefault(operation.key, operation) is not operation:
            raise ValueError(f"two operations for {operation.method} {operation.path}")
    return table


def served(app: web.Application) -> Iterator[tuple[str, str]]:
    """Method and path of each route of an application. HEAD and OPTIONS of paths that have another are theirs."""
    for route in app.router.routes():
        resource = route.resource
        if resource is None:
            continue
        path = resource.canonical
        if isinstance(resource, web.StaticResource):
            path += "/{file}"
        if route.method not in ("HEAD", "OPTIONS"):
            yield route.method, path


def document(operations: Iterable[Operation]) -> Document:
    """The OpenAPI 3.1 document of these operations."""
    every = list(operations)
    types = {content for operation in every for content in _types(operation)}
    named = sorted(types | {ProblemDocument}, key=lambda kind: kind.__name__)
    made, schemas = msgspec.json.schema_components(named, ref_template=REF)
    references = dict(zip(named, made, strict=True))
    paths: dict[str, Document] = {}
    for operation in every:
        paths.setdefault(_plain(operation.path), {})[operation.method.lower()] = _operation(operation, references)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mediaserver",
            "version": __version__,
            "description": (
                "The HTTP interface. The WebSocket at /ws has a document of its own, /asyncapi.json. HEAD is answered "
                "wherever GET sends a file, OPTIONS by WHIP and WHEP."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "query": {
                    "type": "apiKey",
                    "in": "query",
                    "name": "token",
                    "description": "The same token, for what a page loads without headers.",
                },
            },
        },
        "tags": [{"name": tag} for tag in dict.fromkeys(operation.tag for operation in every)],
    }


def _types(operation: Operation) -> Iterator[type[msgspec.Struct]]:
    for content in (operation.body, *(content for _, content in operation.answers.values())):
        if isinstance(content, type):
            yield content


def _operation(operation: Operation, references: References) -> Document:
    answers = {
        str(status): {"description": text} | ({"content": _content(content, references)} if content is not None else {})
        for status, (text, content) in operation.answers.items()
    }
    refused = sorted({*operation.refusals, *((401, 403) if operation.token else ())} - {*operation.answers})
    answers |= {
        str(status): {
            "description": HTTPStatus(status).phrase,
            "content": {PROBLEM: {"schema": references[ProblemDocument]}},
        }
        for status in refused
    }
    made: Document = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "parameters": [*_path_parameters(operation.path), *_query_parameters(operation.query), *_headers(operation)],
        "responses": dict(sorted(answers.items())),
        "security": [{"bearer": []}, {"query": []}] if operation.token else [],
    }
    if operation.body is not None:
        made["requestBody"] = {"required": True, "content": _content(operation.body, references)}
    return made


def _plain(path: str) -> str:
    """A path of aiohttp as one of OpenAPI: without the patterns of its variables."""
    return re.sub(r"\{(\w+):[^/]*\}", r"{\1}", path)


def _path_parameters(path: str) -> list[Document]:
    names = re.findall(r"\{(\w+)\}", _plain(path))
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _query_parameters(kind: type[msgspec.Struct] | None) -> list[Document]:
    """One for each field of the struct that the query is read into."""
    if kind is None:
        return []
    _, components = msgspec.json.schema_components([kind], ref_template=REF)
    schema = components[kind.__name__]
    made = []
    for name, field in schema["properties"].items():
        parameter: Document = {"name": name, "in": "query", "required": name in schema.get("required", ())}
        if text := field.pop("description", ""):
            parameter["description"] = text
        made.append(parameter | {"schema": field})
    return made


def _headers(operation: Operation) -> list[Document]:
    return [
        {"name": name, "in": "header", "required": False, "description": text, "schema": {"type": "string"}}
        for name, text in operation.headers.items()
    ]


def _content(content: type[msgspec.Struct] | str, references: References) -> Document:
    if isinstance(content, str):
        return {kind.strip(): {} for kind in content.split(",")}
    return {"application/json": {"schema": references[content]}}
