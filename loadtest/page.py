"""Reports as pages that open anywhere, without network: one HTML file with its plots in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from jinja2 import ChainableUndefined, Environment, FileSystemLoader

from mediaserver.budgets import DEFAULT_BUDGETS
from mediaserver.loadtest import svg
from mediaserver.loadtest.figures import HEAT_STEP
from mediaserver.loadtest.histogram import bucket_floor
from mediaserver.loadtest.report import Report
from mediaserver.loadtest.search import Found

TEMPLATES = Path(__file__).parent / "templates"


def environment(*folders: Path) -> Environment:
    """Jinja2 with the templates that all reports share, those of `folders` first; everything is escaped."""
    made = Environment(
        loader=FileSystemLoader([*folders, TEMPLATES]),
        autoescape=True,
        undefined=ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["ms"] = _milliseconds
    made.filters["number"] = _number
    made.filters["words"] = lambda name: str(name).removesuffix("_ms").replace("_", " ")
    return made


def load_page(report: Report, found: Found | None = None) -> str:
    """The report of a load test, with the steps of a search where there was one."""
    told: dict[str, Any] = msgspec.to_builtins(report)
    told |= {"passed": report.passed, "own_limit": report.own_limit}
    return (
        environment()
        .get_template("load.html")
        .render(
            title=f"Load test: {report.scenario['name']}",
            report=told,
            found=found,
            plots=_plots(report),
            scenario_json=msgspec.json.format(msgspec.json.encode(report.scenario)).decode(),
        )
    )


def _plots(report: Report) -> dict[str, str]:
    seconds = report.timeline

    def curve(figures: str, percentile: str) -> list[tuple[float, float]]:
        return [(second["elapsed"], second[figures][percentile]) for second in seconds]

    edges = [
        bucket_floor(step * HEAT_STEP) / 1e6
        for step in range(1 + max((max(row, default=0) for row in report.heat), default=0))
    ]
    budgets = {name: budget.glass_to_glass_ms for name, budget in DEFAULT_BUDGETS.items() if budget.glass_to_glass_ms}
    glass = {one["source"]: one["p95_ms"] for one in report.glass if one["pictures"] and not one["line"]}
    server = {"cores": [(second["elapsed"], second["cpu"]) for second in report.server_timeline]}
    memory = {"resident": [(second["elapsed"], second["resident_mib"]) for second in report.server_timeline]}
    return {
        "latency": svg.lines(
            {name: curve("latency_ms", name) for name in ("p50", "p99", "p99.9")}, "ms", logarithmic=True
        ),
        "heat": svg.heat(report.heat, edges, "ms"),
        "intended": svg.lines(
            {
                "from due, p99": curve("intended_ms", "p99"),
                "from leaving, p99": curve("latency_ms", "p99"),
                "own lateness p99": curve("lateness_ms", "p99"),
            },
            "ms",
            logarithmic=True,
        ),
        "glass": svg.bars(glass, "ms", {name: budgets[name] for name in glass if name in budgets}),
        "server": svg.lines(server, "cores") + svg.lines(memory, "MiB") if report.server_timeline else "",
    }


def _milliseconds(value: Any) -> str:
    """A dash for what there is not, and for none."""
    if not isinstance(value, (int, float)) or not value:
        return "-"
    return f"{value:,.2f} ms" if value < 10 else f"{value:,.0f} ms"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.3f}"
