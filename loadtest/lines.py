"""The lines of a scenario, in a process of their own: a relay between the peers of a load test and the server.

    python -m mediaserver.loadtest.lines --listen 127.0.0.2:40000 --server 127.0.0.1:40000 --late-every 100 --late-ms 5

stands by itself in front of a server that announces the address at which the relay listens, and makes that server
worse: of the packets to its peers `--loss` are lost, one in `--late-every` comes `--late-ms` later, or both for the
peer `--victim` alone, counted from 0 in the order of their coming. What the relay's process cost and how
late it was itself is printed at its end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from mediaserver.loadtest.relay import Relay
from mediaserver.loadtest.scenario import Line, Outage

Address = tuple[str, int]
LOOPBACK = "127.0.0.1"


class LineParams(msgspec.Struct, frozen=True):
    """A line in ns, fractions and bits a second; 0 is none, and without limit. One in `late_every` packets comes
    `late_ns` after the others; with a `victim`, that and loss are of this peer's alone."""

    delay_ns: int = 0
    jitter_ns: int = 0
    queue_ns: int = 300_000_000
    loss_up: float = 0.0
    loss_down: float = 0.0
    bits_up: float = 0.0
    bits_down: float = 0.0
    late_every: int = 0
    late_ns: int = 0
    victim: int = -1


def params_of(line: Line) -> LineParams:
    return LineParams(
        delay_ns=round(line.delay_ms * 1e6),
        jitter_ns=round(line.jitter_ms * 1e6),
        queue_ns=round(line.queue_ms * 1e6),
        loss_up=line.loss,
        loss_down=line.loss,
        bits_up=line.kbit_up * 1000,
        bits_down=line.kbit_down * 1000,
    )


class LinesError(Exception):
    """The relay's process does not do what it is asked to; says why."""


class Lines:
    """The relay's process, as the load test speaks to it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._turn = asyncio.Lock()
        self._doors: dict[tuple[str, Address], Address] = {}

    async def door(self, line: str, server: Address) -> Address:
        """Where to find the server through the line. Raises `LinesError`."""
        known = self._doors.get((line, server))
        if known is None:
            host, port = (await self._ask(door=line, server=server))["door"]
            known = self._doors[line, server] = (host, port)
        return known

    async def cut(self, outage: Outage, began_ns: int) -> int:
        """Let the outage come as long after `began_ns` as it says; when it ends, both on the monotonic clock."""
        begins = began_ns + round(outage.at_seconds * 1e9)
        ends = begins + round(outage.seconds * 1e9)
        await self._ask(outage=outage.lines, begins=begins, ends=ends)
        return ends

    async def figures(self) -> dict[str, float]:
        """What was carried and what was not, and how much CPU it took, in seconds."""
        return await self._ask(figures=True)

    async def _ask(self, **words: Any) -> dict[str, Any]:
        writer, reader = self._process.stdin, self._process.stdout
        assert writer is not None
        assert reader is not None
        async with self._turn:
            try:
                writer.write(json.dumps(words).encode() + b"\n")
                await writer.drain()
                line = await reader.readline()
            except ConnectionError:
                line = b""
        if not line:
            raise LinesError("the relay of the lines has ended")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise LinesError(answer["error"])
        return answer


@contextlib.asynccontextmanager
async def lines_process(lines: dict[str, Line]) -> AsyncIterator[Lines]:
    """The relay's process for as long as it is needed. Raises `LinesError`."""
    command = [sys.executable, "-m", "mediaserver.loadtest.lines", "--serve", msgspec.json.encode(lines).decode()]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    assert process.stdin is not None
    try:
        yield Lines(process)
    finally:
        process.stdin.close()  # its end
        try:
            await asyncio.wait_for(process.wait(), 5)
        except TimeoutError:
            process.kill()
            await process.wait()


# The process itself


def serve(lines: dict[str, Line]) -> None:
    """Answer what comes on the standard input, a line of JSON each, until it ends."""
    relay = Relay()
    numbers = {name: relay.line(params_of(line)) for name, line in lines.items()}
    relay.start()
    try:
        for text in sys.stdin:
            try:
                answer = _answer(relay, numbers, json.loads(text))
            except (OSError, IndexError, KeyError, ValueError) as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)
    finally:
        relay.close()


def _answer(relay: Relay, numbers: dict[str, int], words: dict[str, Any]) -> dict[str, Any]:
    if "door" in words:
        host, port = words["server"]
        listen = ("::1", 0) if ":" in host else (LOOPBACK, 0)
        return {"door": relay.door(numbers[words["door"]], listen, (host, port))}
    if "outage" in words:
        for name in words["outage"]:
            relay.outage(numbers[name], words["begins"], words["ends"])
        return {}
    return {**relay.figures(), "cpu_seconds": time.process_time()}


def stand(listen: Address, server: Address, params: LineParams) -> dict[str, float]:
    """Relay between an address and a server until SIGINT or SIGTERM; the figures."""
    relay = Relay()
    relay.door(relay.line(params), listen, server)
    relay.start()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(f"relaying {listen[0]}:{listen[1]} to {server[0]}:{server[1]}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()
    relay.close()
    return {**relay.figures(), "cpu_seconds": time.process_time()}


def address_of(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def main() -> None:
    parser = argparse.ArgumentParser(description="A relay that makes a server worse.")
    parser.add_argument("--serve", metavar="LINES", help="Lines as JSON; doors are asked for on the standard input.")
    parser.add_argument("--listen", type=address_of, metavar="ADDR:PORT", help="Where the peers come to.")
    parser.add_argument("--server", type=address_of, metavar="ADDR:PORT", help="Where the server is.")
    parser.add_argument("--loss", type=float, default=0.0, help="Of the packets to the peers, as a fraction.")
    parser.add_argument("--late-every", type=int, default=0, metavar="N", help="One in so many packets is late ...")
    parser.add_argument("--late-ms", type=float, default=0.0, help="... by so much.")
    parser.add_argument(
        "--victim", type=int, default=-1, help="The peer that suffers alone, from 0 in order of coming."
    )
    given = parser.parse_args()
    if given.serve is not None:
        serve(msgspec.json.decode(given.serve, type=dict[str, Line]))
        return
    if given.listen is None or given.server is None:
        parser.error("--listen and --server are needed")
    params = LineParams(
        loss_down=given.loss, late_every=given.late_every, late_ns=round(given.late_ms * 1e6), victim=given.victim
    )
    print(json.dumps(stand(given.listen, given.server, params)))


if __name__ == "__main__":
    main()
