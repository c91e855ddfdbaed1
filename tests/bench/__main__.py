"""`make bench`: what forwarding costs, beside the least that it takes on this machine. docs/performance.md says how to
read it.

    python -m tests.bench [--only PART] [--quick] [--runs N] [--seconds S] [--json FILE] [--update-baseline]
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from mediaserver.sfu.wire import gcm
from tests.bench import instructions, server

PARTS = ("kernels", "forwarding", "capacity", "memory", "city")
LOG_WIDTH = 150
CITY_PER_CORE = 4
"""Consultations of the mixed load for each core of the machine, which the generator and the recorder share."""


def show_kernels(console: Console, *, update: bool) -> tuple[dict[str, Any], bool]:
    """The counts, and whether they are within what the baseline allows."""
    names = list(instructions.kernels({}))
    times = instructions.time_kernels(names)
    try:
        counts = instructions.count_kernels(names)
    except FileNotFoundError as error:
        console.print(f"[yellow]Instructions are not counted: {error}")
        counts = {}
    if update and counts:
        instructions.store_baseline(counts)
        console.print(f"The baseline is in {instructions.BASELINE.name}.")
    baseline = instructions.load_baseline()
    comparable = baseline is not None and baseline.made_by == instructions.made_by()
    table = Table("kernel", title="Kernels, a turn or a forwarded packet")
    for heading in ("ns", "own instructions", "with libraries", "baseline", "change"):
        table.add_column(heading, justify="right")
    regressed = instructions.worse(counts, baseline) if baseline is not None and comparable else []
    for name in names:
        row = [f"{times[name]:,.0f}"]
        if name in counts:
            row += [f"{counts[name].own:,.0f}", f"{counts[name].all:,.0f}"]
            if baseline is not None and comparable and name in baseline.kernels:
                before = baseline.kernels[name].own
                row += [f"{before:,.0f}", f"{(counts[name].own / before - 1) * 100 if before else 0:+.1f} %"]
        table.add_row(name, *row, style="red" if name in regressed else "")
    console.print(table)
    if counts and baseline is not None and not comparable:
        console.print(f"[yellow]Not compared: the baseline is of {baseline.made_by}, this is {instructions.made_by()}.")
    for name in regressed:
        console.print(f"[red]{name} takes more than {instructions.ALLOWED:.0%} more instructions than the baseline.")
    figures = {
        name: {"ns": times[name], **({"own": counts[name].own, "all": counts[name].all} if name in counts else {})}
        for name in names
    }
    return figures, not regressed


def show_forwarding(console: Console, runs: int, seconds: float, quick: bool) -> dict[str, Any]:
    libraries = ["openssl"] if gcm.obstacle() else ["auto", "openssl"]
    cpu = Table("load", "AES-GCM", title="CPU of the forwarding thread, µs a forwarded packet (user + system): medians")
    for heading in ("server", "bare", "ratio", "least, most", "patient", "ratio", "whole process"):
        cpu.add_column(heading, justify="right")
    rest = Table("load", "AES-GCM", title="The same runs: latency from the publisher's send to the viewer's socket, ms")
    for heading in ("packets/s", "of a message", "p50", "p99", "p99.9", "bare p99", "generator late", "lost", "MiB"):
        rest.add_column(heading, justify="right")
    found = {}
    for name in server.QUICK if quick else server.CASES:
        for library in libraries:
            called = "OpenSSL" if library == "openssl" else "ipsec-mb"
            console.print(f"{name}, {called}: {runs} pairs of {seconds:g} s")
            one = found[f"{name}, {called}"] = server.compare(name, runs, seconds, library)
            cpu.add_row(
                name,
                called,
                f"{one.server_us:.2f} ({one.server_user_us:.2f} + {one.server_system_us:.2f})",
                f"{one.bare_us:.2f} ({one.bare_user_us:.2f} + {one.bare_system_us:.2f})",
                f"{one.ratio:.2f}",
                f"{one.ratio_least:.2f}, {one.ratio_most:.2f}",
                f"{one.patient_us:.2f}" if one.patient_us else "",
                f"{one.patient_ratio:.2f}" if one.patient_ratio else "",
                f"{one.process_us:.2f}",
            )
            latencies = (one.p50_ms, one.p99_ms, one.p999_ms, one.bare_p99_ms, one.generator_late_ms)
            rest.add_row(
                name,
                called,
                f"{one.packets_out:,.0f}",
                f"{one.run:.1f}",
                *(f"{ms:.2f}" for ms in latencies),
                str(one.lost),
                f"{one.resident_mib:.0f}",
            )
    console.print(cpu, rest)
    return {name: msgspec.to_builtins(one) for name, one in found.items()}


def show_capacity(console: Console, seconds: float, quick: bool) -> dict[str, Any]:
    found = server.find_capacity(lambda carts: server.step(carts, seconds), 2 if quick else 64, console.print)
    found = server.beside_bare(found, seconds)
    table = Table("load", title="How much one worker carries: video of 2.5 Mbit/s, 50 viewers of each cart")
    for heading in (
        "carts",
        "packets/s",
        "of a core",
        "of a whole one",
        "lost",
        "p50",
        "p99",
        "p99.9",
        "bare p99",
        "CPU to bare",
        "generator late, ms",
    ):
        table.add_column(heading, justify="right")
    rows: list[tuple[str, server.Step | None]] = [("tried", one) for one in found.steps]
    rows += [("under 0.1 % loss", found.lossless), ("and p99 under 2 ms", found.prompt), *found.at.items()]
    for name, one in rows:
        if one is not None:
            latency = [f"{one.latency_ms[rank]:.2f}" for rank in ("p50", "p99", "p99.9")]
            bare, ratio = (found.bare.get(one.carts), found.ratio(one)) if name != "tried" else (None, None)
            latency += [f"{bare.latency_ms['p99']:.2f}" if bare else "", f"{ratio:.2f}" if ratio else ""]
            table.add_row(
                name,
                str(one.carts),
                f"{one.packets_out:,.0f}",
                f"{one.core:.2f}",
                f"{one.whole_core:,.0f}",
                f"{one.lost_share:.3%}",
                *latency,
                f"{one.generator_late_ms:.1f}" + (" !" if one.own else ""),
            )
    console.print(table)
    console.print(f"The search ended by {found.ended_by}.")
    if found.busiest < server.SATURATED:
        console.print(
            f"[yellow]The worker took {found.busiest:.2f} of a core at most: its own limit is not shown. Packets/s "
            "of a whole one are what its cost at that load would make of a core."
        )
    return dict(msgspec.to_builtins(found, str_keys=True))


def show_memory(console: Console, quick: bool) -> dict[str, Any]:
    found = server.memory(400 if quick else 2000)
    table = Table("of", "KiB", title="Memory of the server's process")
    for name, kibibytes in found.items():
        table.add_row(name, f"{kibibytes:,.1f}")
    console.print(table)
    return dict(found)


def show_city(console: Console, seconds: float, quick: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        found = server.city(2 if quick else CITY_PER_CORE * (os.cpu_count() or 2), seconds, Path(folder))
    table = Table("", "", title="A city's evening (a quarter with ultrasound), recorded")
    for name, value in found.items():
        if name == "sources":
            for one in value:
                latency = ", ".join(f"{rank} {ms:.2f}" for rank, ms in one["latency_ms"].items())
                table.add_row(one["source"], f"{latency} ms; {one['lost']} lost")
        else:
            table.add_row(name, f"{value:,.2f}" if isinstance(value, float) else str(value))
    console.print(table)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=PARTS, action="append", help="a part alone; may be given several times")
    parser.add_argument("--quick", action="store_true", help="fewer cases, runs and seconds: for a first look")
    parser.add_argument("--runs", type=int, help="pairs of runs of each load: 5")
    parser.add_argument("--seconds", type=float, help="of each run: 6")
    parser.add_argument("--json", type=Path, help="where to write everything")
    parser.add_argument("--update-baseline", action="store_true", help="keep these instruction counts as the baseline")
    options = parser.parse_args()
    parts = (
        [part for part in PARTS if part in options.only]
        if options.only
        else ["kernels"]
        if options.update_baseline
        else list(PARTS)
    )
    runs, seconds = options.runs or (2 if options.quick else 5), options.seconds or (3 if options.quick else 6)
    console = Console()
    if not console.is_terminal:
        console.width = LOG_WIDTH
    results: dict[str, Any] = {
        "machine": platform.processor() or platform.machine(),
        "kernel": platform.release(),
        "made_by": instructions.made_by(),
        "library": gcm.library(),
    }
    if options.json:
        options.json.touch()  # where it can't be written that is to be said now, not after half an hour
    good = True
    for part in parts:
        began = time.monotonic()
        if part == "kernels":
            results[part], good = show_kernels(console, update=options.update_baseline)
        elif part == "forwarding":
            results[part] = show_forwarding(console, runs, seconds, options.quick)
        elif part == "capacity":
            results[part] = show_capacity(console, seconds, options.quick)
        elif part == "memory":
            results[part] = show_memory(console, options.quick)
        elif part == "city":
            results[part] = show_city(console, 2 * seconds, options.quick)
        console.print(f"{part}: {time.monotonic() - began:.0f} s")
        # What is known is kept, whatever becomes of the parts that follow.
        if options.json:
            options.json.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=2) + b"\n")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
