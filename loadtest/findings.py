"""What stands out in a run, in words, and whose it is: the generator's, the server's, a line's, one viewer's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Literal, NamedTuple

import msgspec

from mediaserver.loadtest.histogram import HistogramView, bucket_floor, merge
from mediaserver.loadtest.outcome import Leg, Outcome, Part, Second

Segment = Literal["generator", "server", "server ingress", "server egress", "line", "viewer"]

OWN_LATENESS_NS = 5_000_000
"""A generator that is later than this once in a hundred times tells more of itself than of the server."""
MISSED = 0.0005
"""Of the packets where no line is in the way: as few may not come in their turn."""
OVERTAKEN = 0.001
"""Of the packets of viewers without a line: as few may come behind later ones."""
STARVED_SHARE = 0.8
FED_SHARE = 0.9
LEAST_TAIL = 0.002
LEAST_EXTRA_NS = 2_500_000
"""Of a second hump of the latencies: its share of the packets, and how much later they are than the rest."""
OCTAVE_PARTS = 4


class Finding(msgspec.Struct, frozen=True):
    """`kind` is for programs: late-packets, lost-packets, starved-viewer, slow-viewer, generator-late, generator-lost,
    clock, no-stamps, frozen."""

    kind: str
    segment: Segment
    text: str
    room: str = ""
    viewer: int = 0


class Hump(NamedTuple):
    """Packets that are later than the rest and alike among themselves; ns."""

    share: float
    extra: int


def find(outcome: Outcome) -> list[Finding]:
    """The generator's own faults first: with them the rest is to be read with care."""
    part = outcome.part
    starved = starved_viewers(part.legs)
    return [
        *_own(part),
        *_starved(part.legs, starved),
        *_lost(part, {key for key, _ in starved}),
        *_late(part),
        *_slow(part.legs),
    ]


def second_hump(view: HistogramView) -> Hump | None:
    """A second hump far above the median, as a fault that hits some packets leaves it; a tail that only thins out, as
    load does, is none. The hump has to be five times as dense as the valley before it."""
    if view.total < 1000:
        return None
    middle = max(1, view.percentile(50))
    width = 32 // OCTAVE_PARTS  # buckets of the histogram are 32 to the octave
    counts: dict[int, int] = defaultdict(int)
    for bucket, count in view.counts.items():
        counts[bucket // width] += count
    first, last = min(counts), max(counts)
    dense = [counts.get(at, 0) for at in range(first, last + 2)]
    best: Hump | None = None
    for at in range(1, len(dense) - 1):
        if bucket_floor((first + at) * width) < 2 * middle:
            continue
        beyond = dense[at + 1 :]
        share = sum(beyond) / view.total
        if share < LEAST_TAIL or max(beyond) < 5 * (dense[at] + 1):
            continue
        peak = at + 1 + beyond.index(max(beyond))
        extra = bucket_floor((first + peak) * width + width // 2) - middle
        if extra >= LEAST_EXTRA_NS and (best is None or share > best.share):
            best = Hump(share, extra)
    return best


def starved_viewers(legs: Iterable[Leg]) -> list[tuple[tuple[str, int], list[Leg]]]:
    """Viewers who get far less of what they view than others do over the same line, by room and number, with the legs
    that lack."""
    legs = [leg for leg in legs if leg.watched_s >= 1 or not leg.received]
    alike: dict[tuple[str, str], list[float]] = defaultdict(list)
    for leg in legs:
        alike[leg.source, leg.line].append(_delivered(leg))
    found: dict[tuple[str, int], list[Leg]] = defaultdict(list)
    for leg in legs:
        others = alike[leg.source, leg.line]
        if len(others) > 1 and median(others) >= FED_SHARE and _delivered(leg) < STARVED_SHARE:
            found[leg.room, leg.viewer].append(leg)
    return sorted(found.items(), key=lambda entry: min(map(_delivered, entry[1])))


def _delivered(leg: Leg) -> float:
    """What came without being sent again, of what the cart sends."""
    return leg.share * max(0.0, 1 - leg.missed / max(1, leg.received + leg.lost))


def own_trouble(part: Part) -> bool:
    """Whether the generator was itself so late, or lost so much, that a broken budget may be its own."""
    totals = part.totals
    late = totals.sender_lateness.percentile(99) > OWN_LATENESS_NS
    return late or totals.untimed > 0 or totals.dropped > 0 or totals.send_failures > 0


def _own(part: Part) -> list[Finding]:
    totals = part.totals
    found = []
    if totals.dropped or totals.send_failures:
        text = (
            f"The generator itself lost packets ({totals.dropped} for want of room in its sockets, "
            f"{totals.send_failures} not sent): give it a machine of its own, more processes, or fewer peers."
        )
        found.append(Finding("generator-lost", "generator", text))
    if totals.sender_lateness.percentile(99) > OWN_LATENESS_NS:
        late = totals.sender_lateness.percentile(99) / 1e6
        text = f"The generator was late: one frame in a hundred left {late:.1f} ms or more after its time."
        found.append(Finding("generator-late", "generator", text))
    if totals.untimed:
        text = (
            f"{totals.untimed} packets left over 0.13 s after their time: nothing is said of how long the server took."
        )
        found.append(Finding("generator-late", "generator", text))
    if part.legs and not any(times.intended.total or times.lined.total for times in part.times.values()):
        text = "The server does not pass abs-capture-time on, so that its latency could not be measured."
        found.append(Finding("no-stamps", "server", text))
    negative = sum(times.latency.negative for times in part.times.values())
    if negative:
        text = f"{negative} packets seem to have arrived before they left: the system's clock was set."
        found.append(Finding("clock", "generator", text))
    if part.lines.get("lateness_p99", 0) > OWN_LATENESS_NS or part.lines.get("dropped"):
        late, dropped = part.lines.get("lateness_p99", 0) / 1e6, part.lines.get("dropped", 0)
        text = f"The relay of the lines was late by {late:.1f} ms (p99) and lost {dropped:.0f} packets itself."
        found.append(Finding("generator-late", "generator", text))
    return found


def _starved(legs: Sequence[Leg], starved: Sequence[tuple[tuple[str, int], list[Leg]]]) -> list[Finding]:
    found = []
    for (room, viewer), lacking in starved[:10]:
        told = ", ".join(f"{leg.source} {_delivered(leg):.0%}" for leg in lacking)
        line = lacking[0].line
        text = (
            f"Viewer {viewer} of {room} was starved: of what was sent in the first place it got {told}; others got it."
        )
        found.append(Finding("starved-viewer", "line" if line else "server egress", text, room, viewer))
    return found


def loss_segment(part: Part, legs: Sequence[Leg]) -> Segment:
    """Where packets were lost that viewers without a line lack."""
    lacking = sum(leg.missed + leg.unseen for leg in legs)
    if part.totals.dropped >= max(1, lacking):
        return "generator"
    upstream = sum(max(stream.asked_again, stream.reported_lost) for stream in part.upstreams if not stream.line)
    viewers = max(1, len({(leg.room, leg.viewer) for leg in legs}))
    carts = max(1, len({leg.room for leg in legs}))
    return "server ingress" if upstream * viewers / carts > lacking / 2 else "server egress"


def _lost(part: Part, starved: set[tuple[str, int]]) -> list[Finding]:
    legs = [leg for leg in part.legs if not leg.line and (leg.room, leg.viewer) not in starved]
    missed = sum(leg.missed for leg in legs)
    expected = sum(leg.received + leg.lost for leg in legs)
    found = []
    segment = loss_segment(part, legs)
    if expected and missed / expected > MISSED and segment != "generator":
        repaired, lost = sum(leg.repaired for leg in legs), sum(leg.lost for leg in legs)
        text = (
            f"{missed / expected:.2%} of the packets ({missed}) were lost where no line is in the way, "
            f"at {len(legs)} legs: {repaired} were repaired, {lost} were not."
        )
        found.append(Finding("lost-packets", segment, text))
    # Towards the server: who repairs it there leaves nothing for viewers to miss.
    streams = [stream for stream in part.upstreams if not stream.line]
    sent, asked = sum(stream.packets for stream in streams), sum(stream.asked_again for stream in streams)
    if sent and asked / sent > MISSED and not found and not part.totals.send_failures:
        text = f"The server asked carts without a line for {asked / sent:.2%} of their packets again ({asked})."
        found.append(Finding("lost-packets", "server ingress", text))
    return found


def _late(part: Part) -> list[Finding]:
    """Packets that are late alone. Those that others have overtaken are told from a stall of the machine, which keeps
    the order; where order is kept, only a generator that was in time itself can tell."""
    legs = [leg for leg in part.legs if not leg.line]
    overtaken, received = sum(leg.overtaken for leg in legs), sum(leg.received for leg in legs)
    if received and overtaken / received > OVERTAKEN:
        extra = sum(leg.overtaken * leg.overtaken_ms for leg in legs) / overtaken
        text = (
            f"{overtaken / received:.2%} of the packets took about {extra:.1f} ms longer than those around them, "
            "which have overtaken them."
        )
        return [Finding("late-packets", "server", text)]
    view = merge(times.latency for times in part.times.values())
    hump = second_hump(view)
    if (
        hump is None
        or own_trouble(part)
        or not _steady(part.timeline, view.percentile(50) + hump.extra // 2, hump.share)
    ):
        return []
    text = (
        f"{hump.share:.2%} of the packets took about {hump.extra / 1e6:.1f} ms longer than the rest "
        f"(p50 {view.percentile(50) / 1e6:.2f} ms), measured from when they really left."
    )
    return [Finding("late-packets", "server", text)]


def _steady(timeline: Sequence[Second], late: int, share: float) -> bool:
    """Whether two seconds in three have their part of the packets above `late` ns: what a busy machine delays comes in
    bursts."""
    shares = []
    for second in timeline:
        above = sum(count for bucket, count in second.latency.counts.items() if bucket_floor(bucket) >= late)
        shares.append(above / max(1, second.latency.total))
    return sum(share / 3 <= one for one in shares) >= len(shares) * 2 / 3


def _slow(legs: Sequence[Leg]) -> list[Finding]:
    """Viewers whose every packet is late, while others' are not."""
    direct = [leg for leg in legs if not leg.line and leg.latency_ms]
    found = []
    for source in dict.fromkeys(leg.source for leg in direct):
        alike = [leg for leg in direct if leg.source == source]
        usual = median(leg.latency_ms["p50"] for leg in alike)
        for leg in alike:
            if len(alike) > 2 and leg.latency_ms["p50"] > max(5 * usual, usual + 2):
                text = (
                    f"Viewer {leg.viewer} of {leg.room} gets its {source} {leg.latency_ms['p50']:.1f} ms late (p50), "
                    f"where {usual:.1f} ms is usual."
                )
                found.append(Finding("slow-viewer", "server egress", text, leg.room, leg.viewer))
    return found[:10]
