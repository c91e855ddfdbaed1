"""A server inside an application, as a process that tells what it uses.

    python -m tests.soak.served DATA

It prints where it is as a line of JSON, and then for each line that it is sent what it uses at that moment. At the end
of its standard input it ends. Participants that fall silent are removed after seconds here, so that a test can wait
for it.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

import uvloop

from mediaserver import Config, MediaServer
from mediaserver.run import set_up_logs
from mediaserver.settings import (
    AuthSettings,
    DataSettings,
    HttpSettings,
    MediaSettings,
    RecordingSettings,
    SignallingSettings,
)

SECRET = "a-secret-of-the-endurance-tests-0123456789"
SILENT_SECONDS = 6.0
"""What the longest of them that vanish without a word may stay."""
PAGE = os.sysconf("SC_PAGE_SIZE")


class MallInfo(ctypes.Structure):
    """`struct mallinfo2` of mallinfo(3)."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


LIBC = ctypes.CDLL(None)
LIBC.mallinfo2.restype = MallInfo


def settings(data: str) -> Config:
    return Config(
        http=HttpSettings(address="127.0.0.1:0"),
        media=MediaSettings(
            udp="127.0.0.1:0", workers=2, connect_seconds=SILENT_SECONDS / 2, consent_seconds=SILENT_SECONDS
        ),
        auth=AuthSettings(secret=SECRET),
        signalling=SignallingSettings(resume_seconds=2.0, join_seconds=2.0),
        recording=RecordingSettings(policy="on", settle_seconds=1.0),
        data=DataSettings(dir=data),
    )


def usage(server: MediaServer) -> dict[str, Any]:
    """What is in use. Memory that is free in the allocator's hands goes back to the system first."""
    gc.collect()
    LIBC.malloc_trim(0)
    malloc = LIBC.mallinfo2()
    counters = [slot.worker.counters() for slot in server.rooms.workers]
    recorder = server.metrics.recorder
    assert recorder is not None
    return {
        "resident": int(Path("/proc/self/statm").read_text().split()[1]) * PAGE,
        "allocated": malloc.uordblks + malloc.hblkhd,
        "blocks": sys.getallocatedblocks(),
        "objects": len(gc.get_objects()),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "tasks": len(asyncio.all_tasks()),
        "rooms": len(server.rooms),
        "ids": len(server.rooms.ids),
        "sockets": server.stats.sockets,
        "resources": sum(server.whip.count.values()),
        "recordings": len(recorder.recordings()),
        "packets_held": sum(one["packets_held"] for one in counters),
        "packet_memory": sum(one["pool_bytes"] for one in counters),
        "joins": sum(server.stats.joins.values()),
        "leaves": dict(server.stats.leaves),
    }


async def serve(data: str) -> None:
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with MediaServer(settings(data)) as server:
        where = {"url": server.url, "media": server.media_ports, "tasks": len(asyncio.all_tasks())}
        print(json.dumps(where), flush=True)
        while await lines.readline():
            print(json.dumps(usage(server)), flush=True)


if __name__ == "__main__":
    config = settings(sys.argv[1])
    set_up_logs(config.log)
    uvloop.run(serve(sys.argv[1]))
