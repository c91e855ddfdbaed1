"""The kernels, in ns and in instructions: what callgrind counts is the same each time, whatever else the machine does.

    python -m tests.bench.instructions --child LIST FILE     (callgrind runs this)

An instruction count is that of the compiler that made it, so the stored baseline names its own, and is compared with
no other's. Of each kernel two counts are kept: of the product's own extensions, and of all, libraries included.
"""

from __future__ import annotations

import argparse
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import Cython
import msgspec

from mediaserver.codecs.payload import Codec, assembler
from mediaserver.sfu.wire import gcm, packet, rtcp_packets
from mediaserver.sfu.wire.packet import ExtKind
from mediaserver.sfu.wire.srtp import (
    PROFILE_AEAD_AES_128_GCM,
    PROFILE_AEAD_AES_256_GCM,
    PROFILE_AES128_CM_SHA1_80,
)
from tests.bench.build import load
from tests.bench.scenes import CAPTURE, EXTENSIONS, MID, TWCC, Batch, Scene, build, record

BASELINE = Path(__file__).with_name("baseline.json")
ALLOWED = 0.10
"""More instructions than the baseline by this share are a regression."""
_ROUNDS = 5
_SECONDS = 0.05
_PROFILES = {
    "AES-CM + SHA1": (PROFILE_AES128_CM_SHA1_80, 16, 14),
    "AES-128-GCM": (PROFILE_AEAD_AES_128_GCM, 16, 12),
    "AES-256-GCM": (PROFILE_AEAD_AES_256_GCM, 32, 12),
}
_PAYLOADS = {
    "VP8": (Codec.CODEC_VP8, bytes([0x90, 0x80, 0x81, 0x23, 0x01, 0, 0]) + bytes(1100)),
    "H.264": (Codec.CODEC_H264, bytes([0x7C, 0x81]) + bytes(1100)),
    "Opus": (Codec.CODEC_OPUS, bytes([0x78]) + bytes(99)),
}
SCENES = {
    "fan-out to 1 viewer": Scene(1),
    "fan-out to 10 viewers": Scene(10),
    "fan-out to 50 viewers": Scene(50),
    "sound to 200 viewers": Scene(200, video=False),
    "fan-out to 50 viewers, 1 % repaired": Scene(50, lose=100),
}
"""Per forwarded packet, with all that belongs to it: history, feedback, estimation, pacing, reports."""


class Counted(msgspec.Struct, frozen=True):
    """Instructions of one turn, or one forwarded packet."""

    own: float
    all: float


class Baseline(msgspec.Struct, frozen=True):
    """`made_by` is the compiler and the machine's kind; counts of others can't be compared."""

    made_by: str
    kernels: dict[str, Counted]


class Ready(msgspec.Struct):
    """A kernel to run: so many `turns` are `units` of what is quoted."""

    kernel: Any
    turns: int
    units: float
    once: bool = False
    """it can be run through only once"""


def made_by() -> str:
    """What an instruction count hangs on, besides the source."""
    compiler = subprocess.run(["cc", "-dumpfullversion"], capture_output=True, text=True, check=True).stdout.strip()
    return f"cc {compiler}, Cython {Cython.__version__}, {platform.machine()}"


# The kernels


def _crypto(profile: str, size: int, opens: bool) -> Ready:
    number, key, salt = _PROFILES[profile]
    kernel = load("kernels").CryptoKernel(number, bytes(range(key)), bytes(range(salt)), size, opens)
    return Ready(kernel, 2000, 2000)


def _library(library: str, made: Callable[[], Ready]) -> Ready:
    gcm.choose("openssl" if library == "OpenSSL" else "auto")
    try:
        return made()
    finally:
        gcm.choose("auto")


def _header() -> Ready:
    values = {ExtKind.EXT_MID: b"0", ExtKind.EXT_TWCC: b"\1\2", ExtKind.EXT_ABS_CAPTURE_TIME: bytes(8)}
    extensions = packet.write_extensions(values, {MID: 1, TWCC: 4, CAPTURE: 7})
    data = packet.write_rtp(
        payload_type=96, marker=True, sequence=1, timestamp=2, ssrc=3, extensions=extensions, payload=bytes(100)
    )
    return Ready(load("kernels").WireKernel("header", data, EXTENSIONS), 5000, 5000)


def _feedback() -> Ready:
    arrivals = [1_000_000 + 700 * number if number % 10 else None for number in range(1, 51)]
    message, _ = rtcp_packets.write_transport(1, 2, 0, 100, arrivals)
    return Ready(load("kernels").WireKernel("read feedback", message), 2000, 2000)


def _wire(what: str) -> Ready:
    return Ready(load("kernels").WireKernel(what), 2000, 2000)


def _facts(codec: str) -> Ready:
    return Ready(load("kernels").FactsKernel(int(_PAYLOADS[codec][0]), _PAYLOADS[codec][1]), 5000, 5000)


def _assemble(codec: str) -> Ready:
    return Ready(load("kernels").AssembleKernel(assembler(_PAYLOADS[codec][0]), _PAYLOADS[codec][1]), 1000, 1000)


def _scene(name: str, tapes: dict[str, tuple[list[Batch], list[Batch]]]) -> Ready:
    scene = SCENES[name]
    warm, measured = tapes[name]
    engine, _ = build(scene)
    kernels = load("kernels")
    before = kernels.EngineKernel(engine, warm)
    before.run(before.turns)
    kernel = kernels.EngineKernel(engine, measured)
    return Ready(kernel, kernel.turns, scene.frames * scene.packets * scene.viewers, once=True)


def kernels(tapes: dict[str, tuple[list[Batch], list[Batch]]]) -> dict[str, Callable[[], Ready]]:
    """By name, what makes each ready. `tapes` holds what is played in each scene."""
    made: dict[str, Callable[[], Ready]] = {}
    libraries = ["OpenSSL"] + (["ipsec-mb"] if not gcm.obstacle() else [])
    for profile in _PROFILES:
        for library in libraries if "GCM" in profile else ["OpenSSL"]:
            for size in (120, 1200):
                for opens in (False, True):
                    name = f"{'unprotect' if opens else 'protect'} {size} bytes, {profile} ({library})"
                    made[name] = lambda p=profile, s=size, o=opens, b=library: _library(b, lambda: _crypto(p, s, o))
    made["read and write a header"] = _header
    made["read transport-wide feedback on 50"] = _feedback
    made["write transport-wide feedback on 50"] = lambda: _wire("write feedback")
    made["write a NACK of 20"] = lambda: _wire("write NACK")
    for codec in _PAYLOADS:
        made[f"payload facts, {codec}"] = lambda c=codec: _facts(c)
        made[f"assemble, {codec}"] = lambda c=codec: _assemble(c)
    made["allocate a line to 8 tracks"] = lambda: Ready(load("kernels").AllocatorKernel(), 500, 500)
    for name in SCENES:
        made[name] = lambda n=name: _scene(n, tapes)
    return made


def tapes_of(names: list[str]) -> dict[str, tuple[list[Batch], list[Batch]]]:
    return {name: record(SCENES[name]) for name in names if name in SCENES}


# Counting and timing


def time_kernels(names: list[str]) -> dict[str, float]:
    """ns of CPU, medians of five."""
    tapes = tapes_of(names)
    found = {}
    for name in names:
        make = kernels(tapes)[name]
        times = []
        ready = make()
        for _ in range(_ROUNDS):
            ready = make() if ready.once and times else ready
            times.append(ready.kernel.run(ready.turns) / ready.units)
        found[name] = statistics.median(times)
    return found


def count_kernels(names: list[str]) -> dict[str, Counted]:
    """Instructions by callgrind. Raises FileNotFoundError without valgrind."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise FileNotFoundError("valgrind is needed to count instructions (Debian, Ubuntu: apt-get install valgrind)")
    load("kernels")
    with tempfile.TemporaryDirectory() as folder:
        tapes = Path(folder, "tapes")
        tapes.write_bytes(msgspec.msgpack.encode((names, tapes_of(names))))
        out = Path(folder, "counts")
        command = [
            valgrind,
            "--tool=callgrind",
            "--collect-atstart=no",
            "--toggle-collect=bench_measured",
            "--dump-after=bench_measured",
            f"--callgrind-out-file={out}",
            "--combine-dumps=no",
            sys.executable,
            "-m",
            "tests.bench.instructions",
            "--child",
            str(tapes),
            str(Path(folder, "units")),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"callgrind ended with {done.returncode}:\n{done.stderr[-2000:]}")
        ready: list[tuple[str, float, int]] = msgspec.json.decode(Path(folder, "units").read_bytes())
        return {name: _read(Path(f"{out}.{part}"), units) for name, units, part in ready}


def _read(dump: Path, units: float) -> Counted:
    """Sums a dump's self cost by object. Lines of calls stand apart: what a callee took is its own."""
    own = total = 0
    inside = called = False
    names: dict[str, bool] = {}
    for line in dump.read_text().splitlines():
        if found := re.match(r"ob=\((\d+)\)(?: (.*))?", line):
            if found[2] is not None:
                names[found[1]] = "/mediaserver/" in found[2] or re.search(r"/(sfu|codecs)/", found[2]) is not None
            inside = names[found[1]]
        elif found := re.match(r"cob=\((\d+)\) (.*)", line):
            names[found[1]] = "/mediaserver/" in found[2] or re.search(r"/(sfu|codecs)/", found[2]) is not None
        elif line.startswith("calls="):
            called = True
        elif re.match(r"[+\-*\d]", line):
            if not called:
                cost = int(line.split()[1]) if len(line.split()) > 1 else 0
                total += cost
                own += cost if inside else 0
            called = False
    return Counted(own / units, total / units)


def child(tapes: Path, units: Path) -> None:
    """Under callgrind: every kernel once."""
    names, raw = msgspec.msgpack.decode(tapes.read_bytes(), type=tuple[list[str], dict[str, Any]])
    made = kernels(msgspec.convert(raw, dict[str, tuple[list[Batch], list[Batch]]]))
    ready = []
    part = 0
    for name in names:
        one = made[name]()
        # Warming an engine up is a measured call, too: its dump is nobody's.
        part += 2 if one.once else 1
        one.kernel.run(one.turns if one.once else max(1, one.turns // 20))
        ready.append((name, one.units if one.once else max(1, one.turns // 20), part))
    units.write_bytes(msgspec.json.encode(ready))


# The baseline


def load_baseline() -> Baseline | None:
    return msgspec.json.decode(BASELINE.read_bytes(), type=Baseline) if BASELINE.exists() else None


def store_baseline(counts: dict[str, Counted]) -> None:
    rounded = {name: Counted(round(count.own, 1), round(count.all, 1)) for name, count in counts.items()}
    text = msgspec.json.format(msgspec.json.encode(Baseline(made_by(), rounded)), indent=2)
    BASELINE.write_bytes(text + b"\n")


def worse(counts: dict[str, Counted], baseline: Baseline) -> list[str]:
    """The kernels whose own instructions have grown by more than is allowed."""
    return [
        name
        for name, count in counts.items()
        if name in baseline.kernels and count.own > baseline.kernels[name].own * (1 + ALLOWED)
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--child", nargs=2, type=Path, required=True, metavar=("TAPES", "UNITS"))
    child(*parser.parse_args().child)


if __name__ == "__main__":
    main()
