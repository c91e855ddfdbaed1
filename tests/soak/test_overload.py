"""Twice as many viewers come as there is room for: those inside are served as before, the others are told to go."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from mediaserver.auth import mint
from mediaserver.budgets import DEFAULT_BUDGETS
from mediaserver.codecs.payload import Codec
from mediaserver.loadtest.join import Gate, Joined, JoinError
from mediaserver.loadtest.loops import Loop
from mediaserver.loadtest.media import StreamMedia, make_stream
from mediaserver.loadtest.swarm import Swarm
from mediaserver.sfu.session.model import Role
from tests.recording import feed

ROOT = Path(__file__).parents[2]
ROOM = "round"
PATIENCE = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
"""How many times slower than the budgets this machine may be: others may share its cores."""
Figures = Callable[[str, object], None]


def picture() -> list[StreamMedia]:
    """A small camera: what a viewer costs is the number of its packets."""
    pictures = feed.video(Codec.CODEC_VP8, 60, width=160, height=120)
    return [make_stream("camera", Loop("VP8", 90_000, 3000, pictures, (True, *(False,) * 29) * 2, 160, 120))]


class Round:
    """A server with little room, a cart in it, and the viewers that were let in."""

    def __init__(self, gate: Gate, swarm: Swarm, base: str, secret: str, http: aiohttp.ClientSession) -> None:
        self.gate = gate
        self.swarm = swarm
        self.base = base
        self.secret = secret
        self.http = http
        self.streams = picture()
        self.inside: list[Joined] = []
        self.cart = 0
        self.refused = 0

    def token(self, role: Role) -> str:
        return mint(self.secret, room=ROOM, role=role, now=time.time())

    async def begin(self) -> None:
        [cart] = await self.gate.whip_cart(ROOM, self.token(Role.CART), self.streams)
        self.cart = cart.number

    async def come(self) -> None:
        """One more tries to get in."""
        try:
            self.inside += await self.gate.whep_viewer(ROOM, self.token(Role.OBSERVER), self.streams)
        except JoinError as error:
            if "answered 503" not in str(error) or "at its limit" not in str(error):
                raise
            self.refused += 1

    async def metric(self, name: str) -> float:
        async with self.http.get(f"{self.base}/metrics") as response:
            found = re.search(rf"^mediaserver_{name} (\S+)$", await response.text(), re.MULTILINE)
        assert found, name
        return float(found[1])

    async def is_ready(self) -> bool:
        async with self.http.get(f"{self.base}/readyz") as response:
            return response.status == 200


@asynccontextmanager
async def opened(folder: Path, **limits: float) -> AsyncIterator[Round]:
    secret = secrets.token_hex(20)
    command = ["-m", "mediaserver", "serve", "--http", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--secret", secret]
    environ = os.environ | {f"MEDIASERVER_LIMITS_{name.upper()}": str(value) for name, value in limits.items()}
    environ |= {"MEDIASERVER_MEDIA_WORKERS": "1", "MEDIASERVER_ROOMS_MAX_PARTICIPANTS": "5000", "NO_COLOR": "1"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, "--data", str(folder / "data"), cwd=ROOT, env=environ, stdout=PIPE, stderr=DEVNULL
    )
    swarm = Swarm()
    swarm.start()
    try:
        async with aiohttp.ClientSession() as http:
            base = await _address(process)
            made = Round(Gate(http, base, swarm), swarm, base, secret, http)
            await made.begin()
            yield made
    finally:
        swarm.close()
        process.terminate()
        await asyncio.wait_for(process.wait(), 20)


async def _address(process: Process) -> str:
    assert process.stdout is not None
    async for line in process.stdout:
        if found := re.search(rb"https?://[^\s/\"']+:\d+", line):
            return found.group().decode()
    raise AssertionError("the server did not start")


async def overload(at: Round, rate: float, most: int, seconds: float) -> dict[str, object]:
    """Viewers come at this rate until twice as many came as are inside, at the most so many; then it is watched."""
    tried = 0
    while (not at.refused or tried < 2 * len(at.inside)) and tried < most:
        await asyncio.gather(at.come(), asyncio.sleep(1 / rate))
        tried += 1
    assert at.refused, f"{tried} came, and all were let in"
    assert not await at.is_ready()
    at.swarm.restart_counts()
    before = [at.swarm.peer(one.number).receivers[0].received for one in at.inside]
    await asyncio.sleep(seconds)
    received = [at.swarm.peer(one.number).receivers[0] for one in at.inside]
    got = [one.received - earlier for one, earlier in zip(received, before, strict=True)]
    source = at.swarm.times(received[0].source)
    return {
        "tried": tried,
        "inside": len(at.inside),
        "refused": at.refused,
        "lost": sum(one.lost for one in received),
        "missed": sum(one.missed for one in received),
        "least received": min(got),
        "most received": max(got),
        "p99 ns": source.latency.percentile(99),
        "generator p99 ns": at.swarm.totals().sender_lateness.percentile(99),
        "dropped by the generator": at.swarm.totals().dropped,
        "busy": await at.metric(r'worker_expected_busy_ratio\{worker="0"\}'),
    }


def check(figures: dict[str, object], limit: float) -> None:
    print(figures)
    if not figures["dropped by the generator"]:
        assert figures["lost"] == 0
    assert float(str(figures["busy"])) <= limit * 2
    assert float(str(figures["least received"])) >= 0.9 * float(str(figures["most received"]))
    # A generator that is late itself says nothing of the server.
    allowed = DEFAULT_BUDGETS["camera"].server_p99_ms * 1e6 * PATIENCE
    assert float(str(figures["p99 ns"])) <= allowed + 2 * float(str(figures["generator p99 ns"]))


def run(folder: Path, limit: float, rate: float, most: int, seconds: float) -> dict[str, object]:
    async def main() -> dict[str, object]:
        async with opened(folder, busy_percent=limit * 100, reserve_percent=0, spread_percent=100) as at:
            return await overload(at, rate, most, seconds)

    return asyncio.run(main())


def test_twice_as_many_as_there_is_room_for(tmp_path: Path, record_property: Figures) -> None:
    """With a limit that a few dozen reach."""
    figures = run(tmp_path, 0.04, 25, 400, 2.0)
    record_property("figures", figures)
    check(figures, 0.04)


@pytest.mark.soak
def test_twice_as_many_as_half_a_core_carries(tmp_path: Path, record_property: Figures) -> None:
    figures = run(tmp_path, 0.4, 60, 8000, 20.0)
    record_property("figures", figures)
    check(figures, 0.4)
