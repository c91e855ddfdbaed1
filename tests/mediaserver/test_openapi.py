"""The OpenAPI document: valid, complete, and what the server really does."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from mediaserver.codecs.payload import Codec
from mediaserver.http.app import WebApp
from mediaserver.http.openapi import by_route, served
from mediaserver.operations import OPERATIONS
from tests.mediaserver.conftest import Open, Site, run
from tests.recording import feed
from tests.recording.feed import Source, Studio

TRIES = 10
"""Requests of each operation."""
JUNK = (
    "x", "0", "-1", "1e9", "99999999999999999999999", "NaN", "null", "true", "ä€😀", "%00", "a/b", "../..", "'\";--",
    "*", " ", "2026-13-45", "0001-01-01", "9999-12-31T23:59:59+23:59", "bytes=0-", "bytes=9-99999999999999999999",
    "W/\"x\"", "a" * 300, "\u2028", "{}", "[1]", "{\"kind\": \"mkv\"}", "{\"kind\": 7}",
)  # fmt: skip


async def document(s: Site) -> dict[str, Any]:
    async with s.http.get(f"{s.url}/openapi.json") as response:
        assert (response.status, response.content_type) == (200, "application/json")
        found: dict[str, Any] = await response.json()
    return found


def test_it_is_valid(site: Open) -> None:
    found: list[dict[str, Any]] = []

    async def main() -> None:
        async with site() as s:
            found.append(await document(s))

    run(main())
    OpenAPIV31SpecValidator(found[0]).validate()


def test_every_route_is_described_and_every_description_is_a_route(site: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    apps = []

    def made(self: WebApp, server: Any, operations: Any, first: Any) -> None:
        make(self, server, operations, first)
        apps.append(self.app)

    make = WebApp.__init__
    monkeypatch.setattr(WebApp, "__init__", made)

    async def main() -> None:
        async with site() as s:
            (app,) = apps
            routes = set(served(app))
            assert routes == set(by_route(OPERATIONS)), "describe it in mediaserver/operations.py"
            paths = (await document(s))["paths"]
            described = {(method.upper(), path) for path, methods in paths.items() for method in methods}
            assert len(described) == len(routes)

    run(main())


def test_names_are_unique() -> None:
    names = [operation.name for operation in OPERATIONS]
    assert len(names) == len(set(names))


def record(folder: Path) -> Studio:
    """A second of a camera."""
    studio = Studio(folder)
    studio.track("camera")
    studio.feed("camera", feed.deliver([Source(Codec.CODEC_VP8, feed.video(Codec.CODEC_VP8, 30))]))
    studio.run()
    studio.stop()
    return studio


class Stranger:
    """Asks for anything, in any way that the document lets one."""

    def __init__(self, s: Site, described: dict[str, Any], known: dict[str, str]) -> None:
        self._site = s
        self._document = described
        self._known = known
        self._chance = random.Random(7)
        self._validators: dict[str, Draft202012Validator] = {}

    async def ask(self, method: str, path: str, operation: dict[str, Any]) -> None:
        chance = self._chance
        query: dict[str, str] = {}
        headers = self._site.bearer("archivist", "*") if chance.random() < 0.9 else {}
        for parameter in operation["parameters"]:
            name, known = parameter["name"], self._known.get(parameter["name"])
            value = known if known and chance.random() < 0.7 else chance.choice(JUNK)
            if parameter["in"] == "path":
                path = path.replace(f"{{{name}}}", quote(value, safe=""))
            elif parameter["in"] == "query" and chance.random() < 0.5:
                query[name] = value
            elif parameter["in"] == "header" and chance.random() < 0.4 and value.isascii() and value.strip():
                headers[name] = value
        body = chance.choice(JUNK).encode() if chance.random() < 0.7 else None
        if "requestBody" in operation:
            headers["Content-Type"] = next(iter(operation["requestBody"]["content"]))
        sent = (method, path, query, headers, body)
        async with self._site.http.request(
            method, f"{self._site.url}{path}", params=query, headers=headers, data=body, allow_redirects=False
        ) as response:
            answers = operation["responses"]
            assert str(response.status) in answers, sent
            assert response.status < 500 or response.status in (503, 507), sent
            content = answers[str(response.status)].get("content", {})
            if response.content_type in content:
                schema = content[response.content_type].get("schema")
                if schema is not None:
                    self._fits(json.loads(await response.read()), schema)
            elif response.status != 206:
                assert not await response.read() or "*/*" in content, (sent, response.content_type)

    def _fits(self, value: Any, schema: dict[str, Any]) -> None:
        name = json.dumps(schema)
        if name not in self._validators:
            self._validators[name] = Draft202012Validator(schema | {"components": self._document["components"]})
        self._validators[name].validate(value)


def test_bad_input_gets_an_answer_that_the_document_knows(site: Open, tmp_path: Path) -> None:
    studio = record(tmp_path / "data" / "archive")
    known = {"recording": studio.recording.id, "track": "camera", "segment": "0", "at": "500", "source": "camera"}
    known |= {"room": "room-1", "Range": "bytes=1-5", "file": "ui.js", "kind": "mkv", "width": "64", "limit": "5"}

    async def main() -> None:
        async with site() as s:
            described = await document(s)
            stranger = Stranger(s, described, known)
            for path, methods in described["paths"].items():
                for method, operation in methods.items():
                    if path == "/ws":
                        continue
                    tries = TRIES if operation["parameters"] or "requestBody" in operation else 1
                    for _ in range(tries):
                        await stranger.ask(method.upper(), path, operation)

    asyncio.run(main())
