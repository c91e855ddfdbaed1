from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mediaserver.sfu.wire.rtcp_packets import TransportFeedback, read, write_transport

TICK = 250
REFERENCE = 64_000


def parse(data: bytes) -> TransportFeedback:
    (packet,) = read(data)
    assert isinstance(packet, TransportFeedback)
    return packet


def times_of(packet: TransportFeedback) -> list[int | None]:
    """Arrival times in us, to a tick, as far as 24 bits of reference time tell them."""
    now = packet.reference * REFERENCE
    times: list[int | None] = []
    for delta in packet.deltas:
        now += TICK * (delta or 0)
        times.append(None if delta is None else now)
    return times


def rounded(arrivals: list[int | None]) -> list[int | None]:
    return [None if arrival is None else arrival // TICK * TICK for arrival in arrivals]


def write_all(arrivals: list[int | None], base: int, capacity: int) -> list[TransportFeedback]:
    """Messages until everything is said, each checked against its bound."""
    messages = []
    done = 0
    while done < len(arrivals):
        data, consumed = write_transport(1, 2, len(messages) & 0xFF, (base + done) & 0xFFFF, arrivals[done:], capacity)
        assert 0 < consumed <= len(arrivals) - done
        assert len(data) <= capacity
        assert len(data) % 4 == 0
        if data:
            message = parse(data)
            assert len(message.deltas) == consumed
            messages.append(message)
        else:
            assert set(arrivals[done : done + consumed]) == {None}
        done += consumed
    return messages


def frame(fci: bytes, padding: int = 0) -> bytes:
    body = bytes(8) + fci + (bytes(padding - 1) + bytes([padding]) if padding else b"")
    assert len(body) % 4 == 0
    return bytes([0x8F | (0x20 if padding else 0), 205]) + (len(body) // 4).to_bytes(2, "big") + body


def fixed(base: int, count: int, reference: int = 0, feedback: int = 0) -> bytes:
    return (
        base.to_bytes(2, "big")
        + count.to_bytes(2, "big")
        + (reference & 0xFFFFFF).to_bytes(3, "big")
        + bytes([feedback])
    )


@st.composite
def arrival_logs(draw: st.DrawFn) -> list[int | None]:
    """Packets of a path that loses, delays and reorders, with bursts and pauses of many seconds."""
    now = draw(st.integers(0, 2**40))
    log: list[int | None] = []
    for _ in range(draw(st.integers(0, 12))):
        kind = draw(st.sampled_from(["burst", "steady", "late", "loss", "pause"]))
        if kind == "loss":
            log += [None] * draw(st.one_of(st.integers(1, 40), st.integers(8000, 9000)))
        elif kind == "pause":
            now += draw(st.integers(0, 30_000_000))
        else:
            step = {"burst": 100, "steady": 5_000, "late": 200_000}[kind]
            for _ in range(draw(st.integers(1, 30))):
                log.append(now if draw(st.integers(0, 9)) else max(0, now - draw(st.integers(0, 50_000))))
                now += draw(st.integers(0, step))
    return log


class TestRoundTrip:
    @given(log=arrival_logs(), base=st.integers(0, 0xFFFF), capacity=st.integers(48, 1400))
    @example(log=[None] * 70_000 + [5], base=3, capacity=1200)
    @example(log=[10_000_000, 0, 20_000_000], base=65535, capacity=1200)
    def test_nothing_is_lost_or_moved(self, log: list[int | None], base: int, capacity: int) -> None:
        said: dict[int, int] = {}
        for message in write_all(log, base, capacity):
            assert -(2**23) <= message.reference < 2**23
            expected = rounded(log)
            for offset, time in enumerate(times_of(message)):
                if time is not None:
                    said[message.base + offset] = time
        wrapped = 2**24 * REFERENCE
        expected = {
            (base + index) & 0xFFFF: time % wrapped for index, time in enumerate(rounded(log)) if time is not None
        }
        assert {number & 0xFFFF: time % wrapped for number, time in said.items()} == expected

    @given(st.lists(st.one_of(st.none(), st.integers(0, 10_000_000)), min_size=1, max_size=200))
    def test_arrivals_in_any_order(self, log: list[int | None]) -> None:
        messages = write_all(log, 0, 65536)
        heard = [time for message in messages for time in times_of(message) if time is not None]
        assert heard == [time for time in rounded(log) if time is not None]

    def test_a_message_within_range_is_one_message(self) -> None:
        log = [1_000_000 + 700 * index for index in range(500)]
        (message,) = write_all(list(log), 65000, 1200)
        assert times_of(message) == rounded(list(log))

    def test_nothing_received_is_nothing_to_say(self) -> None:
        assert write_transport(1, 2, 3, 4, [None] * 100) == (b"", 100)
        assert write_transport(1, 2, 3, 4, []) == (b"", 0)

    def test_what_is_lost_first_and_last_is_said(self) -> None:
        data, consumed = write_transport(1, 2, 3, 4, [None, None, 64_000, None])
        assert consumed == 4
        assert parse(data) == TransportFeedback(1, 2, 4, 1, 3, (None, None, 0, None))

    def test_the_reference_time_wraps_at_24_bits(self) -> None:
        data, _ = write_transport(1, 2, 3, 4, [(2**24 + 5) * REFERENCE + 1000])
        assert parse(data) == TransportFeedback(1, 2, 4, 5, 3, (4,))
        data, _ = write_transport(1, 2, 3, 4, [(2**24 - 1) * REFERENCE])
        assert parse(data).reference == -1

    @pytest.mark.parametrize(("delta", "size"), [(0, 1), (255, 1), (256, 2), (-1, 2), (32767, 2), (-32768, 2)])
    def test_deltas_take_one_byte_or_two(self, delta: int, size: int) -> None:
        start = 1000 * REFERENCE
        data, consumed = write_transport(1, 2, 0, 0, [start, start + TICK * delta])
        assert consumed == 2
        assert parse(data).deltas == (0, delta)
        assert len(data) - (data[-1] if data[0] & 0x20 else 0) == 20 + 2 + 1 + size

    @pytest.mark.parametrize("delta", [32768, -32769])
    def test_a_delta_past_16_bits_is_left_for_the_next_message(self, delta: int) -> None:
        start = 1000 * REFERENCE
        data, consumed = write_transport(1, 2, 0, 0, [start, None, start + TICK * delta, start])
        assert consumed == 2
        assert parse(data).deltas == (0, None)

    @given(log=arrival_logs(), capacity=st.integers(0, 60))
    def test_a_bound_that_is_too_small_is_refused_or_kept(self, log: list[int | None], capacity: int) -> None:
        try:
            data, consumed = write_transport(1, 2, 0, 0, log, capacity)
        except ValueError:
            assert capacity < 48
            return
        assert len(data) <= capacity
        assert consumed == len(parse(data).deltas) if data else not any(log[:consumed])


class TestChunks:
    """The bytes of status chunks that sequences of statuses should become."""

    @staticmethod
    def chunks(log: list[int | None], size: int) -> bytes:
        return write_transport(1, 2, 0, 0, log)[0][20 : 20 + size]

    def test_a_long_run_is_one_chunk(self) -> None:
        assert self.chunks([0] * 8191, 2) == b"\x3f\xff"
        assert self.chunks([0] + [None] * 8191 + [1], 6) == b"\xa0\x00\x1f\xf2\x20\x01"

    def test_small_deltas_and_losses_take_one_bit_each(self) -> None:
        log = [0, None] * 7
        assert self.chunks(log, 2) == b"\xaa\xaa"

    def test_large_deltas_take_two_bits_each(self) -> None:
        log: list[int | None] = [0, 100_000, None, 200_000, 200_000, None, 300_000]
        assert self.chunks(log, 2) == (0xC000 | 0b01_10_00_10_01_00_10).to_bytes(2, "big")

    def test_the_rest_of_the_last_vector_is_zero(self) -> None:
        assert self.chunks([0, None, 0], 2) == b"\xa8\x00"


# Messages as other senders write them, with what they mean.
VECTORS = [
    (
        "afcd0005fa17fa1743032fa0009900013de8021720019401",
        TransportFeedback(0xFA17FA17, 0x43032FA0, 153, 4057090, 23, (148,)),
    ),
    (
        "afcd0007fa17fa17193dd8bb0004000710636e0120074c2424100c0c10000003",
        TransportFeedback(0xFA17FA17, 0x193DD8BB, 4, 1074030, 1, (76, 36, 36, 16, 12, 12, 16)),
    ),
    # The run of 48 goes past the count of 9.
    (
        "afcd00079b74f61f9371dcbc853c000963f916b3d55200309baa6aaa7b010901",
        TransportFeedback(
            0x9B74F61F, 0x9371DCBC, 34108, 6551830, 179, (155, 170, 106, 170, 123, None, 265, None, None)
        ),
    ),
    (
        "8fcd0007fa17fa17193dd8bb0174000645b15a40400220041ffe1f9ad000d000",
        TransportFeedback(0xFA17FA17, 0x193DD8BB, 372, 4567386, 64, (8190, 8090, 208, 0, 208, 0)),
    ),
]


class TestReading:
    @pytest.mark.parametrize(("data", "expected"), VECTORS)
    def test_messages_of_other_senders(self, data: str, expected: TransportFeedback) -> None:
        assert parse(bytes.fromhex(data)) == expected

    @pytest.mark.parametrize(("data", "expected"), VECTORS[:2])
    def test_writes_the_same_bytes(self, data: str, expected: TransportFeedback) -> None:
        log = times_of(expected)
        written, consumed = write_transport(
            expected.ssrc, expected.media_ssrc, expected.feedback_count, expected.base, log
        )
        assert consumed == len(log)
        assert written.hex() == data

    def test_the_statuses_of_every_chunk_form(self) -> None:
        chunks = b"\x00\x03" + b"\x20\x02" + b"\xa0\x03" + b"\xd8\x00" + b"\x40\x01"
        deltas = b"\x01\x02" + b"\x03\x04\x05" + b"\x06\xff\xfe" + b"\x7f\xff"
        none = (None,)
        assert parse(frame(fixed(65530, 27, -1, 7) + chunks + deltas)) == TransportFeedback(
            0, 0, 65530, -1, 7, (*none * 3, 1, 2, 3, *none * 11, 4, 5, 6, -2, *none * 5, 32767)
        )

    def test_padding_that_covers_a_delta_is_refused(self) -> None:
        data = "afcd0006fa17fa17193dd8bb0001000e10636d00ba00100c0c1000"
        assert parse(bytes.fromhex(data + "02")).deltas == (16, 12, 12, None, 16, *([None] * 9))
        with pytest.raises(ValueError, match="shorter"):
            read(bytes.fromhex(data + "03"))

    def test_a_run_of_none_says_nothing(self) -> None:
        assert parse(frame(fixed(0, 1) + b"\x20\x00\x20\x01\x09\0\0\0")).deltas == (9,)

    def test_all_statuses_that_a_count_can_say(self) -> None:
        runs = b"\x1f\xff" * 8 + b"\x00\x07"
        assert parse(frame(fixed(9, 65535) + runs, padding=2)).deltas == (None,) * 65535

    @pytest.mark.parametrize(
        "fci",
        [
            fixed(0, 0),
            fixed(0, 1),
            fixed(0, 65535) + b"\x1f\xff\x1f\xff",
            fixed(0, 2) + b"\x20\x01\x01\x01",
            fixed(0, 5) + b"\x20\x05\x01\x01",
            fixed(0, 3) + b"\x40\x03\x01\x01",
            fixed(0, 15) + b"\xbf\xff" + bytes(14),
            fixed(0, 1) + b"\x60\x01\x01\x01",
            fixed(0, 1) + b"\xf0\x00\x01\x01",
        ],
    )
    def test_what_does_not_add_up_is_refused(self, fci: bytes) -> None:
        with pytest.raises(ValueError, match=r"shorter|contradict"):
            read(frame(fci + bytes(-len(fci) % 4)) if len(fci) % 4 == 0 else frame(fci, padding=2))

    @given(count=st.integers(0, 0xFFFF), rest=st.binary(max_size=120))
    def test_noise_is_read_or_refused(self, count: int, rest: bytes) -> None:
        rest += bytes(-len(rest) % 4)
        try:
            packet = parse(frame(fixed(1, count) + rest))
        except ValueError:
            return
        assert len(packet.deltas) == count
        assert all(delta is None or -0x8000 <= delta <= 0x7FFF for delta in packet.deltas)
