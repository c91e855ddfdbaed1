"""The report of one consultation as a page of the load test's look: what each viewer got, how late it was, when it was
not well. One HTML file without any outside reference."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from mediaserver.loadtest import svg
from mediaserver.loadtest.page import environment
from mediaserver.reports.session import VERSION, SessionReport

TEMPLATES: Final = Path(__file__).parent / "templates"
COLOURS: Final = {
    "ok": "#2a9d5c",
    "below-floor": "#d1495b",
    "paused": "#97202f",
    "waiting": "#c98a1b",
    "stale": "#d1495b",
    "unchanging": "#c98a1b",
}
OTHER: Final = "#8a5fbf"


class ReportError(ValueError):
    """A file that is no session report, or one of another version."""


def read_report(data: bytes) -> SessionReport:
    """Raises `ReportError`."""
    try:
        report = msgspec.json.decode(data, type=SessionReport)
    except msgspec.DecodeError as error:
        raise ReportError(f"this is no session report: {error}") from None
    if report.version != VERSION:
        raise ReportError(f"this report has version {report.version}, and {VERSION} can be read")
    return report


def session_page(report: SessionReport) -> str:
    """The page of a report."""
    names = {entry.id: entry.name or entry.role for entry in report.participants}
    tracks = {entry.id: entry for entry in report.tracks}
    told: dict[str, Any] = msgspec.to_builtins(report)
    seconds = _seconds(report)
    return (
        environment(TEMPLATES)
        .get_template("session.html")
        .render(
            title=f"Consultation: {report.room}",
            report=told,
            seconds=seconds,
            names=names,
            sources={name: track.source for name, track in tracks.items()},
            breaches=_breaches(report),
            plots={"states": _states(report, names), "spells": _spells(told, seconds), "ages": _ages(told, names)},
        )
    )


def _breaches(report: SessionReport) -> list[str]:
    """Views that were under a floor or paused, worst first, in words."""
    names = {entry.id: entry.name or entry.role for entry in report.participants}
    found = sorted(
        (view for view in report.views if view.longest_breach_s), key=lambda view: view.longest_breach_s, reverse=True
    )
    return [
        f"{names.get(view.participant, view.participant)} was without what the {view.source} asks "
        f"for {view.longest_breach_s:.1f} s at a stretch."
        for view in found
    ]


def _states(report: SessionReport, names: dict[str, str]) -> str:
    """How long each view was in which state: lengths in order, not moments, for those are not kept."""
    rows: dict[str, list[tuple[float, float, str]]] = {}
    colours: dict[str, str] = {}
    longest = 0.0
    for number, view in enumerate(report.views):
        row, at = [], 0.0
        for state, seconds in sorted(view.seconds.items(), key=lambda entry: entry[0] != "ok"):
            colours[state] = COLOURS.get(state.partition(":")[0], OTHER)
            row.append((at, at + seconds, state))
            at += seconds
        rows[f"{names.get(view.participant, view.participant)[:14]}, {view.source} {number + 1}"] = row
        longest = max(longest, at)
    return svg.spans(rows, colours, longest)


def _spells(report: dict[str, Any], seconds: float) -> str:
    opened = _moment(report["opened"])
    rows: dict[str, list[tuple[float, float, str]]] = {}
    for section in ("freshness", "sound"):
        for spell in (report["sections"].get(section) or {}).get("spells", ()):
            begins = (_moment(spell["began"]) - opened).total_seconds()
            row = rows.setdefault(f"{spell['source']} {spell['state']}", [])
            row.append((begins, begins + spell["seconds"], spell["state"]))
    colours = {kind: COLOURS.get(kind, OTHER) for row in rows.values() for _, _, kind in row}
    furthest = max([seconds, *(ends for row in rows.values() for _, ends, _ in row)])
    return svg.spans(rows, colours, furthest)


def _ages(report: dict[str, Any], names: dict[str, str]) -> str:
    """The 95th percentile of what each viewer saw or heard, against the budget."""
    values, limits = {}, {}
    for number, view in enumerate((report["sections"].get("latency") or {}).get("views", ())):
        if view["shown"]:
            name = f"{names.get(view['participant'], view['participant'])[:14]}, {view['source']} {number + 1}"
            values[name] = view["shown"]["p95_ms"]
            if view["budget_ms"]:
                limits[name] = view["budget_ms"]
    return svg.bars(values, "ms", limits)


def _seconds(report: SessionReport) -> float:
    """How long the session was, as far as the report tells."""
    opened = _moment(report.opened)
    ends = [moment for entry in report.participants for moment in (entry.joined, entry.left) if moment]
    last = report.closed or max(ends, default=report.opened)
    return max(0.0, (_moment(last) - opened).total_seconds())


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ReportError(f"{text!r} is no time") from None
