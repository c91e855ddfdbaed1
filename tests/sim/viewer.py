"""A viewer as a browser is one: feedback of all kinds, repair, a jitter buffer that shows at once, and what it saw."""

from __future__ import annotations

from array import array
from collections import deque

from mediaserver.codecs.payload import Codec
from mediaserver.codecs.red import parse
from mediaserver.sfu.stream.engine import Engine
from mediaserver.sfu.stream.params import Address
from mediaserver.sfu.wire import rtcp_packets
from mediaserver.sfu.wire.rtcp_packets import Nack, PictureLoss, ReceiverReport, Remb, Report, SenderReport
from tests.sfu.wire.test_congestion_feedback import message as write_ccfb
from tests.sim.lab_peer import LabPeer
from tests.sim.network import FOREVER, MS, SECOND, Link
from tests.sim.payloads import read_truth
from tests.sim.receiving import NACK_ROUND_US, VideoReceiver

OWN_SSRC = 1
RED_TYPE = 63
TWCC_ID = 5
FEEDBACK_US = 50 * MS
FEEDBACK_MOST = 4_000
LATE_SOUND_US = 200 * MS
REMB_QUEUE_US = 50 * MS
"""Sound that comes so much later than the earliest packets did is not played any more."""


class SoundReceiver:
    """Opus in, some of it in RED (RFC 2198). Packets are known by the number that the microphone gave them: `arrivals`
    by number, `captured` too; a copy counts like the original where that has not come."""

    def __init__(self, ssrc: int) -> None:
        self.ssrc = ssrc
        self.numbers, self.arrivals, self.captured = array("q"), array("q"), array("q")
        self.packets = self.bytes = self.recovered = self.repeated = self.nacked = 0
        self.base = self.highest = -1
        self.missing: dict[int, int] = {}
        self._heard: set[int] = set()

    def take(self, number: int, payload_type: int, payload: bytes, now: int) -> None:
        if self.highest < 0:
            self.base = self.highest = number
        sequence = self.highest + ((number - self.highest + 0x8000) & 0xFFFF) - 0x8000
        if sequence > self.highest:
            self.missing.update(dict.fromkeys(range(self.highest + 1, sequence), now))
            self.highest = sequence
        elif self.packets:
            self.recovered += sequence in self.missing
            if self.missing.pop(sequence, None) is None:
                self.repeated += 1
                return
        self.packets += 1
        self.bytes += len(payload)
        for block in [one.data for one in parse(payload)] if payload_type == RED_TYPE else [payload]:
            truth = read_truth(block)
            if truth.unit not in self._heard:
                self._heard.add(truth.unit)
                self.numbers.append(truth.unit)
                self.captured.append(truth.captured)
                self.arrivals.append(now)

    def nacks(self, now: int, round_trip: int) -> list[int]:
        """libwebrtc's NackTracker: with each packet all that is missing, as long as it could come within a second."""
        self.missing = {one: at for one, at in self.missing.items() if now - at + round_trip < SECOND}
        self.nacked += len(self.missing)
        return [one & 0xFFFF for one in sorted(self.missing)]


class Arrivals:
    """What came of each SSRC by its own numbers, for feedback by RFC 8888."""

    def __init__(self) -> None:
        self._came: dict[int, dict[int, int]] = {}
        self._next: dict[int, int] = {}
        self._highest: dict[int, int] = {}

    def note(self, ssrc: int, number: int, now: int) -> None:
        highest = self._highest.setdefault(ssrc, number + 0x10000)
        wide = highest + ((number - highest + 0x8000) & 0xFFFF) - 0x8000
        self._highest[ssrc] = max(highest, wide)
        self._next.setdefault(ssrc, wide)
        self._came.setdefault(ssrc, {})[wide] = now

    def message(self, now: int) -> bytes:
        """Of each SSRC all since the last message, and what has come late since."""
        blocks = []
        for ssrc, came in self._came.items():
            first = min(self._next[ssrc], *came) if came else self._next[ssrc]
            if not came:
                continue
            told = [came.get(number) for number in range(first, self._highest[ssrc] + 1)]
            metrics = tuple(None if at is None else ((now - at) * 1024 // SECOND, 0) for at in told)
            blocks.append((ssrc, first & 0xFFFF, metrics))
            self._next[ssrc] = self._highest[ssrc] + 1
            came.clear()
        return write_ccfb(OWN_SSRC, now * 65536 // SECOND & 0xFFFFFFFF, blocks)


class ReceiverEstimate:
    """How a browser that tells of no packets estimates its line itself (draft-alvestrand-rmcat-remb), in short: a
    queue takes it to 0.85 of what comes, else it grows by 8 % a second, to 1.5 of what comes. Told each second, and at
    once when it has become less."""

    def __init__(self) -> None:
        self.bps = 30_000_000.0
        self._came: deque[tuple[int, int]] = deque()
        self._base: dict[int, int] = {}
        self._queue = 0
        self._next = self._told_at = self._judged = 0
        self._told = self.bps

    def came(self, size: int, now: int) -> None:
        """A packet came."""
        self._came.append((now, size))

    def delayed(self, ssrc: int, timestamp: int, now: int) -> None:
        """It was sound, which waits in the line alone. Its delay is that beyond the shortest of its source."""
        transit = (now - timestamp * 1000 // 48) % ((1 << 32) * 1000 // 48)
        base = self._base[ssrc] = min(transit, self._base.get(ssrc, transit))
        self._queue += (transit - base - self._queue) // 8

    def message(self, now: int) -> bytes:
        """What is to be told now; nothing, mostly."""
        if now < self._next:
            return b""
        self._next = now + 100 * MS
        while self._came and self._came[0][0] < now - SECOND:
            self._came.popleft()
        span = min(SECOND, max(100 * MS, now - self._came[0][0])) if self._came else SECOND
        incoming = sum(size for _, size in self._came) * 8 * SECOND // span
        if self._queue > REMB_QUEUE_US and now - self._judged > 300 * MS:
            self._judged = now
            self.bps = min(self.bps, 0.85 * incoming)
        elif self._queue < REMB_QUEUE_US:
            self.bps = max(min(self.bps * 1.08**0.1, 1.5 * incoming + 10_000), 0.85 * incoming)
        if now - self._told_at < SECOND and self.bps > 0.97 * self._told:
            return b""
        self._told_at, self._told = now, self.bps
        return rtcp_packets.write(Remb(OWN_SSRC, int(self.bps), ()), capacity=1200)


class Losses:
    """What a receiver report says of one source since the last one."""

    def __init__(self) -> None:
        self.expected = self.received = 0

    def report(self, receiver: VideoReceiver | SoundReceiver, last_sr: int, delay: int) -> Report:
        expected = receiver.highest - receiver.base + 1
        interval = expected - self.expected
        lost = max(0, interval - (receiver.packets - self.received))
        self.expected, self.received = expected, receiver.packets
        fraction = min(255, lost * 256 // interval) if interval else 0
        jitter = int(receiver.jitter) if isinstance(receiver, VideoReceiver) else 0
        total = max(0, expected - receiver.packets)
        return Report(receiver.ssrc, fraction, total, receiver.highest & 0xFFFFFFFF, jitter, last_sr, delay)


class Viewer(LabPeer):
    """Receives its legs. `rates` holds how many bytes came in each tenth of a second, by its number."""

    def __init__(self, engine: Engine, number: int, addr: Address, seed: int, up: Link, down: Link) -> None:
        super().__init__(engine, number, addr, seed, up, down)
        self.pictures: dict[int, VideoReceiver] = {}
        self.sounds: dict[int, SoundReceiver] = {}
        self.by_rtx: dict[int, VideoReceiver] = {}
        self.unknown = self.nacks = self.plis = self.padding = 0
        self.feedback = True
        self.report_us = SECOND
        self.arrivals: Arrivals | None = None
        self.estimate: ReceiverEstimate | None = None
        self._losses: dict[int, Losses] = {}
        self._sender_reports: dict[int, tuple[int, int]] = {}
        self._arrived: dict[int, int] = {}
        self._fresh: list[int] = []
        self._highest = -1
        self._next_base = -1
        self.feedback_count = 0
        self._next_feedback = self._next_report = self._next_repair = FOREVER

    def add_picture(self, codec: Codec, ssrc: int, rtx_ssrc: int) -> VideoReceiver:
        receiver = self.pictures[ssrc] = VideoReceiver(codec, ssrc, rtx_ssrc)
        self.by_rtx[rtx_ssrc] = receiver
        self._losses[ssrc] = Losses()
        return receiver

    def add_sound(self, ssrc: int) -> SoundReceiver:
        receiver = self.sounds[ssrc] = SoundReceiver(ssrc)
        self._losses[ssrc] = Losses()
        return receiver

    # Time

    def connected(self, now: int) -> None:
        self._next_report = now + SECOND
        self._next_repair = now + NACK_ROUND_US

    def deadline(self) -> int:
        return min(super().deadline(), self._next_feedback, self._next_report, self._next_repair)

    def tick(self, now: int) -> None:
        super().tick(now)
        if now >= self._next_feedback:
            self._send_feedback(now)
        if now >= self._next_report:
            self._send_report(now)
        if now >= self._next_repair:
            self._next_repair = now + NACK_ROUND_US
            for receiver in self.pictures.values():
                self._repair(receiver, now)

    def _repair(self, receiver: VideoReceiver, now: int) -> None:
        asked = receiver.nacks(now, self.round_trip or 100 * MS)
        self._ask(receiver.ssrc, asked, now)
        if receiver.keyframe_due(now):
            self.plis += 1
            self.post_rtcp(rtcp_packets.write(PictureLoss(OWN_SSRC, receiver.ssrc), capacity=1200), now)

    def _ask(self, ssrc: int, numbers: list[int], now: int) -> None:
        if numbers:
            self.nacks += len(numbers)
            self.post_rtcp(rtcp_packets.write(Nack(OWN_SSRC, ssrc, tuple(numbers)), capacity=1200), now)

    # RTP

    def receive_rtp(self, plain: bytes, now: int) -> None:
        ssrc = int.from_bytes(plain[8:12], "big")
        end = 12
        if self.arrivals is not None:
            self.arrivals.note(ssrc, plain[2] << 8 | plain[3], now)
            self._next_feedback = min(self._next_feedback, now + FEEDBACK_US)
        if plain[0] & 0x10:
            end = 16 + 4 * int.from_bytes(plain[14:16], "big")
            if self.feedback and self.arrivals is None:
                self._note_arrival(plain, end, now)
        payload = plain[end:]
        if plain[0] & 0x20:
            payload = payload[: len(payload) - payload[-1]]
        number = plain[2] << 8 | plain[3]
        timestamp = int.from_bytes(plain[4:8], "big")
        marker = plain[1] >= 0x80
        if self.estimate is not None:
            self._estimate(ssrc, timestamp, len(plain), now)
        receiver = self.pictures.get(ssrc)
        if receiver is not None:
            receiver.measure(timestamp, now)
            receiver.take(number, timestamp, marker, payload, now, False)
        elif (receiver := self.by_rtx.get(ssrc)) is not None:
            if len(payload) <= 2:
                self.padding += len(plain)
                return
            receiver.take(payload[0] << 8 | payload[1], timestamp, marker, payload[2:], now, True)
        elif (sound := self.sounds.get(ssrc)) is not None:
            sound.take(number, plain[1] & 0x7F, payload, now)
            self._ask(sound.ssrc, sound.nacks(now, self.round_trip or 100 * MS), now)
            return
        else:
            self.unknown += 1
            return
        if receiver._new or receiver.want_pli:
            self._repair(receiver, now)

    def _estimate(self, ssrc: int, timestamp: int, size: int, now: int) -> None:
        assert self.estimate is not None
        self.estimate.came(size, now)
        if ssrc in self.sounds:
            self.estimate.delayed(ssrc, timestamp, now)
        message = self.estimate.message(now)
        if message:
            self.post_rtcp(message, now)

    def _note_arrival(self, plain: bytes, end: int, now: int) -> None:
        """The transport-wide number among the one-byte extensions, if there is one."""
        at = 16
        while at < end:
            first = plain[at]
            if first == 0:
                at += 1
                continue
            if first >> 4 == TWCC_ID:
                break
            at += 2 + (first & 15)
        else:
            return
        number = plain[at + 1] << 8 | plain[at + 2]
        if self._highest < 0:
            self._highest = number + 0x10000
            wide = self._highest
        else:
            wide = self._highest + ((number - self._highest + 0x8000) & 0xFFFF) - 0x8000
            self._highest = max(self._highest, wide)
        self._arrived[wide] = now
        self._fresh.append(wide)
        if self._next_feedback == FOREVER:
            self._next_feedback = now + FEEDBACK_US

    # RTCP

    def _send_feedback(self, now: int) -> None:
        if self.arrivals is not None:
            self._next_feedback = FOREVER
            self.post_rtcp(self.arrivals.message(now), now)
            return
        self._next_feedback = now + FEEDBACK_US
        if not self._fresh:
            return
        first = min(self._fresh)
        if self._next_base >= 0:
            first = min(first, self._next_base)
        first = max(first, self._highest - FEEDBACK_MOST)
        self._fresh.clear()
        while first <= self._highest:
            arrivals = [self._arrived.get(number) for number in range(first, self._highest + 1)]
            message, used = rtcp_packets.write_transport(
                OWN_SSRC, OWN_SSRC, self.feedback_count & 0xFF, first & 0xFFFF, arrivals, capacity=1200
            )
            first += used
            if message:
                self.feedback_count += 1
                self.post_rtcp(message, now)
        self._next_base = self._highest + 1
        if len(self._arrived) > 2 * FEEDBACK_MOST:
            self._arrived = {number: at for number, at in self._arrived.items() if number > self._highest - 1_000}

    def _send_report(self, now: int) -> None:
        self._next_report = now + self.report_us
        blocks = []
        for ssrc, losses in self._losses.items():
            receiver = self.pictures.get(ssrc) or self.sounds.get(ssrc)
            if receiver is None or receiver.highest < 0:
                continue
            middle, arrived = self._sender_reports.get(ssrc, (0, 0))
            delay = (now - arrived) * 65536 // SECOND if middle else 0
            blocks.append(losses.report(receiver, middle, delay))
        if blocks:
            self.post_rtcp(rtcp_packets.write(ReceiverReport(OWN_SSRC, tuple(blocks)), capacity=1200), now)

    def receive_rtcp(self, plain: bytes, now: int) -> None:
        for item in rtcp_packets.read(plain):
            if isinstance(item, SenderReport):
                self._sender_reports[item.ssrc] = (item.ntp >> 16 & 0xFFFFFFFF, now)
