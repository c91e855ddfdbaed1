"""The estimator by itself: every form of feedback, none at all, and any."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediaserver.sfu.policy.bwe.bandwidth import Bandwidth
from mediaserver.sfu.wire.rtcp_packets import write_transport
from tests.fuzz.bandwidth import bandwidth as any_sequence
from tests.fuzz.bandwidth import check
from tests.fuzz.steps import step

from .line import MS, SECOND, Line, Sender, Viewer, World

START = 1_300_000
NOW = 10 * SECOND


def reported(bandwidth: Bandwidth, first: int, arrivals: list[int | None], now: int) -> None:
    data, consumed = write_transport(1, 2, 0, first & 0xFFFF, arrivals)
    assert consumed == len(arrivals)
    bandwidth.feedback(data, now)


def steady(bandwidth: Bandwidth, seconds: float, bps: float = 1e6, now: int = NOW, tell: bool = True) -> int:
    """Packets of 1,000 bytes that all arrive after 20 ms, told each 50 ms; the time after them."""
    gap = round(8e9 / bps)
    end = now + round(seconds * SECOND)
    sent: list[tuple[int, int]] = []
    due = now + 50 * MS
    while now < end:
        sent.append((bandwidth.sent(1_000, now), now + 20 * MS))
        now += gap
        if now >= due:
            if tell:
                reported(bandwidth, sent[0][0], [time for _, time in sent], now + 30 * MS)
            sent.clear()
            due += 50 * MS
            bandwidth.process(now + 30 * MS)
    return now + 31 * MS


class TestWithoutReports:
    def test_what_it_starts_with(self) -> None:
        bandwidth = Bandwidth(NOW)
        check(bandwidth)
        assert bandwidth.target_bps == START
        assert bandwidth.round_trip == bandwidth.probe_bps == 0
        assert not bandwidth.congested

    def test_probes_begin_with_the_first_demand_and_follow_one_another(self) -> None:
        bandwidth = Bandwidth(NOW)
        bandwidth.demand(0, 9_000_000, NOW)
        assert bandwidth.probe_bps == 2 * START
        size = bandwidth.probe_bytes_left
        assert size == 2 * START // 8 // 50  # 20 ms
        bandwidth.sent(1_000, NOW)
        assert bandwidth.probe_bytes_left == size - 1_000
        bandwidth.sent(6_000, NOW + MS)
        assert bandwidth.probe_bps == 4 * START
        bandwidth.sent(15_000, NOW + 2 * MS)
        assert bandwidth.probe_bps == bandwidth.probe_bytes_left == 0
        assert bandwidth.process(NOW + 3 * MS) > NOW
        assert bandwidth.probe_bps == 0  # first the result

    def test_no_probe_beyond_what_is_wanted(self) -> None:
        bandwidth = Bandwidth(NOW)
        bandwidth.demand(100_000, 1_200_000, NOW)
        assert bandwidth.probe_bps == 0
        bandwidth.demand(100_000, 2_000_000, NOW)
        assert bandwidth.probe_bps == 2_300_000

    def test_a_probe_that_is_never_sent_is_given_up(self) -> None:
        bandwidth = Bandwidth(NOW)
        bandwidth.demand(0, 5_000_000, NOW)
        bandwidth.process(NOW + 60 * SECOND)
        assert bandwidth.probe_bps  # the transport is not up yet
        bandwidth.sent(100, NOW + 60 * SECOND)
        bandwidth.process(NOW + 61 * SECOND)
        assert bandwidth.probe_bps == 0

    def test_silence_from_the_start_is_no_outage(self) -> None:
        bandwidth = Bandwidth(NOW)
        steady(bandwidth, 5, tell=False)
        assert bandwidth.target_bps == START
        assert not bandwidth.congested

    def test_an_estimate_of_the_far_end_leads_when_packets_have_no_numbers(self) -> None:
        bandwidth = Bandwidth(NOW)
        for i in range(50):
            bandwidth.untracked(1_200, NOW + i * 10 * MS)
        bandwidth.demand(1_000_000, 3_000_000, NOW + 600 * MS)
        bandwidth.remb(1_800_000, NOW + 600 * MS)
        assert bandwidth.probe_bps == 0
        assert bandwidth.target_bps == 1_800_000
        bandwidth.remb(700_000, NOW + 900 * MS)
        assert bandwidth.target_bps == 700_000
        bandwidth.remb(0, NOW + 900 * MS)
        check(bandwidth)

    def test_receiver_reports_lead_when_there_is_nothing_else(self) -> None:
        bandwidth = Bandwidth(NOW)
        bandwidth.demand(1_000_000, 3_000_000, NOW)
        now = NOW
        for _ in range(20):
            now += SECOND
            bandwidth.untracked(1_200, now)
            bandwidth.loss(0, 40 * MS, now)
        assert bandwidth.round_trip == 40 * MS
        assert 3_000_000 < bandwidth.target_bps < 1.5 * 3_000_000
        before = bandwidth.target_bps
        bandwidth.loss(64, 40 * MS, now + SECOND)
        assert bandwidth.target_bps == pytest.approx(0.875 * before, rel=0.01)
        assert bandwidth.lost_share > 0.1
        before = bandwidth.target_bps
        bandwidth.loss(13, 0, now + 2 * SECOND)  # 5 %: neither
        assert bandwidth.target_bps == before


class TestReports:
    def test_the_round_trip_and_what_is_in_flight(self) -> None:
        bandwidth = Bandwidth(NOW)
        now = steady(bandwidth, 2)
        assert 30 * MS <= bandwidth.round_trip <= 60 * MS
        assert bandwidth.in_flight <= 12 * 1_000
        number = bandwidth.sent(1_000, now)
        flying = bandwidth.in_flight
        reported(bandwidth, number, [now], now + 40 * MS)
        assert bandwidth.in_flight < flying
        left = bandwidth.in_flight
        reported(bandwidth, number, [now], now + 50 * MS)  # once more
        assert bandwidth.in_flight == left

    def test_the_far_ends_estimate_is_a_cap(self) -> None:
        bandwidth = Bandwidth(NOW)
        now = steady(bandwidth, 1)
        bandwidth.remb(123_000, now)
        assert bandwidth.target_bps == 123_000
        assert bandwidth.pacing_bps <= 2 * 123_000
        bandwidth.process(now + 11 * SECOND)
        bandwidth.remb(10**15, now + 11 * SECOND)
        assert bandwidth.target_bps >= 50_000

    def test_reports_of_packets_that_never_left_are_ignored(self) -> None:
        bandwidth = Bandwidth(NOW)
        now = steady(bandwidth, 1)
        before = (bandwidth.target_bps, bandwidth.in_flight, bandwidth.round_trip)
        reported(bandwidth, 30_000, [now + i for i in range(500)], now + MS)
        assert (bandwidth.target_bps, bandwidth.in_flight, bandwidth.round_trip) == before

    def test_silence_cuts_knocks_and_ends(self) -> None:
        bandwidth = Bandwidth(NOW)
        now = steady(bandwidth, 3)
        before = bandwidth.target_bps
        now = steady(bandwidth, 1, now=now, tell=False)
        assert bandwidth.congested
        assert bandwidth.target_bps < before / 4
        knocks = 0
        for _ in range(100):
            now += 10 * MS
            bandwidth.demand(0, 5_000_000, now)
            if bandwidth.probe_bps:
                assert bandwidth.probe_bytes_left <= 250
                bandwidth.sent(250, now)
                knocks += 1
        assert 8 <= knocks <= 11
        steady(bandwidth, 0.2, now=now)
        assert not bandwidth.congested
        assert bandwidth.target_bps > before / 2

    def test_a_pause_is_no_outage(self) -> None:
        bandwidth = Bandwidth(NOW)
        now = steady(bandwidth, 3)
        before = bandwidth.target_bps
        bandwidth.process(now + 60 * SECOND)
        assert not bandwidth.congested
        now = steady(bandwidth, 1, now=now + 60 * SECOND)
        assert bandwidth.target_bps >= 0.9 * before

    def test_without_a_wish_for_more_the_line_is_left_alone(self) -> None:
        bandwidth = Bandwidth(NOW)
        bandwidth.demand(400_000, 400_000, NOW)
        now = NOW
        for _ in range(30):
            now = steady(bandwidth, 1, bps=400_000, now=now)
            assert bandwidth.probe_bps == 0
            bandwidth.demand(400_000, 400_000, now)
        assert bandwidth.target_bps <= 1.5 * 400_000 + 100_000

    def test_an_unused_estimate_is_measured_again(self) -> None:
        bandwidth = Bandwidth(NOW)
        now = steady(bandwidth, 3)
        target = bandwidth.target_bps
        probes = 0
        for _ in range(100):
            bandwidth.demand(100_000, round(0.9 * target), now)
            if bandwidth.probe_bps:
                probes += 1
                while bandwidth.probe_bps:
                    bandwidth.sent(1_000, now)
            now = steady(bandwidth, 0.25, bps=100_000, now=now)
        assert 1 <= probes <= 8


class TestMemory:
    def test_little_when_idle_and_bounded_when_not(self) -> None:
        bandwidth = Bandwidth(NOW)
        assert bandwidth.memory < 4 * 1024
        now = steady(bandwidth, 10, bps=12e6)
        assert 12 * 1024 < bandwidth.memory <= 24 * 1024
        for _ in range(30):
            now = steady(bandwidth, 1, bps=0.2e6, now=now)
        assert bandwidth.memory < 6 * 1024
        bandwidth.process(now + 20 * SECOND)
        assert bandwidth.memory < 4 * 1024
        assert bandwidth.in_flight == 0


class NamingViewer(Viewer):
    """Reports by SSRC and sequence number (RFC 8888): here even numbers are one stream, odd ones another."""

    def report(self) -> None:
        if not self.arrivals or self.next_base is None:
            return
        now = self.world.now + self.offset
        body = struct.pack("!I", 1)
        for stream in (0, 1):
            numbers = [
                n for n in range(min(self.next_base, min(self.arrivals)), max(self.arrivals) + 1) if n % 2 == stream
            ]
            body += struct.pack("!IHH", 70 + stream, (numbers[0] // 2) & 0xFFFF if numbers else 0, len(numbers))
            for number in numbers:
                time = self.arrivals.get(number)
                age = 0 if time is None else max(0, (now - time) * 1024 // SECOND)
                body += struct.pack("!H", 0 if time is None else 0x8000 | min(age, 8189))
            body += bytes(2 * (len(numbers) % 2))
        body += struct.pack("!I", (now * 65536 // SECOND) & 0xFFFFFFFF)
        self.send(struct.pack("!BBH", 0x80 | 11, 205, len(body) // 4) + body)
        self.next_base = max(self.arrivals) + 1
        self.arrivals.clear()


class NamedSender(Sender):
    def transmit(self, size: int, kind: int) -> None:
        number = self.numbers
        super().transmit(size, kind)
        self.bandwidth.name(70 + number % 2, (number // 2) & 0xFFFF)


class TestCongestionFeedback:
    @pytest.mark.parametrize("loss", [0.0, 0.03])
    def test_does_as_well_as_transport_wide_feedback(self, loss: float) -> None:
        world = World()
        line = Line(world, 4e6, loss=loss)
        sender = NamedSender(world, line, make_viewer=NamingViewer)
        world.run(sender.start + 15 * SECOND)
        assert sender.figures.reached(0.85 * 4e6, sender.start) < 1
        assert sender.figures.mean(sender.figures.targets, sender.start + SECOND, world.now) > 0.85 * 4e6
        assert line.wait_p95(sender.start + SECOND) < 60
        assert loss / 3 <= sender.bandwidth.lost_share <= 2 * loss
        assert sender.bandwidth.memory <= 24 * 1024

    def test_is_ignored_where_packets_have_no_names(self) -> None:
        world = World()
        sender = Sender(world, Line(world, 4e6), make_viewer=NamingViewer)
        world.run(sender.start + 2 * SECOND)
        assert sender.bandwidth.round_trip == 0
        assert sender.bandwidth.target_bps == START


steps = st.builds(step, st.integers(0, 255), st.binary(max_size=60))


@settings(max_examples=300, deadline=None)
@given(st.lists(steps, max_size=80).map(b"".join))
def test_nothing_that_is_said_breaks_it(data: bytes) -> None:
    any_sequence(data)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.none() | st.integers(0, 2**33), st.integers(0, 300)), min_size=1, max_size=120
    ),
    st.integers(0, 20_000_000),
)
def test_no_feedback_lifts_it_beyond_reason(messages: list[tuple[int, int | None, int]], wanted: int) -> None:
    """Arrivals at any times of packets that were sent at 1 Mbit/s: no target far above what is wanted."""
    bandwidth = Bandwidth(NOW)
    now = NOW
    bandwidth.demand(wanted, wanted, now)
    for count, arrival, gap in messages:
        first = bandwidth.sent(1_000, now)
        for i in range(count):
            bandwidth.sent(1_000, now + 8 * MS * i)
        now += 8 * MS * (count + 1)
        data, _ = write_transport(
            1, 2, 0, first, [None if arrival is None else arrival + gap * i for i in range(count + 1)]
        )
        if data:
            bandwidth.feedback(data, now)
        bandwidth.demand(wanted, wanted, now)
        check(bandwidth)
        assert bandwidth.target_bps <= max(1.5 * wanted + 100_000, START)
