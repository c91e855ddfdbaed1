"""The load test on a terminal: a table that lives while it runs, and the summary."""

from __future__ import annotations

from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mediaserver.loadtest.report import Report
from mediaserver.loadtest.run import Second

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
        for name in ("s", "sent/s", "received/s", "Mbit/s", "latency p50", "p99", "server CPU", "own lateness p99"):
            table.add_column(name, justify="right")
        previous = 0.0
        rows = []
        for second in self._seconds:
            span = second.elapsed - previous
            previous = second.elapsed
            cpu = "-" if second.server_cpu is None else f"{second.server_cpu:.0%}"
            rows.append(
                (
                    f"{second.elapsed:.0f}",
                    f"{second.sent / span:,.0f}",
                    f"{second.received / span:,.0f}",
                    f"{second.received_octets * 8e-6 / span:,.1f}",
                    _milliseconds(second.latency_p50 / 1e6),
                    _milliseconds(second.latency_p99 / 1e6),
                    cpu,
                    _milliseconds(second.lateness_p99 / 1e6),
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
    console.print(_joins(report), _sources(report), _figures("server", report.server))
    console.print(_figures("generator", report.generator))
    if report.storm is not None:
        console.print(_storm(report.storm))
    console.print(_checks(report))
    for line in (*report.refused[:5], *report.gone[:5]):
        console.print(f"! {line}", style="red", highlight=False)
    for note in report.notes:
        console.print(f"! {note}", style="yellow", highlight=False)
    console.print("within budget" if report.passed else "budget broken", style="green" if report.passed else "red")


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
            *(latency if source.stamped else ["-"] * 4),
            _milliseconds(source.jitter_p99_ms),
            _milliseconds(source.first_frame_ms["p95"]) if "p95" in source.first_frame_ms else "-",
        )
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
    table = _table("budget", "measured", "allowed", "")
    for check in report.checks:
        style = "green" if check.holds else "bold red"
        table.add_row(check.name, check.measured, check.allowed, Text("ok" if check.holds else "BROKEN", style=style))
    return table


def _milliseconds(value: float) -> str:
    return f"{value:,.3f} ms" if value < 10 else f"{value:,.0f} ms"
