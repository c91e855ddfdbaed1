"""Fuzzes the parsers under AddressSanitizer and UndefinedBehaviorSanitizer, led by coverage (libFuzzer).

    tests/fuzz/run.py --seconds 60 [--target rtp --target stun] [--list]

Each target runs for so many seconds. Inputs that reach new code are kept in fuzz-corpus/, and those that a target
does not survive in fuzz-corpus/findings/; with one of these the exit status is 1. `--replay FILE` runs one input.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from tests.fuzz import build  # noqa: E402

CORPUS = ROOT / "fuzz-corpus"
FINDINGS = CORPUS / "findings"
REGRESSIONS = Path(__file__).resolve().parent / "regressions"
INPUT_SECONDS = 120  # an input that takes longer is a finding; generous, for a busy machine is slow


def child(name: str, arguments: list[str]) -> int:
    """In a process of its own, under the sanitizers: libFuzzer on one target. Ends the process."""
    sys.path[:0] = [str(build.OUT / "sanitized"), str(build.COPY / "build" / "tree")]
    import driver

    from tests.fuzz.targets import TARGETS

    target = TARGETS[name]
    if target.function is None:
        return int(driver.run(arguments, kernel=name))
    return int(driver.run(arguments, target=target.function, lines=target.in_python))


def prepare(name: str) -> list[str]:
    """Write seeds and dictionary; the arguments for libFuzzer, without the time."""
    from tests.fuzz.targets import TARGETS

    target = TARGETS[name]
    seeds = build.OUT / "seeds" / name
    for folder in (seeds, CORPUS / name, FINDINGS):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (seeds / f"{number:03}").write_bytes(seed)
    dictionary = []
    if target.words:
        words = build.OUT / "seeds" / f"{name}.dict"
        escaped = [word.replace("\\", "\\\\").replace('"', '\\"') for word in target.words]
        words.write_text("".join(f'"{word}"\n' for word in escaped))
        dictionary = [f"-dict={words}"]
    known = REGRESSIONS / name
    return [
        *(str(folder) for folder in (CORPUS / name, seeds, known) if folder.exists()),
        *dictionary,
        f"-max_len={target.max_size}",
        f"-timeout={INPUT_SECONDS}",
        f"-artifact_prefix={FINDINGS}/{name}-",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
    ]


def fuzz(name: str, arguments: list[str]) -> bool:
    """Run one target to its end; whether it stood."""
    command = [sys.executable, __file__, "--child", name, "--", *arguments]
    log = build.OUT / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        status = subprocess.run(command, env=build.sanitizer_environment(), stdout=file, stderr=file, check=False)
    text = log.read_text(errors="replace")
    runs = re.search(r"number_of_executed_units: *(\d+)", text)
    coverage = re.findall(r"cov: (\d+) ft: (\d+)", text)
    print(
        f"{name:16} {'ok' if status.returncode == 0 else 'FINDING':8} {runs[1] if runs else '?':>10} inputs"
        f"  cov {coverage[-1][0] if coverage else '?'}  features {coverage[-1][1] if coverage else '?'}",
        flush=True,
    )
    if status.returncode:
        print(complaint(text))
        print(f"  the whole of it: {log}", flush=True)
    return status.returncode == 0


def complaint(text: str) -> str:
    """The part of a log that says what is wrong, without the frames of the interpreter below it."""
    lines = text.splitlines()
    signs = re.compile(r"Traceback|runtime error|ERROR: |check \d+ fails")
    first = next((number for number, line in enumerate(lines) if signs.search(line)), max(0, len(lines) - 20))
    shown = [line for line in lines[first:] if "Python-3" not in line and "fuzzer::" not in line]
    kept = [line for line in lines if line.startswith(("SUMMARY", "artifact_prefix"))]
    return "\n".join(f"  {line}" for line in shown[:25] + kept)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--target", action="append", help="only this one; may be repeated")
    parser.add_argument("--replay", type=Path, help="run one input on the one target and stop")
    parser.add_argument("--list", action="store_true", help="name the targets and stop")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(options.child, options.arguments)
    from tests.fuzz.targets import TARGETS

    if options.list:
        print("\n".join(TARGETS))
        return 0
    names = options.target or list(TARGETS)
    unknown = [name for name in names if name not in TARGETS]
    if unknown or (options.replay and len(names) != 1):
        parser.error(f"no such target: {', '.join(unknown)}" if unknown else "--replay needs one --target")
    try:
        build.sanitized()
    except build.BuildError as error:
        print(error, file=sys.stderr)
        return 2
    if options.replay:
        return 0 if fuzz(names[0], [str(options.replay)]) else 1
    stood = [fuzz(name, [*prepare(name), f"-max_total_time={options.seconds}"]) for name in names]
    return 0 if all(stood) else 1


if __name__ == "__main__":
    raise SystemExit(main())
