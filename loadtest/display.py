"""The load test on a terminal: a table that lives while it runs, and the summary."""

from __future__ import annotations

from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mediaserver.loadtest.outcome import Second
from mediaserver.loadtest.report import Report
from mediaserver.loadtest.search import Found

ROWS = 12


class Progress:
    """A live table of the last seconds. On something that is no terminal it prints the stages alone."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._seconds: list[Second] = []
        self._stage = ""
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def tell(self, news: Second | str) -> None:
        if isinstance(news, str):
            self._stage = news
            if not self._console.is_terminal:
                self._console.print(f"loadtest: {news}", highlight=False)
        else:
            self._seconds.append(news)
        if self._console.is_terminal:
            self._live.update(self._render(), refresh=True)

    def _render(self) -> RenderableType:
        table = Table(box=None, header_style="bold", padding=(0, 1))
        for name in (
            "s",
            "viewers",
            "sent/s",
            "received/s",
            "Mbit/s",
            "latency p50",
            "p99",
            "p99.9",
            "own lateness p99",
        ):
            table.add_column(name, justify="right")
        previous = 0.0
        rows = []
        for second in self._seconds:
            span = second.elapsed - previous
            previous = second.elapsed
            rows.append(
                (
                    f"{second.elapsed:.0f}",
                    f"{second.viewers}",
                    f"{second.sent / span:,.0f}",
                    f"{second.received / span:,.0f}",
                    f"{second.received_octets * 8e-6 / span:,.1f}",
                    *(_milliseconds(second.latency.percentile(percent) / 1e6) for percent in (50, 99, 99.9)),
                    _milliseconds(second.lateness.percentile(99) / 1e6),
                )
            )
        for row in rows[-ROWS:]:
            table.add_row(*row)
        return Group(Text(self._stage, style="bold"), table)


def print_report(console: Console, report: Report) -> None:
    """The summary: rates, latency by source, cost, checks, and what to know before trusting it."""
    rates, bits = report.packets_per_second, report.megabits_per_second
    console.print(
        f"\n{rates['in']:,.0f} packets/s in, {rates['out']:,.0f} out; "
        f"{bits['in']:.1f} Mbit/s in, {bits['out']:.1f} out, for {report.seconds:.1f} s",
        highlight=False,
    )
    console.print(_joins(report), _sources(report), _pictures(report))
    if report.glass:
        console.print(_glass(report))
    console.print(_figures("server", report.server))
    console.print(_figures("generator", report.generator))
    if report.storm is not None:
        console.print(_storm(report.storm))
    console.print(_checks(report))
    for line in (*report.refused[:5], *report.gone[:5]):
        console.print(f"! {line}", style="red", highlight=False)
    for finding in report.findings:
        console.print(f"! {finding.segment}: {finding.text}", style="yellow", highlight=False)
    console.print("within budget" if report.passed else "budget broken", style="green" if report.passed else "red")
    if report.own_limit:
        console.print("The generator was in trouble itself: nothing is proved of the server.", style="yellow")


SATURATED = 0.9
"""Of a core, from which on a thread of the server may be said to have been at its limit."""


def print_search(console: Console, found: Found) -> None:
    """The steps of a search and what it found."""
    table = _table(
        "consultations", "packets/s out", "server cores", "busiest thread", "generator busy", "verdict", "broken"
    )
    for step in found.steps:
        table.add_row(
            f"{step.consultations}",
            f"{step.packets_out:,.0f}",
            f"{step.server_cores:.2f}",
            f"{step.busiest_thread:.0%}",
            f"{step.generator_busy:.0%}",
            step.verdict,
            ", ".join(step.broken[:3]),
        )
    console.print(table)
    what = {
        "server": "more break a budget of the server",
        "generator": "then the generator gave out, not the server, which may carry more",
        "end of the search": "no more were tried",
    }[found.limit]
    console.print(f"{found.most} consultations within budget; {what}", style="bold", highlight=False)
    busiest = max((step.busiest_thread for step in found.steps), default=0.0)
    if 0 < busiest < SATURATED:
        console.print(
            f"No thread of the server took more than {busiest:.0%} of a core: its own limit was not reached.",
            style="yellow",
            highlight=False,
        )


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 1))
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left")
    return table


def _joins(report: Report) -> Table:
    table = _table("joins", "count", "p50", "p95", "max")
    for role, figures in report.join_ms.items():
        if figures["count"]:
            cells = (_milliseconds(figures[name]) for name in ("p50", "p95", "max"))
            table.add_row(role, f"{figures['count']:.0f}", *cells)
    return table


def _sources(report: Report) -> Table:
    table = _table(
        "source", "legs", "received", "lost", "repaired", "p50", "p99", "p99.9", "max", "jitter p99", "first frame p95"
    )
    for source in report.sources:
        latency = [_milliseconds(source.latency_ms[name]) for name in ("p50", "p99", "p99.9", "max")]
        table.add_row(
            source.source,
            f"{source.legs}",
            f"{source.received:,}",
            f"{source.lost:,}",
            f"{source.repaired:,}",
            *(latency if source.latency_ms["max"] else ["-"] * 4),
            _milliseconds(source.jitter_p99_ms),
            _milliseconds(source.first_frame_ms["p95"]) if "p95" in source.first_frame_ms else "-",
        )
    return table


def _pictures(report: Report) -> Table:
    table = _table("source", "freezes", "frozen", "under frames", "under kbit/s", "least frames/s", "recovery p95")
    for source in report.sources:
        table.add_row(
            source.source,
            f"{source.freezes}",
            f"{source.frozen_s:.1f} s",
            f"{source.under_frames_s:.1f} s",
            f"{source.under_bits_s:.1f} s",
            f"{source.least_frames_per_second:.1f}",
            _milliseconds(source.recovered_ms["p95"]) if "p95" in source.recovered_ms else "-",
        )
    return table


def _glass(report: Report) -> Table:
    table = _table("glass to glass", "pictures", "p50", "p95", "max", "of it decoding p95", "unread")
    for one in report.glass:
        cells = (_milliseconds(one[name]) for name in ("p50_ms", "p95_ms", "max_ms", "decoding_p95_ms"))
        table.add_row(f"{one['source']} {one['line']}".strip(), f"{one['pictures']}", *cells, f"{one['unread']}")
    return table


def _storm(storm: dict[str, Any]) -> Table:
    table = _table("storm", "count", "p50", "p95", "p99", "max")
    for name in ("up_after_ms", "first_frame_ms"):
        figures = storm[name]
        if figures["count"]:
            cells = (_milliseconds(figures[percentile]) for percentile in ("p50", "p95", "p99", "max"))
            table.add_row(name.removesuffix("_ms").replace("_", " "), f"{figures['count']:.0f}", *cells)
    bytes_before, bytes_after = storm["frame_bytes"]["before"], storm["frame_bytes"]["storm"]
    rows = (
        ("up within", _milliseconds(storm["up_within_ms"])),
        ("signalling before it", f"{storm['signalling_seconds']:.1f} s"),
        ("checks and handshakes before it", f"{storm['handshake_seconds']:.1f} s"),
        ("keyframes sent", f"{storm['keyframes']}"),
        ("bytes of a keyframe", f"{storm['keyframe_bytes']:,.0f}"),
        ("bytes of a frame, before and in the storm", f"{bytes_before:,.0f} {bytes_after:,.0f}"),
    )
    for name, value in rows:
        table.add_row(name, value)
    return table


def _figures(title: str, figures: dict[str, float]) -> Table:
    table = _table(title, "")
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), f"{value:,.0f}" if value == int(value) else f"{value:,.3f}")
    return table


def _checks(report: Report) -> Table:
    table = _table("budget", "measured", "allowed", "", "whose")
    for check in report.checks:
        style = "green" if check.holds else "bold red"
        verdict = Text("ok" if check.holds else "BROKEN", style=style)
        table.add_row(check.name, check.measured, check.allowed, verdict, "" if check.holds else check.segment)
    return table


def _milliseconds(value: float) -> str:
    return f"{value:,.3f} ms" if value < 10 else f"{value:,.0f} ms"
