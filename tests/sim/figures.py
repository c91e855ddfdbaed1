"""What a run showed, as numbers: of the line, of each picture and of each sound that one doctor got."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise

import msgspec
import numpy as np

from mediaserver.sfu.stream.params import PlaneEvent
from tests.sim.consultation import Consultation, SourceSpec
from tests.sim.encoder import VideoSpec
from tests.sim.lines import Line
from tests.sim.network import MS, SECOND, Link
from tests.sim.receiving import VideoReceiver
from tests.sim.viewer import LATE_SOUND_US, SoundReceiver, Viewer

FREEZE_US = 250 * MS
FREEZE_INTERVALS = 3
WINDOW_US = 2 * SECOND
"""Over so long a rate is held against a floor; one second for frames."""
FLOOR_TOLERANCE = 0.95
"""An encoder that is told 1,000 kbit/s wanders about it by so much over the window."""
STEP_US = 100 * MS
SETTLE_US = SECOND
"""A floor counts from so long after the join."""
LEG_QUALITY = 11
PAUSED_BY_LINE = 2


class Recovery(msgspec.Struct):
    """After the line got better at `at_s` of the run: how long until a picture of that time was shown, and one of the
    best encoding. None: not in this run."""

    at_s: float
    live_ms: float | None
    full_ms: float | None


class PictureFigures(msgspec.Struct):
    """One picture at one doctor. Shares are of the time from one second after the join; a freeze is no new picture for
    max(3 frame intervals, 250 ms), time that the server said it had paused the picture aside (`paused_s`)."""

    source: str
    kbps: float
    frames_per_s: float
    freezes: int
    freeze_s: float
    longest_freeze_ms: float
    paused_s: float
    under_floor: float
    under_floor_rate: float
    under_floor_frames: float
    below_alarm: float
    delay_p50_ms: float
    delay_p95_ms: float
    first_frame_ms: float | None
    full_ms: float | None
    by_encoding: list[float]
    switches: int
    recoveries: list[Recovery]
    keyframes: int
    corrupt: int
    skipped: int
    nacked: int
    recovered: int
    given_up: int
    plis: int


class SoundFigures(msgspec.Struct):
    """One sound at one doctor: `lost` is the share of what the microphone made that did not come in time to be played,
    `late` the part of it that came too late."""

    source: str
    kbps: float
    lost: float
    late: float
    longest_gap_ms: float
    delay_p95_ms: float
    under_floor: float


class LineFigures(msgspec.Struct):
    """The line itself. `use` is what was carried of what it could carry; queueing includes a packet's own time on the
    line; `overflow` and `lost` are shares of the bytes that were sent. `overshoot` is by how much the busiest second
    was over what the line carries, `over_share` the share of seconds in which it was."""

    use: float
    sent_kbps: float
    capacity_kbps: float
    queue_p50_ms: float
    queue_p95_ms: float
    queue_max_ms: float
    overflow: float
    lost: float
    overshoot: float
    over_share: float
    padding_share: float


class RunFigures(msgspec.Struct):
    """One run, as seen by the doctor with the line."""

    line: str
    policy: str
    seconds: float
    seed: int
    network: LineFigures
    pictures: dict[str, PictureFigures]
    sounds: dict[str, SoundFigures]
    publisher_kbps: float
    publisher_keyframes: int
    publisher_plis: int
    publisher_nacks: int


def percentile(values: Sequence[float] | np.ndarray, share: float) -> float:
    """0 of nothing."""
    return float(np.percentile(np.asarray(values), share)) if len(values) else 0.0


# ---- freezes


def gaps(shown: Sequence[int], begin: int, end: int, limit: int) -> list[tuple[int, int]]:
    """Where no new picture came for `limit` µs: from the first one on until `end`, or all the time if none came."""
    times = [at for at in shown if begin <= at < end] or [begin]
    return [(a, b) for a, b in pairwise([*times, end]) if b - a >= limit]


def freeze_limit(frames: int) -> int:
    """The rule of BUDGETS.md, for a source of so many frames a second."""
    return max(FREEZE_INTERVALS * SECOND // frames, FREEZE_US)


def overlap(begin: int, end: int, spans: Sequence[tuple[int, int]]) -> int:
    """How much of begin to end lies in these spans, which are apart from each other."""
    return sum(max(0, min(end, b) - max(begin, a)) for a, b in spans)


def pauses(events: Sequence[PlaneEvent], leg: int, end: int) -> list[tuple[int, int]]:
    """When the server had told that the line made it pause this leg."""
    spans: list[tuple[int, int]] = []
    since = -1
    for event in events:
        if event.kind != LEG_QUALITY or event.id != leg:
            continue
        paused = event.value >> 16 == PAUSED_BY_LINE
        if paused and since < 0:
            since = event.time
        elif not paused and since >= 0:
            spans.append((since, event.time))
            since = -1
    return [*spans, (since, end)] if since >= 0 else spans


# ---- pictures


def below(shown: Sequence[int], weights: Sequence[int], begin: int, end: int, window: int, least: float) -> list[bool]:
    """At each step from begin to end: whether the weights of the window before it add up to less than `least`."""
    sums = [0, *accumulate(weights)]
    found = []
    for at in range(begin, end, STEP_US):
        low, high = bisect_right(shown, at - window), bisect_right(shown, at)
        found.append(sums[high] - sums[low] < least)
    return found


def withheld(
    shown: Sequence[int],
    bits: Sequence[int],
    sent: Sequence[tuple[int, int]],
    begin: int,
    end: int,
    window: int,
    floor: float,
) -> list[bool]:
    """At each step: whether less was shown in the window before it than the floor and than what was `sent`."""
    times, sums = [at for at, _ in sent], [0, *accumulate(size for _, size in sent)]
    shown_sums = [0, *accumulate(bits)]
    found = []
    for at in range(begin, end, STEP_US):
        could = sums[bisect_right(times, at)] - sums[bisect_right(times, at - window)]
        got = shown_sums[bisect_right(shown, at)] - shown_sums[bisect_right(shown, at - window)]
        found.append(got < FLOOR_TOLERANCE * min(floor, could))
    return found


def share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags) if flags else 0.0


def either(*rows: Sequence[bool]) -> list[bool]:
    return [any(flags) for flags in zip(*rows, strict=True)]


def first_after(receiver: VideoReceiver, at: int, *, encoding: int | None = None) -> float | None:
    """ms from `at` until a picture that was captured after it was shown (in that encoding or a better one)."""
    for index in range(bisect_left(receiver.shown_at, at), len(receiver.shown_at)):
        if receiver.captured[index] >= at and (encoding is None or receiver.encodings[index] >= encoding):
            return (receiver.shown_at[index] - at) / MS
    return None


def picture_figures(
    spec: SourceSpec,
    receiver: VideoReceiver,
    begin: int,
    end: int,
    changes: Sequence[int],
    paused: list[tuple[int, int]],
    made: Sequence[tuple[int, int, int]],
) -> PictureFigures:
    medium = spec.medium
    assert isinstance(medium, VideoSpec)
    shown = receiver.shown_at
    top = len(medium.encodings) - 1
    limit = freeze_limit(medium.frames)
    frozen = [(a, b, b - a - overlap(a, b, paused)) for a, b in gaps(shown, begin, end, limit)]
    frozen = [one for one in frozen if one[2] >= limit]
    settled, window = begin + SETTLE_US, WINDOW_US
    bits = [size * 8 for size in receiver.sizes]
    ones = [1] * len(shown)
    # While the window still reaches back before the join there is less in it: judge from when it is full.
    first = max(settled, begin + window)

    delay = int(percentile([a - b for a, b in zip(shown, receiver.captured, strict=True)], 50))

    def poor(kbps: int, frames: int) -> tuple[list[bool], list[bool]]:
        # A floor is no more than what the cart sends: what its encoder saves for a moment, no line withholds.
        meets = next((i for i, one in enumerate(medium.encodings) if one.most >= kbps * 1000), top)
        least = 0 if medium.svc else meets
        sent = [(at + delay, size * 8) for at, layer, size in made if least <= layer <= meets]
        rate = withheld(shown, bits, sent, first, end, window, kbps * window / MS)
        return rate, below(shown, ones, first, end, window, frames * window / SECOND * FLOOR_TOLERANCE)

    rate, frames = poor(spec.floor_kbps, spec.floor_frames)
    small = [height < spec.least_height for height in receiver.heights]
    low = [any(small[bisect_right(shown, at - SECOND) : bisect_right(shown, at)]) for at in range(first, end, STEP_US)]
    delays = [(a - b) / MS for a, b in zip(shown, receiver.captured, strict=True)]
    seconds = (end - begin) / SECOND
    counted = [receiver.encodings[index] for index in range(len(shown))]
    return PictureFigures(
        source=spec.source,
        kbps=receiver.bytes * 8 / seconds / 1000,
        frames_per_s=len(shown) / seconds,
        freezes=len(frozen),
        freeze_s=sum(one[2] for one in frozen) / SECOND,
        longest_freeze_ms=max((one[2] for one in frozen), default=0) / MS,
        paused_s=overlap(begin, end, paused) / SECOND,
        under_floor=share(either(rate, frames, low)),
        under_floor_rate=share(rate),
        under_floor_frames=share(frames),
        below_alarm=share(either(*poor(spec.alarm_kbps, spec.alarm_frames))),
        delay_p50_ms=percentile(delays, 50),
        delay_p95_ms=percentile(delays, 95),
        first_frame_ms=(shown[0] - begin) / MS if len(shown) else None,
        full_ms=first_after(receiver, begin, encoding=top),
        by_encoding=[counted.count(index) / max(1, len(counted)) for index in range(top + 1)],
        switches=sum(a != b for a, b in pairwise(counted)),
        recoveries=[
            Recovery(at / SECOND, first_after(receiver, begin + at), first_after(receiver, begin + at, encoding=top))
            for at in changes
        ],
        keyframes=receiver.keyframes,
        corrupt=receiver.corrupt,
        skipped=receiver.skipped,
        nacked=receiver.nacked,
        recovered=receiver.recovered,
        given_up=receiver.given_up,
        plis=receiver.plis,
    )


# ---- sounds


def sound_figures(spec: SourceSpec, receiver: SoundReceiver, begin: int, end: int) -> SoundFigures:
    """Numbers of the microphone tell what is missing, also what the server never sent."""
    numbers, arrivals = np.asarray(receiver.numbers), np.asarray(receiver.arrivals)
    if not len(numbers):
        return SoundFigures(spec.source, 0.0, 1.0, 0.0, (end - begin) / MS, 0.0, 1.0)
    delays = arrivals - np.asarray(receiver.captured)
    in_time = delays <= delays.min() + LATE_SOUND_US
    # From the first that came to the last that could not come in time any more: every 20 ms one.
    captured = np.asarray(receiver.captured)
    until = end - int(delays.min()) - LATE_SOUND_US
    expected = max(1, (until - int(captured.min())) // (20 * MS))
    played = len(np.unique(numbers[in_time & (captured < until)]))
    late = len(numbers) - int(in_time.sum())
    heard = np.sort(arrivals[in_time])
    size = receiver.bytes * 8 / max(1, receiver.packets)
    flags = below(
        list(heard),
        [int(size)] * len(heard),
        begin + SETTLE_US + SECOND,
        end,
        SECOND,
        spec.floor_kbps * 1000 * FLOOR_TOLERANCE,
    )
    return SoundFigures(
        source=spec.source,
        kbps=receiver.bytes * 8 / ((end - begin) / SECOND) / 1000,
        lost=max(0.0, 1 - played / expected),
        late=late / expected,
        longest_gap_ms=float(np.diff(np.append(heard, end)).max()) / MS,
        delay_p95_ms=percentile(delays, 95) / MS,
        under_floor=share(flags),
    )


# ---- the line


def line_figures(link: Link, begin: int, end: int, padding: int) -> LineFigures:
    times, queued, sizes = np.asarray(link.times), np.asarray(link.queued), np.asarray(link.sizes)
    inside = (times >= begin) & (times < end)
    waits = queued[inside & (queued >= 0)]
    capacity = link.capacity(begin, end) - link.rival_bytes
    offered = int(sizes[inside].sum())
    overshoots = []
    for at in range(begin, end - SECOND + 1, SECOND):
        could = link.capacity(at, at + SECOND)
        if could:
            sent = int(sizes[(times >= at) & (times < at + SECOND)].sum())
            overshoots.append(sent / could - 1)
    seconds = (end - begin) / SECOND
    return LineFigures(
        use=int(sizes[inside & (queued >= 0) & (times + queued <= end)].sum()) / max(1, capacity),
        sent_kbps=offered * 8 / seconds / 1000,
        capacity_kbps=capacity * 8 / seconds / 1000,
        queue_p50_ms=percentile(waits, 50) / MS,
        queue_p95_ms=percentile(waits, 95) / MS,
        queue_max_ms=float(waits.max(initial=0)) / MS,
        overflow=link.overflowed / max(1, link.offered),
        lost=link.lost / max(1, link.offered),
        overshoot=max(0.0, max(overshoots, default=0.0)),
        over_share=share([one > 0 for one in overshoots]),
        padding_share=padding / max(1, link.offered),
    )


def doctor_figures(
    line: Line, consultation: Consultation, doctor: Viewer, begin: int, end: int
) -> tuple[LineFigures, dict[str, PictureFigures], dict[str, SoundFigures]]:
    pictures, sounds = {}, {}
    events = consultation.laboratory.events
    for index, spec in enumerate(consultation.sources):
        ssrc = doctor.number * 1_000 + 10 * index
        if isinstance(spec.medium, VideoSpec):
            paused = pauses(events, ssrc, end)
            encoder = consultation.cart.tracks[index].encoder
            assert encoder is not None
            pictures[spec.source] = picture_figures(
                spec, doctor.pictures[ssrc], begin, end, line.changes, paused, encoder.made
            )
        else:
            sounds[spec.source] = sound_figures(spec, doctor.sounds[ssrc], begin, end)
    return line_figures(doctor.down, begin, end, doctor.padding), pictures, sounds
