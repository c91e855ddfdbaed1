"""What the server process costs and says: CPU from /proc, its own counters from /metrics, drops of its sockets."""

from __future__ import annotations

import os
import re
from pathlib import Path

import aiohttp
import msgspec

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class ProcessSample(msgspec.Struct, frozen=True):
    """`cpu_seconds` is exact to the nanosecond, over all threads, and `by_thread` for each by its number; user and
    system time come in clock ticks."""

    cpu_seconds: float
    user_seconds: float
    system_seconds: float
    resident_bytes: int
    descriptors: int
    threads: int
    by_thread: dict[int, float] = {}

    def busiest_thread(self, earlier: ProcessSample) -> float:
        """CPU seconds since then of the thread that took the most of those that were there then."""
        spent = (now - earlier.by_thread[tid] for tid, now in self.by_thread.items() if tid in earlier.by_thread)
        return max(spent, default=0.0)


class Process:
    """One process of this machine."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._root = Path(f"/proc/{pid}")

    def sample(self) -> ProcessSample:
        """Raises `OSError` when the process is gone or another user's."""
        # After the command's name, which may hold anything but ends with the last bracket (proc(5)).
        fields = (self._root / "stat").read_text().rpartition(")")[2].split()
        by_thread = {int(task.name): _run_time(task) / 1e9 for task in (self._root / "task").iterdir()}
        return ProcessSample(
            cpu_seconds=sum(by_thread.values()),
            user_seconds=int(fields[11]) / _TICKS,
            system_seconds=int(fields[12]) / _TICKS,
            resident_bytes=int((self._root / "statm").read_text().split()[1]) * _PAGE,
            descriptors=len(list((self._root / "fd").iterdir())),
            threads=len(by_thread),
            by_thread=by_thread,
        )


def _run_time(task: Path) -> int:
    try:
        return int((task / "schedstat").read_text().split()[0])
    except (OSError, IndexError):
        return 0  # the thread has just ended


def thread_seconds(native_id: int) -> float:
    """CPU of a thread of this process; 0 where the kernel does not tell."""
    return _run_time(Path(f"/proc/self/task/{native_id}")) / 1e9


_SAMPLE = re.compile(r"^([A-Za-z_:][A-Za-z0-9_:]*)(?:\{([^}]*)\})? (\S+)")


async def scrape(http: aiohttp.ClientSession, url: str, *, verify: bool = True) -> dict[str, float]:
    """The server's metrics, summed over workers; a `cause` goes into the name. Empty when it has none to show."""
    try:
        async with http.get(url.rstrip("/") + "/metrics", ssl=verify) as response:
            text = await response.text() if response.status == 200 else ""
    except (aiohttp.ClientError, TimeoutError):
        return {}
    return read_metrics(text)


def read_metrics(text: str) -> dict[str, float]:
    """Of Prometheus' text format what the report needs: samples by name, and by cause where there is one."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        match = _SAMPLE.match(line)
        if match is None or match[1].endswith("_bucket"):
            continue
        cause = re.search(r'cause="([^"]*)"', match[2] or "")
        name = f"{match[1]}.{cause[1]}" if cause else match[1]
        try:
            found[name] = found.get(name, 0.0) + float(match[3])
        except ValueError:
            continue
    return found
