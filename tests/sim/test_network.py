"""The laboratory's lines do what they are told: rate, queue, delay, loss, and the same for the same seed."""

from __future__ import annotations

import itertools

import pytest

from tests.sim.lines import ALL_LINES
from tests.sim.network import HEADERS, MS, SECOND, BurstLoss, Competitor, Link, LinkSpec, short_queue
from tests.sim.traces import FOLDER, read_trace, trace_link

ADDR = ("192.0.2.1", 5000)
PACKET = bytes(1000 - HEADERS)
PACKET_BITS = 8_000


def steady(bps: int, **more: object) -> LinkSpec:
    return LinkSpec(steps=((0, bps),), **more)  # type: ignore[arg-type]


def arrivals(link: Link, count: int, every: int, start: int = 0) -> list[int]:
    """When packets arrive that are offered at this pace; -1 for the lost."""
    return [link.offer(PACKET, ADDR, start + number * every) for number in range(count)]


def test_a_link_carries_exactly_its_rate() -> None:
    link = Link(steady(3_000_000, queue=10**9, delay=7 * MS), 1, 0)
    times = arrivals(link, 3_000, 0)
    assert abs(times[-1] - 7 * MS - 3_000 * PACKET_BITS / 3) <= 1  # µs at 3 bits each
    gaps = {b - a for a, b in itertools.pairwise(times)}
    assert gaps <= {2666, 2667}
    assert link.capacity(0, times[-1] - 7 * MS) == pytest.approx(3_000_000, rel=1e-6)


def test_an_idle_link_delays_by_its_delay_and_the_packets_own_time() -> None:
    link = Link(steady(8_000_000, delay=20 * MS), 1, 0)
    assert link.offer(PACKET, ADDR, 5_000) == 5_000 + 1_000 + 20 * MS
    assert link.take(26_000) == [(26_000, 0, PACKET, ADDR)]


def test_the_queue_drops_what_has_no_room() -> None:
    link = Link(steady(1_000_000, queue=10_000), 1, 0)
    times = arrivals(link, 50, 0)
    assert sum(at >= 0 for at in times) == 10
    assert (link.overflowed_packets, link.lost_packets) == (40, 0)
    later = link.offer(PACKET, ADDR, 8 * MS)  # one has left
    assert later >= 0
    assert link.offer(PACKET, ADDR, 8 * MS) == -1
    assert max(link.queued) == 80 * MS


def test_steps_and_traces_change_the_rate_in_the_middle_of_a_packet() -> None:
    spec = LinkSpec(steps=((0, 1_000_000), (4 * MS, 2_000_000)), delay=0)
    link = Link(spec, 1, 0)
    assert link.offer(PACKET, ADDR, 0) == 4 * MS + 2 * MS
    repeating = Link(LinkSpec(steps=((0, 1_000_000), (SECOND, 3_000_000)), repeat=2 * SECOND), 1, 0)
    assert [repeating.rate(second * SECOND) for second in range(4)] == [1_000_000, 3_000_000] * 2
    assert repeating.capacity(0, 10 * SECOND) == 10 * 2_000_000 // 8


def test_random_loss_is_what_was_asked_for() -> None:
    link = Link(steady(10**9, loss=0.03, queue=10**9), 5, 0)
    count = 40_000
    lost = sum(at < 0 for at in arrivals(link, count, 10))
    assert abs(lost / count - 0.03) < 4 * (0.03 * 0.97 / count) ** 0.5


def test_burst_loss_has_its_share_and_its_length() -> None:
    link = Link(steady(10**9, burst=BurstLoss(0.10, 5.0), queue=10**9), 5, 0)
    flags = [at < 0 for at in arrivals(link, 100_000, 10)]
    runs = [len(list(group)) for lost, group in itertools.groupby(flags) if lost]
    assert sum(flags) / len(flags) == pytest.approx(0.10, abs=0.008)
    assert sum(runs) / len(runs) == pytest.approx(5.0, rel=0.06)
    partly = Link(steady(10**9, burst=BurstLoss(0.10, 8.0, 0.5), queue=10**9), 5, 0)
    flags = [at < 0 for at in arrivals(partly, 100_000, 10)]
    assert sum(flags) / len(flags) == pytest.approx(0.10, abs=0.012)


def test_nothing_passes_in_an_outage() -> None:
    link = Link(steady(8_000_000, delay=0, outages=((SECOND, 3 * SECOND),)), 1, 0)
    came = [at for at in arrivals(link, 500, 10 * MS) if at >= 0]
    assert not [at for at in came if SECOND <= at < 3 * SECOND]
    assert len(came) == 300
    assert link.capacity(0, 4 * SECOND) == 2_000_000


def test_jitter_wanders_and_reorders_only_where_it_may() -> None:
    ordered = arrivals(Link(steady(10**9, jitter=30 * MS), 3, 0), 5_000, 10 * MS)
    assert ordered == sorted(ordered)
    loose = arrivals(Link(steady(10**9, jitter=30 * MS, reorder=True), 3, 0), 5_000, 10 * MS)
    extra = [at - number * 10 * MS - 20 * MS for number, at in enumerate(loose)]
    assert any(b < a for a, b in itertools.pairwise(loose))
    assert min(extra) >= 0
    assert sum(extra) / len(extra) == pytest.approx(32 * MS, rel=0.1)  # the mean, and what is cut off below none


@pytest.mark.parametrize("name", sorted(ALL_LINES))
def test_the_same_seed_gives_the_same_line(name: str) -> None:
    first, second = (arrivals(Link(ALL_LINES[name].down, 9, 0), 2_000, 3 * MS) for _ in range(2))
    assert first == second
    spec = ALL_LINES[name].down
    if spec.jitter or spec.loss or spec.burst:
        assert arrivals(Link(spec, 10, 0), 2_000, 3 * MS) != first


def test_a_greedy_rival_fills_the_line_and_shares_it() -> None:
    spec = steady(4_000_000, queue=short_queue(4_000_000), competitors=(Competitor(0, 30 * SECOND),))
    link = Link(spec, 1, 0)
    arrivals(link, 1_500, 20 * MS)  # 400 kbit/s over half a minute
    assert link.rival_bytes * 8 / 30 == pytest.approx(3_600_000, rel=0.08)
    assert link.overflowed_packets > 0


def test_random_rivals_take_their_rate() -> None:
    link = Link(steady(4_000_000, competitors=(Competitor(SECOND, 31 * SECOND, bps=1_500_000),)), 1, 0)
    arrivals(link, 4_000, 10 * MS)
    assert link.rival_bytes * 8 / 30 == pytest.approx(1_500_000, rel=0.05)


def test_traces_are_read_and_their_mistakes_named() -> None:
    assert read_trace("# note\n100 2000\n\n300 500\n") == (((0, 2_000_000), (100 * MS, 500_000)), 400 * MS)
    with pytest.raises(ValueError, match="line 2 "):
        read_trace("100 2000\nfast\n")
    with pytest.raises(ValueError, match="not positive"):
        read_trace("100 0\n")
    with pytest.raises(ValueError, match="without a step"):
        read_trace("# nothing\n")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_every_trace_is_whole_minutes_and_carries_its_mean(path: object) -> None:
    name = path.stem  # type: ignore[attr-defined]
    spec = trace_link(name)
    assert spec.repeat % (60 * SECOND) == 0
    link = Link(spec, 1, 0)
    once, twice = link.capacity(0, spec.repeat), link.capacity(0, 2 * spec.repeat)
    assert twice == pytest.approx(2 * once, abs=2)
