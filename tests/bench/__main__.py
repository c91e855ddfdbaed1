"""`make bench`: what forwarding costs, as the load test sees it, medians of several runs.

    python -m tests.bench [--runs N] [--seconds S] [--json FILE]

Each run starts a server of its own with one worker and loads it over loopback from a generator that polls. Machines
differ and are shared: compare figures of one machine and one day, by their medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

CASES = {
    "video x 50 viewers": ("video", 1, 50),
    "video x 10 viewers x 8 rooms": ("video", 8, 10),
    "audio x 200 viewers": ("audio", 1, 200),
    "ultrasound consultations x 10, 3 doctors": ("ultrasound", 10, 3),
}


def measure(profile: str, carts: int, viewers: int, seconds: float) -> dict[str, Any]:
    """The load test's report of one run. SystemExit when the test could not be made."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "mediaserver", "loadtest", "--spin", "--profile", profile]
        command += ["--carts", str(carts), "--viewers", str(viewers), "--seconds", str(seconds), "--json", str(report)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1) or not report.exists():
            raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        loaded: dict[str, Any] = json.loads(report.read_bytes())
        return loaded


def summary(reports: list[dict[str, Any]]) -> dict[str, float]:
    """Medians over the runs; latencies are of the worst source."""

    def median(read: Any) -> float:
        return statistics.median(read(report) for report in reports)

    return {
        "packets/s out": median(lambda r: r["packets_per_second"]["out"]),
        "CPU µs/packet": median(lambda r: r["server"]["cpu_us_per_forwarded_packet"]),
        "user share": median(lambda r: r["server"]["user_share"]),
        "p50 ms": median(lambda r: max(s["latency_ms"]["p50"] for s in r["sources"])),
        "p99 ms": median(lambda r: max(s["latency_ms"]["p99"] for s in r["sources"])),
        "lost": median(lambda r: sum(s["lost"] for s in r["sources"])),
        "MiB": median(lambda r: r["server"]["resident_mib"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--json", type=Path, help="where to write the medians")
    options = parser.parse_args()
    results = {}
    console = Console()
    table = Table("case")
    for name, case in CASES.items():
        console.print(f"{name}: {options.runs} runs of {options.seconds:g} s")
        results[name] = summary([measure(*case, options.seconds) for _ in range(options.runs)])
    for heading in next(iter(results.values())):
        table.add_column(heading, justify="right")
    for name, figures in results.items():
        table.add_row(name, *(f"{figure:,.2f}" for figure in figures.values()))
    console.print(table)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
