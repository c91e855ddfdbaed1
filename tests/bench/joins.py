"""What joins cost: the time that they take, CPU by step, memory, and what the media notice of them.

    python -m tests.bench.joins [storm|idle] [--rooms N] [--joins N] [--seconds S] [--legs N] [--load VIEWERS]
                                [--carts N] [--first] [--steps] [--runs N]

`storm` lets so many viewers join so many rooms within so many seconds, each with the offer that Chromium made for two
pictures and a sound, up to the end of its DTLS handshake. A join's time is counted from the moment at which it was due,
so that a generator or a server that falls behind shows; how late the generator itself began, and what CPU it took,
stand beside. With `--load` a consultation of that many viewers goes on meanwhile, or `--carts` of them, and the latency
of their packets in the server (the worker's own histogram, from the kernel's receive stamp) is told from before, within
and after the storm, and the ratio of the 99th percentiles within and before, over `--runs` storms their median; with
`--first` the worker's thread, and who sends to it, run as if they had a core of their own.
`idle` lets them in and tells what each takes of memory.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import gc
import json
import re
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, cast

import uvloop

from mediaserver.loadtest.dtls import Handshake, HandshakeError, Identity
from mediaserver.loadtest.target import Signer
from mediaserver.sfu.wire import stun
from tests.bench.crowded import SECRET

ROOT = Path(__file__).parents[2]
OFFERS = ROOT / "tests/sfu/wire/fixtures"
SOURCES = ("camera", "ultrasound", "microphone", "stethoscope")
"""Of the m-lines of the cart's offer."""
VIEWED = ("camera", "ultrasound", "microphone")
"""Of the m-lines of a viewer's offer."""
RESEND_SECONDS = 1.0
BINDING_SUCCESS = b"\x01\x01"
"""The type of the answer to a check; another, or none, means that it is sent again."""
JOIN_SECONDS = 120.0
QUIET_SECONDS = 4.0
"""Before the storm, for the latency as it is without one."""
UPGRADE = (
    "GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: {key}\r\n\r\n"
)


class Template:
    """An offer of a browser, to be had again with other credentials."""

    def __init__(self, name: str, fingerprint: str) -> None:
        text = (OFFERS / f"{name}.sdp").read_bytes().decode()
        text = re.sub(r"a=fingerprint:\S+ \S+", f"a=fingerprint:sha-256 {fingerprint}", text)
        ssrcs = dict.fromkeys(re.findall(r"a=ssrc:(\d+)", text))
        self._parts = re.split(r"(?<=a=ice-ufrag:)\S+|(?<=a=ice-pwd:)\S+", text)
        self._names = re.findall(r"a=ice-(ufrag|pwd):", text)
        self.ssrcs = len(ssrcs)

    def offer(self, ufrag: str, pwd: str) -> str:
        given = {"ufrag": ufrag, "pwd": pwd}
        filled = [self._parts[0]]
        for name, part in zip(self._names, self._parts[1:], strict=True):
            filled += (given[name], part)
        return "".join(filled)


class Wire(asyncio.Protocol):
    """A WebSocket client that does no more than it must: its masks are zero, what it gets is whole frames of text."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self.received = 0
        self._data = bytearray()
        self._open = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        host, port = transport.get_extra_info("peername")[:2]
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        transport.write(UPGRADE.format(host=f"{host}:{port}", key=key).encode())

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        self._data += data
        if not self._open:
            end = self._data.find(b"\r\n\r\n")
            if end < 0:
                return
            if b" 101 " not in self._data[:20]:
                self.messages.put_nowait(None)
                return
            del self._data[: end + 4]
            self._open = True
        while (frame := self._frame()) is not None:
            kind, payload = frame
            # The crowd of a room is told of those who come; nobody here wants to know.
            if kind == 1 and not payload.startswith((b'{"type":"participant-', b'{"type":"transport')):
                self.messages.put_nowait(json.loads(payload))
            elif kind == 8:
                self.messages.put_nowait(None)

    def connection_lost(self, error: Exception | None) -> None:
        self.messages.put_nowait(None)

    def send(self, **message: Any) -> None:
        data = json.dumps(message).encode()
        size = len(data)
        head = bytes([0x81, 0x80 | size]) if size < 126 else b"\x81\xfe" + size.to_bytes(2, "big")
        self._transport.write(head + b"\0\0\0\0" + data)

    async def answer(self, kind: str) -> dict[str, Any]:
        while (message := await self.messages.get()) is not None:
            if message["type"] == kind:
                return message
            if message["type"] == "error":
                raise JoinFailed(f"{message['code']}: {message['message']}")
        raise JoinFailed("the server closed the connection")

    def close(self) -> None:
        self._transport.abort()

    def _frame(self) -> tuple[int, bytes] | None:
        data = self._data
        if len(data) < 2:
            return None
        size, start = data[1] & 127, 2
        if size >= 126:
            start = 4 if size == 126 else 10
            if len(data) < start:
                return None
            size = int.from_bytes(data[2:start], "big")
        if len(data) < start + size:
            return None
        frame = data[0] & 15, bytes(data[start : start + size])
        del data[: start + size]
        return frame


class JoinFailed(Exception):
    """The server refused, or did not answer."""


class Crowd:
    """Joins one server. `up` are joins' times from when they were due, `late` how late they began, both in seconds."""

    def __init__(self, url: str, legs: int) -> None:
        self._legs = legs
        self._host, _, port = url.removeprefix("http://").partition(":")
        self._port = int(port)
        self._identity = Identity()
        self._signer = Signer(SECRET)
        self._tokens: dict[tuple[str, str], str] = {}
        self._cart = Template("chromium-cart", self._identity.fingerprint)
        self._viewer = Template("chromium-recvonly", self._identity.fingerprint)
        self.wires: list[Wire] = []
        self.up: list[float] = []
        self.answered: list[float] = []
        self.late: list[float] = []
        self.failed: list[str] = []

    def prepare(self, room: str) -> None:
        """Sign the room's tokens, which is somebody else's work."""
        for role in ("cart", "doctor"):
            self._tokens[room, role] = self._signer(room, role)  # type: ignore[arg-type]

    async def cart(self, room: str) -> None:
        await self._join(room, "cart", time.monotonic())

    async def viewer(self, room: str, due: float) -> None:
        """Join at that time of the monotonic clock."""
        await asyncio.sleep(due - time.monotonic())
        self.late.append(time.monotonic() - due)
        try:
            async with asyncio.timeout(JOIN_SECONDS):
                await self._join(room, "doctor", due)
        except (JoinFailed, HandshakeError, OSError, TimeoutError) as error:
            self.failed.append(f"{type(error).__name__}: {error}")
        else:
            self.up.append(time.monotonic() - due)

    def close(self) -> None:
        for wire in self.wires:
            wire.close()

    async def _join(self, room: str, role: str, due: float) -> None:
        loop = asyncio.get_running_loop()
        _, wire = await loop.create_connection(Wire, self._host, self._port)
        self.wires.append(wire)
        wire.send(type="join", id=1, version=1, room=room, token=self._tokens[room, role], name="somebody")
        joined = await wire.answer("joined")
        ufrag, pwd = secrets.token_urlsafe(6), secrets.token_urlsafe(18)
        if role == "cart":
            publish = [{"mid": str(mid), "source": source} for mid, source in enumerate(SOURCES)]
            wire.send(type="offer", id=2, sdp=self._cart.offer(ufrag, pwd), publish=publish)
        else:
            tracks = {track["source"]: track["id"] for track in joined["tracks"]}
            wanted = [{"mid": str(mid), "track": tracks[name]} for mid, name in enumerate(VIEWED[: self._legs])]
            wire.send(type="offer", id=2, sdp=self._viewer.offer(ufrag, pwd), subscribe=wanted)
        answer = (await wire.answer("answer"))["sdp"]
        if role != "cart":
            self.answered.append(time.monotonic() - due)
        await self._connect(answer, ufrag)

    async def _connect(self, answer: str, ufrag: str) -> None:
        """ICE, then DTLS, on a socket that closes: the server keeps the peer until its consent has run out."""
        theirs, pwd = (re.search(rf"a=ice-{name}:(\S+)", answer)[1] for name in ("ufrag", "pwd"))  # type: ignore[index]
        host, port = re.search(r"a=candidate:\S+ 1 udp \d+ (\S+) (\d+)", answer, re.I).groups()  # type: ignore[union-attr]
        check = stun.write_request(
            secrets.token_bytes(12),
            f"{theirs}:{ufrag}".encode(),
            pwd.encode(),
            priority=0x6E7FFFFF,
            role=stun.StunRole.STUN_CONTROLLING,
            tie_breaker=secrets.randbits(64),
            use_candidate=True,
        )
        line = Line()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: line, remote_addr=(host, int(port)))
        try:
            transport.sendto(check)
            while (await line.get(partial(_send, transport, [check])))[:2] != BINDING_SUCCESS:
                pass
            handshake = Handshake(self._identity)
            flight = out = handshake.flights()
            while True:
                _send(transport, out)
                if handshake.done:
                    return
                datagram = await line.get(partial(_send, transport, flight))
                out = []
                if 20 <= datagram[0] <= 63:
                    handshake.feed(datagram)
                    out = handshake.flights()
                    flight = out or flight
        finally:
            transport.close()


def _send(transport: asyncio.DatagramTransport, datagrams: Sequence[bytes]) -> None:
    for datagram in datagrams:
        transport.sendto(datagram)


class Line(asyncio.DatagramProtocol):
    """What comes by UDP."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, address: object) -> None:
        self._queue.put_nowait(data)

    async def get(self, again: Callable[[], None]) -> bytes:
        """The next datagram; what is sent `again` while there is none."""
        while True:
            try:
                async with asyncio.timeout(RESEND_SECONDS):
                    return await self._queue.get()
            except TimeoutError:
                again()


class Server:
    """The server process; see `tests.bench.crowded`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.url = ""

    async def ask(self, what: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(what.encode() + b"\n")
        return await self.read()

    async def read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        told: dict[str, Any] = json.loads(await self._process.stdout.readline())
        return told


@asynccontextmanager
async def served(*flags: str) -> AsyncIterator[Server]:
    with tempfile.TemporaryDirectory(prefix="mediaserver-joins-") as folder:
        command = [sys.executable, "-m", "tests.bench.crowded", folder, *flags]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=pipe, stdout=pipe, limit=1 << 20)
        try:
            server = Server(process)
            server.url = (await server.read())["url"]
            yield server
        finally:
            assert process.stdin is not None
            process.stdin.close()
            await process.wait()


@asynccontextmanager
async def loaded(server: Server, carts: int, viewers: int, *, first: bool) -> AsyncIterator[None]:
    """Consultations of so many viewers each go on meanwhile."""
    if not viewers:
        yield
        return
    command = [
        sys.executable,
        "-m",
        "mediaserver",
        "loadtest",
        "--url",
        server.url,
        "--secret",
        SECRET,
        "--decode",
        "0",
    ]
    command += ["--profile", "video", "--carts", str(carts), "--viewers", str(viewers), "--seconds", "300"]
    if first:
        # One that is late sends the packets of several carts at once: bursts that are none of the server's.
        command = ["chrt", "--fifo", "1", *command]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        while b"measuring" not in await process.stdout.readline():
            if process.returncode is not None:
                raise SystemExit("the load test has ended before it began to measure")
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


def quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def latency(before: dict[str, Any], after: dict[str, Any]) -> dict[str, float]:
    """Of the packets between two looks, µs. Within the worker's buckets (four an octave) values are taken to lie
    evenly: by their edges alone a percentile would move by a fifth or not at all."""
    limits = [limit for limit, _ in after["latency"]]
    counts = [b - a for (_, a), (_, b) in zip(before["latency"], after["latency"], strict=True)]
    total = sum(counts)
    figures: dict[str, float] = {"packets": total}
    for name, share in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)):
        figures[name] = within(limits, counts, share * total) if total else float("nan")
    return figures


def within(limits: Sequence[float], counts: Sequence[int], rank: float) -> float:
    """The value of that rank, of buckets with these upper limits."""
    lower = 0.0
    for limit, count, up in zip(limits, counts, accumulate(counts), strict=True):
        if up >= rank and count:
            return lower + (limit - lower) * (rank - (up - count)) / count
        lower = limit
    return lower


async def storms(options: argparse.Namespace) -> dict[str, Any]:
    """Several, each with a server of its own, and the median of what the media noticed."""
    runs = [await storm(options) for _ in range(options.runs)]
    told: dict[str, Any] = {"runs": runs} if len(runs) > 1 else runs[0]
    if options.load:
        ratios = [run["latency_us"]["storm"]["p99"] / run["latency_us"]["before"]["p99"] for run in runs]
        told["p99_within_to_before"] = {"each": ratios, "median": statistics.median(ratios)}
    return told


async def storm(options: argparse.Namespace) -> dict[str, Any]:
    flags = [f"--{name}" for name in ("steps", "first") if getattr(options, name)]
    async with served(*flags) as server:
        crowd = Crowd(server.url, options.legs)
        rooms = [f"ward-{number}" for number in range(options.rooms)]
        for room in rooms:
            crowd.prepare(room)
        for room in rooms:
            await crowd.cart(room)
        async with loaded(server, options.carts, options.load, first=options.first):
            calm = await server.ask("usage")
            if options.load:
                await asyncio.sleep(QUIET_SECONDS)
            await server.ask("steps")
            before = await server.ask("usage")
            cpu = time.process_time()
            began = time.monotonic()
            gap = options.seconds / options.joins
            await asyncio.gather(*(crowd.viewer(rooms[n % len(rooms)], began + n * gap) for n in range(options.joins)))
            took, cpu = time.monotonic() - began, time.process_time() - cpu
            steps = await server.ask("steps")
            after = await server.ask("usage")
            told = {
                "joins": len(crowd.up),
                "failed": crowd.failed[:5],
                "seconds": took,
                "joins_per_second": len(crowd.up) / took,
                "joins_per_cpu_second": len(crowd.up) / ((after["process_ns"] - before["process_ns"]) / 1e9),
                "up_ms": {f"p{n}": quantile(crowd.up, n / 100) * 1e3 for n in (50, 99)},
                "answered_ms": {f"p{n}": quantile(crowd.answered, n / 100) * 1e3 for n in (50, 99)},
                "main_us_per_join": (after["main_ns"] - before["main_ns"]) / 1e3 / options.joins,
                "other_threads_us_per_join": _others(before, after, options.joins),
                "generator_us_per_join": cpu * 1e6 / options.joins,
                "generator_late_ms": {f"p{n}": quantile(crowd.late, n / 100) * 1e3 for n in (50, 99)},
                "received_bytes_per_join": sum(wire.received for wire in crowd.wires) / options.joins,
                "latency_us": {"before": latency(calm, before), "storm": latency(before, after)},
            }
            if steps:
                told["steps_us_per_join"] = {
                    name: ns / 1e3 / options.joins for name, ns in sorted(steps.items(), key=lambda item: -item[1])
                }
            if options.load:
                await asyncio.sleep(QUIET_SECONDS)
                told["latency_us"]["after"] = latency(after, await server.ask("usage"))
        crowd.close()
        return told


def _others(before: dict[str, Any], after: dict[str, Any], joins: int) -> dict[str, float]:
    """CPU of the threads that are not the main thread."""
    spent = {name: ns - before["tasks"].get(name, 0) for name, ns in after["tasks"].items() if name != "main"}
    return {name: ns / 1e3 / joins for name, ns in spent.items() if ns > 1e3 * joins}


async def idle(options: argparse.Namespace) -> dict[str, Any]:
    """What a participant takes: half of them come, then the other half, so that what is there once does not count."""
    async with served() as server:
        crowd = Crowd(server.url, options.legs)
        rooms = [f"ward-{number}" for number in range(options.rooms)]
        for room in rooms:
            crowd.prepare(room)
            await crowd.cart(room)
        looks = [await server.ask("usage")]
        for part in range(2):
            numbers = range(part * options.joins // 2, (part + 1) * options.joins // 2)
            for start in range(numbers.start, numbers.stop, 50):
                now = time.monotonic()
                several = range(start, min(start + 50, numbers.stop))
                await asyncio.gather(*(crowd.viewer(rooms[n % len(rooms)], now) for n in several))
            await asyncio.sleep(1.0)
            looks.append(await server.ask("usage"))
        first, last = looks[1], looks[2]
        count = last["participants"] - first["participants"]
        told: dict[str, Any] = {
            "participants": last["participants"],
            "failed": crowd.failed[:5],
            "legs_each": options.legs,
        }
        for name in ("resident", "allocated", "blocks", "objects"):
            told[f"{name}_each"] = (last[name] - first[name]) / max(1, count)
        told["resident_mib"] = {"empty": looks[0]["resident"] / 2**20, "all": last["resident"] / 2**20}
        crowd.close()
        return told


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.joins", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=("storm", "idle"), nargs="?", default="storm")
    parser.add_argument("--rooms", type=int, default=100)
    parser.add_argument("--joins", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=1.0, help="over which they come")
    parser.add_argument("--legs", type=int, default=len(VIEWED), help="tracks that each views, at most 3")
    parser.add_argument("--load", type=int, default=0, help="viewers of a consultation that goes on meanwhile")
    parser.add_argument("--carts", type=int, default=1, help="consultations that go on meanwhile")
    parser.add_argument("--runs", type=int, default=1, help="storms, for a median")
    parser.add_argument("--steps", action="store_true", help="CPU of the main thread by step; it costs some itself")
    parser.add_argument("--first", action="store_true", help="worker and load run before all others (root)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    gc.disable()
    told = uvloop.run((storms if options.what == "storm" else idle)(options))
    text = json.dumps(told, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text)


if __name__ == "__main__":
    main()
