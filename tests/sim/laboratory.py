"""The laboratory's command line: the ultrasound consultation over the lines of the table, in virtual time.

python -m tests.sim.laboratory --line NAME|all --policy clinical|flat|equal --seconds N --json FILE --plot DIR
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path

import msgspec

from tests.sim.consultation import POLICIES
from tests.sim.lines import ALL_LINES, LINES
from tests.sim.report import table
from tests.sim.run import run_line


def main(arguments: list[str]) -> int:
    """Prints the table; 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.laboratory", description=__doc__)
    parser.add_argument("--line", action="append", choices=["all", *ALL_LINES], help="one of the lines, or the table")
    parser.add_argument("--policy", action="append", choices=list(POLICIES), help="how the line is shared (clinical)")
    parser.add_argument("--seconds", type=int, default=60, help="how long each run is (60)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--doctors", type=int, default=1, help="how many view; the first one has the line (1)")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--plot", type=Path, help="write a PNG of each run into that folder")
    options = parser.parse_args(arguments)
    chosen = options.line or ["all"]
    names = list(LINES) if "all" in chosen else chosen
    runs = []
    for name, policy in itertools.product(names, options.policy or ["clinical"]):
        run = run_line(
            ALL_LINES[name], policy=policy, seconds=options.seconds, seed=options.seed, doctors=options.doctors
        )
        runs.append(run.figures)
        if options.plot is not None:
            from tests.sim.plots import plot

            options.plot.mkdir(parents=True, exist_ok=True)
            plot(run, options.plot / f"{name}-{policy}.png")
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(runs), indent=2))
    print(table(runs))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
