"""A server inside an application for `tests.bench.joins`: it tells what it uses, and where its main thread's time goes.

    python -m tests.bench.crowded DATA

It prints where it is as a line of JSON, then answers each line that it is sent with a line of JSON: "usage" with what
it uses at that moment, "steps" with the CPU time of the main thread by step since it was last asked.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop

from mediaserver import Config, MediaServer, protocol
from mediaserver.auth import Verifier
from mediaserver.live_room import LiveRoom
from mediaserver.rooms import Rooms
from mediaserver.run import set_up_logs
from mediaserver.settings import (
    AuthSettings,
    DataSettings,
    HttpSettings,
    LogSettings,
    MediaSettings,
    RecordingSettings,
    RoomSettings,
    SignallingSettings,
)
from mediaserver.sfu.session import agreement, dtls, room
from mediaserver.signalling import Signalling
from tests.soak.served import LIBC, PAGE

SECRET = "a-secret-of-the-benchmark-of-joins-0123456789"


class Steps:
    """CPU time of one thread by step, each without the steps inside it, in ns."""

    def __init__(self) -> None:
        self.spent: dict[str, int] = {}
        self._inside: list[str] = []
        self._since = 0
        self._thread = threading.get_ident()

    def wrap(self, owner: Any, name: str, step: str) -> None:
        """Count the calls of a function or method as that step."""
        given = owner.__dict__[name] if isinstance(owner, type) else getattr(owner, name)
        plain = given.__func__ if isinstance(given, staticmethod) else given

        @functools.wraps(plain)
        def counted(*args: Any, **named: Any) -> Any:
            if threading.get_ident() != self._thread:
                return plain(*args, **named)
            self._turn()
            self._inside.append(step)
            try:
                return plain(*args, **named)
            finally:
                self._turn()
                self._inside.pop()

        setattr(owner, name, staticmethod(counted) if isinstance(given, staticmethod) else counted)

    def _turn(self) -> None:
        now = time.thread_time_ns()
        step = self._inside[-1] if self._inside else "the rest: sockets, HTTP, loop"
        self.spent[step] = self.spent.get(step, 0) + now - self._since
        self._since = now

    def read(self) -> dict[str, int]:
        """And begin again."""
        self._turn()
        spent, self.spent = self.spent, {}
        return spent


def watch(steps: Steps) -> None:
    """The steps of a join."""
    steps.wrap(protocol, "decode", "JSON")
    steps.wrap(protocol, "encode", "JSON")
    steps.wrap(Verifier, "verify", "token")
    steps.wrap(room, "parse", "SDP: parse")
    steps.wrap(room, "make_plan", "SDP: plan")
    steps.wrap(room, "carry_out", "SDP: carry out")
    steps.wrap(agreement, "_answer", "SDP: answer")
    steps.wrap(Signalling, "_join", "join")
    steps.wrap(Signalling, "dispatch", "dispatch")
    steps.wrap(LiveRoom, "broadcast", "telling the others")
    steps.wrap(Rooms, "_observe", "observers: audit, metrics, reports")
    steps.wrap(Rooms, "_on_plane_events", "reports of the data plane")
    steps.wrap(dtls.DtlsSession, "receive", "DTLS")
    steps.wrap(dtls.DtlsSession, "tick", "DTLS")


def settings(data: str) -> Config:
    return Config(
        http=HttpSettings(address="127.0.0.1:0"),
        media=MediaSettings(udp="127.0.0.1:0", workers=1, connect_seconds=120.0, consent_seconds=300.0),
        auth=AuthSettings(secret=SECRET),
        signalling=SignallingSettings(ping_seconds=300.0, join_seconds=120.0),
        rooms=RoomSettings(max_participants=20_000),
        recording=RecordingSettings(policy="off"),
        data=DataSettings(dir=data),
        log=LogSettings(level="warning"),
    )


def usage(server: MediaServer) -> dict[str, Any]:
    """CPU in ns, memory in bytes, latencies in µs."""
    gc.collect()
    LIBC.malloc_trim(0)
    malloc = LIBC.mallinfo2()
    names = {str(thread.native_id): thread.name for thread in threading.enumerate()}
    names[str(os.getpid())] = "main"
    tasks = {
        names.get(task.name, task.name): int((task / "schedstat").read_text().split()[0])
        for task in Path("/proc/self/task").iterdir()
    }
    (slot,) = server.rooms.workers
    pairs, _ = slot.worker.latency_histogram()
    return {
        "main_ns": tasks["main"],
        "process_ns": sum(tasks.values()),
        "tasks": tasks,
        "resident": int(Path("/proc/self/statm").read_text().split()[1]) * PAGE,
        "allocated": malloc.uordblks + malloc.hblkhd,
        "blocks": sys.getallocatedblocks(),
        "objects": len(gc.get_objects()),
        "participants": sum(len(one.members) for one in server.rooms.values()),
        "latency": pairs,
        "counters": slot.worker.counters(),
    }


def put_first(thread: threading.Thread) -> None:
    """Let it run before all others, as if it had a core of its own. PermissionError without the right."""
    assert thread.native_id is not None
    os.sched_setscheduler(thread.native_id, os.SCHED_FIFO, os.sched_param(1))


async def serve(data: str, steps: Steps) -> None:
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with MediaServer(settings(data)) as server:
        if "--first" in sys.argv:
            put_first(next(one for one in threading.enumerate() if one.name.startswith("worker-")))
        print(json.dumps({"url": server.url}), flush=True)
        answers: dict[str, Callable[[], Any]] = {"usage": lambda: usage(server), "steps": steps.read}
        while line := await lines.readline():
            print(json.dumps(answers[line.decode().strip()]()), flush=True)


if __name__ == "__main__":
    config = settings(sys.argv[1])
    set_up_logs(config.log)
    measured = Steps()
    if "--steps" in sys.argv:
        watch(measured)
    uvloop.run(serve(sys.argv[1], measured))
