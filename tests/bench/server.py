"""The server under load, in turns with the bare loop: what a forwarded packet costs, how much is carried, with what."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from tests.bench.build import ROOT, load
from tests.bench.forwarding import Run
from tests.bench.scenes import Scene, build, record

CASES = {
    "video to 10": ("video", 1, 10),
    "video to 50": ("video", 1, 50),
    "video to 200": ("video", 1, 200),
    "video, 32 rooms of 10": ("video", 32, 10),
    "sound to 200": ("audio", 1, 200),
}
"""Profile of the load test, carts, viewers of each. Video is 2.5 Mbit/s with 30 frames, sound 50 packets a second."""
QUICK = ("video to 50", "sound to 200")
VIEWERS = 50
"""Of each cart of the search."""
WIDE_OPEN = ("MEDIASERVER_LIMITS_BUSY_PERCENT=100", "MEDIASERVER_LIMITS_RESERVE_PERCENT=50")
"""The search goes beyond what a server would let in."""
SATURATED = 0.9
"""Of a core, from which on the worker may be said to have been at its limit."""
BEHIND_MS = 1000 / 30
"""A generator that is later than this (p99) sends less than it should."""
MAX_LOSS = 0.001
MAX_P99_MS = 2.0
LATE_MS = 2.0
"""A generator that is later than this (p99) proves nothing of the server's latency."""
_RUN_SECONDS = 120
_JOINS_SECONDS = 600

Tell = Callable[[str], None]


class Compared(msgspec.Struct, frozen=True):
    """Medians over the pairs. CPU in µs a forwarded packet; `ratio` is that of the forwarding threads, pair by pair,
    `patient_ratio` the same to the patient loop. `run` is in datagrams of a message to the kernel."""

    library: str
    pairs: int
    packets_out: float
    server_us: float
    server_user_us: float
    server_system_us: float
    process_us: float
    bare_us: float
    bare_user_us: float
    bare_system_us: float
    ratio: float
    ratio_least: float
    ratio_most: float
    patient_us: float | None
    patient_ratio: float | None
    run: float
    bare_run: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    bare_p99_ms: float
    generator_late_ms: float
    lost: int
    resident_mib: float


class Step(msgspec.Struct, frozen=True):
    """One load of the search. `core` is the share of a core that the forwarding thread took. `ended_by` says what kept
    it from being carried, "" when it was; `own` that the generator was in trouble then, so that it says nothing of the
    server."""

    carts: int
    packets_out: float
    core: float
    lost_share: float
    latency_ms: dict[str, float]
    generator_late_ms: float
    ended_by: str = ""
    own: bool = False

    @property
    def prompt(self) -> bool:
        return not self.ended_by and self.latency_ms["p99"] < MAX_P99_MS

    @property
    def whole_core(self) -> float:
        """Packets a second at this cost, if the thread had a whole core: what no step has shown."""
        return self.packets_out / self.core if self.core else 0.0


class Capacity(msgspec.Struct, frozen=True):
    """The most that was carried at under 0.1 % loss, and with the 99th percentile under 2 ms as well. `ended_by` says
    what kept the search from going further, `busiest` how much of a core the worker took at most: where that is under
    `SATURATED`, its own limit was not shown. `at` are steps at 10, 50 and 80 % of the prompt one. `bare` is, by number
    of carts, the same load through the bare loop."""

    lossless: Step | None
    prompt: Step | None
    ended_by: str
    busiest: float
    at: dict[str, Step]
    steps: list[Step]
    bare: dict[int, Run] = {}

    def ratio(self, one: Step) -> float | None:
        """CPU of the worker to that of the bare loop, a forwarded packet, at this step's load."""
        bare = self.bare.get(one.carts)
        return one.core * 1e6 / one.packets_out / bare.thread_us if bare is not None and one.packets_out else None


def forward(kind: str, profile: str, carts: int, viewers: int, seconds: float, library: str, *settings: str) -> Run:
    """One run in a process of its own; `settings` are variables of the server's environment. Raises RuntimeError with
    what it said when it failed."""
    command = [sys.executable, "-m", "tests.bench.forwarding", kind, profile, str(carts), str(viewers), str(seconds)]
    command += ["--library", library, *(part for setting in settings for part in ("--set", setting))]
    done = subprocess.run(command, capture_output=True, cwd=ROOT, timeout=_RUN_SECONDS + 10 * seconds, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:])}:\n{done.stderr.decode(errors='replace')[-2000:]}")
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Run)


def compare(name: str, pairs: int, seconds: float, library: str) -> Compared:
    """In turns, so that whatever else the machine does meets all of them."""
    bare, server, patient = [], [], []
    for _ in range(pairs):
        if CASES[name][0] == "video":
            patient.append(forward("patient", *CASES[name], seconds, library))
        bare.append(forward("bare", *CASES[name], seconds, library))
        server.append(forward("server", *CASES[name], seconds, library))
    ratios = [one.thread_us / other.thread_us for one, other in zip(server, bare, strict=True)]

    def median(runs: list[Run], read: Callable[[Run], float]) -> float:
        return statistics.median(read(run) for run in runs)

    return Compared(
        library=library,
        pairs=pairs,
        packets_out=median(server, lambda run: run.packets_out),
        server_us=median(server, lambda run: run.thread_us),
        server_user_us=median(server, lambda run: run.user_us),
        server_system_us=median(server, lambda run: run.system_us),
        process_us=median(server, lambda run: run.process_us),
        bare_us=median(bare, lambda run: run.thread_us),
        bare_user_us=median(bare, lambda run: run.user_us),
        bare_system_us=median(bare, lambda run: run.system_us),
        ratio=statistics.median(ratios),
        ratio_least=min(ratios),
        ratio_most=max(ratios),
        patient_us=median(patient, lambda run: run.thread_us) if patient else None,
        patient_ratio=statistics.median(
            one.thread_us / other.thread_us for one, other in zip(server, patient, strict=True)
        )
        if patient
        else None,
        run=median(server, lambda run: run.messages),
        bare_run=median(bare, lambda run: run.messages),
        p50_ms=median(server, lambda run: run.latency_ms["p50"]),
        p99_ms=median(server, lambda run: run.latency_ms["p99"]),
        p999_ms=median(server, lambda run: run.latency_ms["p99.9"]),
        bare_p99_ms=median(bare, lambda run: run.latency_ms["p99"]),
        generator_late_ms=median(server, lambda run: run.generator_late_ms),
        lost=sum(run.lost for run in server),
        resident_mib=median(server, lambda run: run.resident_mib),
    )


# How much is carried


def step(carts: int, seconds: float) -> Step:
    run = forward("server", "video", carts, VIEWERS, seconds, "auto", *WIDE_OPEN)
    own = run.generator_lost > 0 or run.generator_late_ms > LATE_MS
    lost_share = run.lost / max(1, run.sent + run.lost)
    ended_by = ""
    if run.refused:
        ended_by = f"{run.refused} who did not come in ({run.refusal})"
    elif lost_share >= MAX_LOSS:
        ended_by = f"loss of {lost_share:.2%}"
    elif run.generator_late_ms > BEHIND_MS:
        ended_by = f"{run.packets_in:,.0f} packets/s sent, which is not all"
    if ended_by and own:
        ended_by += (
            f", with the generator in trouble: one frame in a hundred {run.generator_late_ms:.1f} ms late, "
            f"{run.generator_lost} datagrams lost at its own sockets"
        )
    return Step(
        carts=carts,
        packets_out=run.packets_out,
        core=run.thread_us * run.packets_out / 1e6,
        lost_share=lost_share,
        latency_ms=run.latency_ms,
        generator_late_ms=run.generator_late_ms,
        ended_by=ended_by,
        own=own,
    )


def find_capacity(play: Callable[[int], Step], most: int, tell: Tell) -> Capacity:
    """Carts of 2.5 Mbit/s with 50 viewers each: doubled until one step is not carried, then what lies between is halved
    to within an eighth, for what is carried at all and for what is carried promptly. `play` tries so many carts."""
    tried: dict[int, Step] = {}

    def attempt(carts: int) -> Step:
        if carts not in tried:
            tried[carts] = one = play(carts)
            p99 = one.latency_ms["p99"]
            tell(
                f"{carts} carts with {VIEWERS} viewers each: p99 {p99:.2f} ms"
                + (f"; {one.ended_by}" if one.ended_by else "")
            )
        return tried[carts]

    carts = 1
    while not attempt(carts).ended_by and carts < most:
        carts = min(2 * carts, most)
    lossless = _greatest(attempt, tried, lambda one: not one.ended_by)
    prompt = _greatest(attempt, tried, lambda one: one.prompt)
    beyond = min((one for one in tried.values() if one.ended_by), key=lambda one: one.carts, default=None)
    at = {}
    if prompt is not None:
        for percent in (10, 50, 80):
            at[f"{percent} %"] = attempt(max(1, round(prompt.carts * percent / 100)))
    return Capacity(
        lossless=lossless,
        prompt=prompt,
        ended_by=beyond.ended_by if beyond is not None else f"the limit of {most} carts",
        busiest=max(one.core for one in tried.values()),
        at=at,
        steps=[tried[carts] for carts in sorted(tried)],
    )


def beside_bare(found: Capacity, seconds: float) -> Capacity:
    """The same with the bare loop's runs at the loads that are quoted."""
    quoted = {one.carts for one in (found.prompt, *found.at.values()) if one is not None}
    runs = {carts: forward("bare", "video", carts, VIEWERS, seconds, "auto") for carts in sorted(quoted)}
    return msgspec.structs.replace(found, bare=runs)


def _greatest(attempt: Callable[[int], Step], tried: dict[int, Step], good: Callable[[Step], bool]) -> Step | None:
    """The most carts that are good, to within an eighth; None where not even the fewest are."""
    while True:
        most = max((one.carts for one in tried.values() if good(one)), default=0)
        least = min((one.carts for one in tried.values() if one.carts > most), default=0)
        if not most or not least or least - most <= max(1, most // 8):
            return tried.get(most)
        attempt((most + least) // 2)


# What it takes


def idle(legs: int, joins: int) -> dict[str, float]:
    """Bytes of the server's process for a participant with so many legs. Raises RuntimeError with what it said when it
    failed."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder, "idle.json")
        command = [sys.executable, "-m", "tests.bench.joins", "idle", "--rooms", "10", "--joins", str(joins)]
        command += ["--legs", str(legs), "--json", str(told)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=_JOINS_SECONDS, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command[1:])}:\n{done.stderr[-2000:]}")
        return dict(msgspec.json.decode(told.read_bytes()))


def memory(joins: int) -> dict[str, float]:
    """KiB of the server's process: for a participant with one leg, for one more leg, and in the worker's own
    structures; and for a second of the history of 2.5 Mbit/s. The first two are the growth of one process by its second
    half of participants: two processes differ by more, as each keeps what its handshakes took while they were under
    way."""
    one, three = idle(1, joins), idle(3, joins)
    scene = Scene(1, warm=0, frames=30)
    engine, _ = build(scene)
    kernels = load("kernels")
    played = kernels.EngineKernel(engine, record(scene)[1])
    before = engine.counters()["packets_held"]
    played.run(played.turns)
    held = engine.counters()["packets_held"] - before
    sizes = kernels.sizes()
    return {
        "participant with a leg": one["resident_each"] / 1024,
        "further leg": (three["resident_each"] - one["resident_each"]) / 2 / 1024,
        "further leg, as allocated": (three["allocated_each"] - one["allocated_each"]) / 2 / 1024,
        "worker's part of a viewer": (sizes["peer"] + sizes["sender"]) / 1024,
        "worker's part of a leg": (sizes["leg"] + sizes["gate"]) / 1024,
        "second of history": held * sizes["packet"] / 1024,
    }


# The mixed load


def city(consultations: int, seconds: float, folder: Path) -> dict[str, Any]:
    """The scenario city-evening, recorded: the load test's own report, shortened."""
    report = folder / "city.json"
    command = [sys.executable, "-m", "mediaserver", "loadtest", "--scenario", "city-evening", "--record", "on"]
    command += ["--consultations", str(consultations), "--seconds", str(seconds), "--ramp", "2", "--json", str(report)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=_RUN_SECONDS + 10 * seconds, check=False
    )
    if done.returncode not in (0, 1) or not report.exists():
        raise RuntimeError(f"{' '.join(command[1:])}:\n{done.stderr[-2000:]}")
    whole = msgspec.json.decode(report.read_bytes())
    return {
        "consultations": consultations,
        "passed": whole["passed"],
        "own_limit": whole["own_limit"],
        "packets_out": whole["packets_per_second"]["out"],
        "cpu_cores": whole["server"]["cpu_cores"],
        "process_us": whole["server"]["cpu_us_per_forwarded_packet"],
        "resident_mib": whole["server"]["resident_mib"],
        "recorder_backlog": whole["server"].get("recorder_backlog_packets_max", 0),
        "generator_late_ms": whole["generator"]["sender_lateness_p99_ms"],
        "sources": [
            {"source": one["source"], "latency_ms": one["latency_ms"], "lost": one["lost"]} for one in whole["sources"]
        ],
        "broken": [check["name"] for check in whole["checks"] if not check["holds"]],
    }
