"""The server under test: one that is named, or one of our own, started for the run and ended after it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from types import MappingProxyType
from typing import Literal

import jwt
import msgspec

from mediaserver.loadtest.join import WhipUrls
from mediaserver.loadtest.measure import Process

START_SECONDS = 60.0
STOP_SECONDS = 10.0
TOKEN_SECONDS = 24 * 3600
NO_SETTINGS: Mapping[str, str] = MappingProxyType({})
STORM_SERVER = {"MEDIASERVER_ROOMS_MAX_PARTICIPANTS": "5000", "MEDIASERVER_MEDIA_CONNECT_SECONDS": "300"}
"""Settings of a server for a storm: all its viewers wait in one room until the last has its answer."""

TokenFor = Callable[[str, Literal["cart", "doctor"]], str]


class TargetError(Exception):
    """There is no server to test; says why."""


class Target(msgspec.Struct, frozen=True):
    url: str
    token: TokenFor
    process: Process | None = None
    """to be measured, when it runs on this machine"""
    urls: WhipUrls | None = None
    """of a server that is not this product; it is asked for nothing else"""


class Signer(msgspec.Struct, frozen=True):
    """Signs a token for each participant, as the server's documentation describes them."""

    secret: str

    def __call__(self, room: str, role: Literal["cart", "doctor"]) -> str:
        now = int(time.time())
        claims = {"room": room, "role": role, "iat": now, "exp": now + TOKEN_SECONDS}
        return jwt.encode(claims, self.secret, algorithm="HS256")


class FixedToken(msgspec.Struct, frozen=True):
    """The same for everyone."""

    token: str

    def __call__(self, room: str, role: Literal["cart", "doctor"]) -> str:
        return self.token


@contextlib.asynccontextmanager
async def own_server(workers: int, record: str, settings: Mapping[str, str] = NO_SETTINGS) -> AsyncIterator[Target]:
    """A server process on free ports of loopback with a data folder of its own; `settings` are further variables of
    its environment. Raises `TargetError`."""
    secret = secrets.token_urlsafe(32)
    with tempfile.TemporaryDirectory(prefix="mediaserver-loadtest-") as folder:
        command = [sys.executable, "-u", "-m", "mediaserver", "serve", "--http", "127.0.0.1:0", "--udp", "127.0.0.1:0"]
        command += ["--data", folder, "--secret", secret, "--workers", str(workers), "--record", record]
        process = await asyncio.create_subprocess_exec(
            *command,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **settings},
        )
        output: list[str] = []
        try:
            url = await _find_url(process, output)
            reader = asyncio.create_task(_drain(process, output))
            try:
                yield Target(url, Signer(secret), Process(process.pid))
            finally:
                reader.cancel()
        finally:
            await _stop(process)


async def _find_url(process: asyncio.subprocess.Process, output: list[str]) -> str:
    """The address that the server prints when it is up."""
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_SECONDS):
            while line := (await process.stdout.readline()).decode(errors="replace"):
                output.append(line)
                found = re.search(r"https?://[^\s/]+", line)
                if found:
                    return found[0]
    except TimeoutError:
        raise TargetError(f"the server did not start within {START_SECONDS:g} s: {''.join(output[-5:])}") from None
    raise TargetError(f"the server did not start: {''.join(output[-5:]).strip()}")


async def _drain(process: asyncio.subprocess.Process, output: list[str]) -> None:
    # A full pipe would stop the server at its next word.
    assert process.stdout is not None
    while line := await process.stdout.readline():
        output.append(line.decode(errors="replace"))
        del output[:-100]


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
