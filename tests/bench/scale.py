"""What two workers carry against one: CPU by the kernel's account, on one room that both serve.

    python -m tests.bench.scale [--windows 7] [--viewers 120] [--seconds 4]

A server with one worker and one with two have the same load at the same time, each made by a `mediaserver loadtest`
of its own: a cart, and viewers who with two workers are half on each, so that all of its packets cross from one to
the other. Counted is what the threads of the workers took (`schedstat` of proc(5), user and system) for each packet
that left. A worker that is busy for a share of its time carries that share divided by this, so two carry twice the
ratio of the two costs. Both servers are kept on one core and the load test on another: what is compared is the work,
not how cores share their caches.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from statistics import median

SECRET = "a-secret-of-the-benchmark-0123456789abcdef"
JOIN_SECONDS = 60
SETTLE_SECONDS = 2.5


def pinned(core: int) -> list[str]:
    cores = sorted(os.sched_getaffinity(0))
    return ["taskset", "-c", str(cores[core % len(cores)])] if shutil.which("taskset") else []


class Server:
    """`mediaserver serve` with so many workers, of which each takes so many of a room."""

    def __init__(self, data: str, workers: int, each: int) -> None:
        environ = os.environ | {
            "MEDIASERVER_MEDIA_WORKERS": str(workers),
            "MEDIASERVER_ROOMS_MAX_PARTICIPANTS": "10000",
            "MEDIASERVER_LIMITS_SPREAD_PERCENT": "100",
            "MEDIASERVER_LIMITS_SPREAD_PARTICIPANTS": str(each),
        }
        ports = ["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--tcp", "off"]
        command = [sys.executable, "-m", "mediaserver", "serve", *ports, "--data", data, "--secret", SECRET]
        self.workers = workers
        self.process = subprocess.Popen(
            [*pinned(0), *command], env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self.process.stdout is not None
        said = next(found for line in self.process.stdout if (found := re.search(r"http://[\d.]+:\d+", line)))
        self.url = said.group()
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def metric(self, name: str) -> list[float]:
        """Its values, by worker."""
        with urllib.request.urlopen(f"{self.url}/metrics") as response:
            text = response.read().decode()
        return [float(value) for value in re.findall(rf"^mediaserver_{name}{{worker=.*}} (\S+)$", text, re.MULTILINE)]

    def cpu(self) -> dict[str, int]:
        """ns by thread."""
        tasks = Path(f"/proc/{self.process.pid}/task")
        return {task.name: int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()}


class Window:
    """What a server's workers have taken and sent since it was opened."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._cpu, self._sent = server.cpu(), server.metric("plane_rtp_out_total")

    def close(self) -> tuple[float, float]:
        """ns for each packet, and the share of the packets that left the busiest worker."""
        server = self._server
        spent = sorted(now - self._cpu.get(thread, 0) for thread, now in server.cpu().items())[-server.workers :]
        sent = [now - before for now, before in zip(server.metric("plane_rtp_out_total"), self._sent, strict=True)]
        return sum(spent) / sum(sent), max(sent) / sum(sent)


def load(server: Server, viewers: int, seconds: float) -> subprocess.Popen[bytes]:
    """A cart and its viewers; they are in when this returns."""
    target = ["--url", server.url, "--secret", SECRET, "--profile", "video", "--decode", "0"]
    people = ["--carts", "1", "--viewers", str(viewers), "--seconds", str(seconds)]
    command = [*pinned(1), sys.executable, "-m", "mediaserver", "loadtest", *target, *people]
    generator = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + JOIN_SECONDS
    while sum(server.metric("worker_participants")) <= viewers:
        if time.monotonic() > deadline:
            raise SystemExit("the viewers did not come in")
        time.sleep(0.3)
    return generator


def compare(windows: int, viewers: int, seconds: float) -> float:
    """How many times as much two carry; the median of so many windows of time."""
    times = []
    with tempfile.TemporaryDirectory() as folder:
        servers = [Server(f"{folder}/{workers}", workers, viewers // workers + 1) for workers in (1, 2)]
        generators = [load(server, viewers, JOIN_SECONDS + windows * (seconds + 1)) for server in servers]
        try:
            time.sleep(SETTLE_SECONDS)
            for _ in range(windows):
                opened = [Window(server) for server in servers]
                time.sleep(seconds)
                (one, _), (two, share) = (window.close() for window in opened)
                times.append(2 * one / two)
                print(f"one {one:.0f} ns a packet, two {two:.0f} ns (the busier sends {share:.0%}): {times[-1]:.2f}")
        finally:
            for process in (*generators, *(server.process for server in servers)):
                process.terminate()
                process.wait()
    return median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=7)
    parser.add_argument("--viewers", type=int, default=120)
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    times = compare(options.windows, options.viewers, options.seconds)
    print(f"two workers carry {times:.2f} times what one does (median of {options.windows})")


if __name__ == "__main__":
    main()
