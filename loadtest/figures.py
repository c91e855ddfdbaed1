"""The figures of a run: by source, of the pictures, the server, the generator, a storm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from mediaserver.loadtest.histogram import HistogramView
from mediaserver.loadtest.outcome import GlassFigures, Outcome, Part, Second, SkewFigures
from mediaserver.loadtest.run import percentiles
from mediaserver.loadtest.storm import StormFigures

HEAT_STEP = 16
"""Buckets of a histogram that are one of the heat map: two to the octave."""


class SourceReport(msgspec.Struct, frozen=True):
    """One source over all its viewers. `latency_ms` is from a packet's leaving to the kernel's receive stamp at viewers
    without a line, `intended_ms` the same from when it was due, `lined_ms` that through lines."""

    source: str
    legs: int
    direct_legs: int
    received: int
    missed: int
    lost: int
    lost_direct: int
    own_drops_possible: bool
    repaired: int
    latency_ms: dict[str, float]
    intended_ms: dict[str, float]
    lined_ms: dict[str, float]
    jitter_p99_ms: float
    first_frame_ms: dict[str, float]
    least_frames_per_second: float
    longest_gap_ms: float
    freezes: int
    frozen_s: float
    under_frames_s: float
    under_bits_s: float
    watched_s: float
    recovered_ms: dict[str, float]
    stamped: int


def spread(values: Sequence[float]) -> dict[str, float]:
    """Count, p50, p95, p99 and the greatest."""
    ordered = sorted(values)
    if not ordered:
        return {"count": 0}

    def at(percent: int) -> float:
        return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]

    return {"count": len(ordered), "p50": at(50), "p95": at(95), "p99": at(99), "max": ordered[-1]}


def source_report(part: Part, source: str) -> SourceReport:
    """What one source was like over all its viewers."""
    legs = [leg for leg in part.legs if leg.source == source]
    direct = [leg for leg in legs if not leg.line]
    times = part.times[source]
    return SourceReport(
        source=source,
        legs=len(legs),
        direct_legs=len(direct),
        received=sum(leg.received for leg in legs),
        missed=sum(leg.missed for leg in direct),
        lost=sum(leg.lost + leg.unseen for leg in legs),
        lost_direct=sum(leg.lost + leg.unseen for leg in direct),
        own_drops_possible=part.totals.dropped > 0,
        repaired=sum(leg.repaired for leg in legs),
        latency_ms=percentiles(times.latency),
        intended_ms=percentiles(times.intended),
        lined_ms=percentiles(times.lined),
        jitter_p99_ms=times.jitter.percentile(99) / 1e6,
        first_frame_ms=spread([leg.first_frame_ms for leg in legs if leg.first_frame_ms is not None]),
        least_frames_per_second=min(
            (leg.frames_per_second for leg in legs if leg.watched_s or not leg.frames), default=0.0
        ),
        longest_gap_ms=max((leg.longest_gap_ms for leg in legs), default=0.0),
        freezes=sum(leg.freezes for leg in legs),
        frozen_s=sum(leg.frozen_s for leg in legs),
        under_frames_s=sum(leg.under_frames_s for leg in legs),
        under_bits_s=sum(leg.under_bits_s for leg in legs),
        watched_s=sum(leg.watched_s for leg in legs),
        recovered_ms=spread([leg.recovered_ms for leg in legs if leg.recovered_ms is not None]),
        stamped=times.latency.total + times.lined.total,
    )


def glass(figures: GlassFigures) -> dict[str, Any]:
    """How old pictures were when a decoder had them (ms), of one source over one line."""
    ages = figures.ages
    return {
        "source": figures.source,
        "line": figures.line,
        "pictures": ages.total,
        "unread": figures.unread,
        "undecoded": figures.undecoded,
        "p50_ms": ages.percentile(50) / 1e6,
        "p95_ms": ages.percentile(95) / 1e6,
        "p99_ms": ages.percentile(99) / 1e6,
        "max_ms": ages.greatest / 1e6,
        "decoding_p95_ms": figures.decoding.percentile(95) / 1e6,
    }


def skew_figures(figures: SkewFigures) -> dict[str, Any]:
    """How far two sources of a cart were apart at a viewer (ms)."""
    return {
        "first": figures.first,
        "second": figures.second,
        "samples": figures.ahead.total + figures.behind.total,
        "ahead_p95_ms": _share_percentile(figures.ahead, figures.behind) / 1e6,
        "behind_p95_ms": _share_percentile(figures.behind, figures.ahead) / 1e6,
    }


def _share_percentile(view: HistogramView, rest: HistogramView) -> float:
    """The 95th percentile over both, where the rest counts as none at all."""
    beyond = 0.05 * (view.total + rest.total)
    return view.percentile(100 * (1 - beyond / view.total)) if view.total > beyond else 0.0


def second_figures(second: Second) -> dict[str, Any]:
    """One second of the timeline; latencies in ms."""
    return {
        "elapsed": second.elapsed,
        "sent": second.sent,
        "received": second.received,
        "received_octets": second.received_octets,
        "dropped": second.dropped,
        "not_sent": second.not_sent,
        "viewers": second.viewers,
        "latency_ms": percentiles(second.latency),
        "intended_ms": percentiles(second.intended),
        "lateness_ms": percentiles(second.lateness),
    }


def heat(view: HistogramView) -> dict[int, int]:
    """Packets by bucket of latency, two buckets to the octave."""
    steps: dict[int, int] = {}
    for bucket, count in view.counts.items():
        steps[bucket // HEAT_STEP] = steps.get(bucket // HEAT_STEP, 0) + count
    return dict(sorted(steps.items()))


def server_figures(outcome: Outcome) -> dict[str, float]:
    """CPU, memory and descriptors of the process where it could be looked at, and its own words about drops."""
    figures: dict[str, float] = {}
    before, after, part = outcome.before, outcome.after, outcome.part
    if before is not None and after is not None:
        cpu = after.cpu_seconds - before.cpu_seconds
        ticks = after.user_seconds + after.system_seconds - before.user_seconds - before.system_seconds
        figures["cpu_cores"] = cpu / part.seconds
        figures["busiest_thread_cores"] = after.busiest_thread(before) / part.seconds
        figures["cpu_us_per_forwarded_packet"] = cpu * 1e6 / max(1, part.totals.received)
        figures["user_share"] = (after.user_seconds - before.user_seconds) / ticks if ticks > 0 else 0.0
        figures["resident_mib"] = after.resident_bytes / 2**20
        figures["resident_growth_mib"] = (after.resident_bytes - before.resident_bytes) / 2**20
        figures["descriptors"] = after.descriptors
        figures["threads"] = after.threads
    counters = outcome.counters
    count = counters.get("mediaserver_forward_latency_seconds_count", 0)
    if count:
        figures["own_forward_latency_mean_us"] = counters["mediaserver_forward_latency_seconds_sum"] * 1e6 / count
    backlogs = [second.backlog for second in outcome.server if second.backlog is not None]
    if backlogs:
        figures["recorder_backlog_packets_max"] = max(backlogs)
    for name, value in sorted(counters.items()):
        if value and (".".join(name.split(".")[:1]).endswith("plane_drops_total") or "tap_dropped" in name):
            figures[name.removeprefix("mediaserver_plane_").replace("drops_total.", "dropped_")] = value
    return figures


def generator_figures(part: Part) -> dict[str, float]:
    """The generator's own lateness, drops and CPU: never the server's."""
    totals = part.totals
    return {
        "busy_share": totals.busy / 1e9 / part.seconds,
        "opened_one_in": totals.received / totals.opened if totals.opened else 0.0,
        "cpu_us_per_packet": part.cpu_seconds * 1e6 / max(1, totals.sent + totals.received),
        "sender_lateness_p50_ms": totals.sender_lateness.percentile(50) / 1e6,
        "sender_lateness_p99_ms": totals.sender_lateness.percentile(99) / 1e6,
        "sender_lateness_max_ms": totals.sender_lateness.greatest / 1e6,
        "reading_lateness_p99_ms": totals.receiver_lateness.percentile(99) / 1e6,
        "not_sent": totals.send_failures,
        "dropped_at_own_sockets": totals.dropped,
        "untimed": totals.untimed,
        "not_decoded_for_want_of_room": totals.untaped,
        "retransmitted": sum(stream.asked_again for stream in part.upstreams),
        "keyframe_requests": sum(stream.keyframe_requests for stream in part.upstreams),
        "unknown_packets": totals.unknown,
        "feedback_messages": totals.feedbacks,
        "feedback_share": totals.feedback_octets / max(1, totals.received_octets),
    }


def storm_figures(figures: StormFigures) -> dict[str, Any]:
    """Who was up when, and saw when; times in ms."""
    told: dict[str, Any] = msgspec.to_builtins(figures)
    return told | {
        "up_after_ms": spread(figures.up_after_ms),
        "first_frame_ms": spread(figures.first_frame_ms),
        "requests_per_second": figures.requests_per_second,
    }
