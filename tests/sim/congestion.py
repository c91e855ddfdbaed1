"""How a browser's sender finds its rate, in short: a model of libwebrtc's GoogCC, good enough to react to a server.

Delay-based (a trend line over groups of packets, an adaptive threshold), loss-based, probes at the start and a rate
that grows by 8 per cent a second. Only what moves the rate within seconds is modelled.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from mediaserver.sfu.wire.rtcp_packets import TransportFeedback

SECOND = 1_000_000
MS = 1_000
GROUP_US = 5 * MS
TREND_GROUPS = 20
LOG_SIZE = 8_192
START_BPS = 300_000


class Sent(NamedTuple):
    size: int
    sent: int
    probe: int


class Arrived(NamedTuple):
    size: int
    sent: int
    arrival: int
    probe: int


class SenderEstimate:
    """What a sender may send, in bits per second (`bps`), from transport-wide feedback and REMB."""

    def __init__(self, start_bps: int = START_BPS, most: int = 20_000_000) -> None:
        self.bps = start_bps
        self.most = most
        self.lost = 0.0
        self._log: dict[int, Sent] = {}
        self._sequence = 0
        self._remb: int | None = None
        self._reference = 0
        self._wraps = 0
        self._acknowledged: deque[tuple[int, int]] = deque()
        self._group: tuple[int, int] | None = None  # sent, arrival of the group's last packet
        self._group_start = 0
        self._gradient: deque[tuple[float, float]] = deque(maxlen=TREND_GROUPS)
        self._accumulated = self._smoothed = 0.0
        self._groups = 0
        self._threshold = 12.5
        self._over_since: int | None = None
        self._last_trend = 0.0
        self._changed = 0
        self._held = False
        self._decreased = 0
        self._probes: dict[int, list[Arrived]] = {}

    def sent(self, size: int, now: int, probe: int = 0) -> int:
        """A packet leaves: its transport-wide number (16 bits). `probe` is the rate of the cluster that it is in."""
        number = self._sequence
        self._sequence = (number + 1) & 0xFFFF
        self._log[number] = Sent(size, now, probe)
        if len(self._log) > LOG_SIZE:
            del self._log[next(iter(self._log))]
        return number

    def remb(self, bps: int) -> None:
        """The receiver's word on its line."""
        self._remb = bps
        self.bps = min(self.bps, bps)

    def feedback(self, message: TransportFeedback, now: int) -> None:
        """What has come of what was sent."""
        if self._reference - message.reference > 1 << 23:
            self._wraps += 1
        self._reference = message.reference
        at = (message.reference + (self._wraps << 24)) * 64 * MS
        arrived, known = [], 0
        for index, delta in enumerate(message.deltas):
            sent = self._log.pop((message.base + index) & 0xFFFF, None) if delta is not None else None
            known += (message.base + index) & 0xFFFF in self._log or sent is not None
            if delta is None:
                continue
            at += delta * 250
            if sent is not None:
                arrived.append(Arrived(sent.size, sent.sent, at, sent.probe))
        if not known:
            return
        self.lost += 0.2 * ((known - len(arrived)) / known - self.lost)
        state = "normal"
        for packet in arrived:
            self._acknowledged.append((packet.arrival, packet.size))
            state = self._trend(packet, now, state)
            if packet.probe:
                self._probes.setdefault(packet.probe, []).append(packet)
        while self._acknowledged and self._acknowledged[0][0] < self._acknowledged[-1][0] - SECOND // 2:
            self._acknowledged.popleft()
        self._adapt(state, now)
        self._judge_probes()

    def acknowledged_bps(self) -> int:
        """What has arrived in the last half second, as a rate."""
        if len(self._acknowledged) < 2:
            return 0
        span = max(100 * MS, self._acknowledged[-1][0] - self._acknowledged[0][0])
        return sum(size for _, size in self._acknowledged) * 8 * SECOND // span

    def _trend(self, packet: Arrived, now: int, state: str) -> str:
        """The state after one more packet: `over`, `under` or as it was."""
        if self._group is None or packet.sent - self._group_start < GROUP_US:
            if self._group is None:
                self._group_start = packet.sent
            self._group = (packet.sent, packet.arrival)
            return state
        variation = (packet.arrival - self._group[1] - (packet.sent - self._group[0])) / MS
        self._group, self._group_start = (packet.sent, packet.arrival), packet.sent
        self._accumulated += variation
        self._smoothed = 0.9 * self._smoothed + 0.1 * self._accumulated
        self._gradient.append((packet.arrival / MS, self._smoothed))
        if len(self._gradient) < TREND_GROUPS:
            return state
        self._groups = min(60, self._groups + 1)
        trend = slope(self._gradient) * self._groups * 4
        moved = min(30.0, abs(variation))
        gain = 0.0087 if abs(trend) > self._threshold else 0.039
        if abs(trend) < self._threshold + 15:
            self._threshold += gain * (abs(trend) - self._threshold) * min(100.0, moved + 1)
            self._threshold = min(600.0, max(6.0, self._threshold))
        if trend > self._threshold:
            if self._over_since is None:
                self._over_since = now
            grows, self._last_trend = trend >= self._last_trend, trend
            return "over" if grows and now - self._over_since >= 10 * MS else state
        self._over_since = None
        self._last_trend = trend
        return "under" if trend < -self._threshold else state

    def _adapt(self, state: str, now: int) -> None:
        elapsed = min(SECOND, now - self._changed) if self._changed else 0
        self._changed = now
        limit = self.most if self._remb is None else min(self.most, self._remb)
        if state == "over":
            if now - self._decreased > 200 * MS:
                self.bps = max(50_000, min(self.bps, int(0.85 * self.acknowledged_bps())))
                self._decreased = now
        elif self.lost > 0.10:
            if now - self._decreased > 300 * MS:
                self.bps = max(50_000, int(self.bps * (1 - 0.5 * self.lost)))
                self._decreased = now
        elif state == "normal":
            # Growth is bound to what has been shown to arrive, so an idle sender does not dream.
            grown = self.bps * 1.08 ** (elapsed / SECOND) + 4_000 * elapsed / SECOND
            self.bps = int(max(self.bps, min(grown, 1.5 * self.acknowledged_bps() + 10_000)))
        self.bps = min(self.bps, limit)

    def _judge_probes(self) -> None:
        for probe, packets in list(self._probes.items()):
            if len(packets) < 5:
                continue
            del self._probes[probe]
            size = sum(one.size for one in packets[1:])
            span = max(1, packets[-1].arrival - packets[0].arrival)
            sent_span = max(1, size * 8 * SECOND // probe)
            found = int(size * 8 * SECOND / max(span, sent_span))
            limit = self.most if self._remb is None else min(self.most, self._remb)
            self.bps = min(limit, max(self.bps, found if span <= sent_span * 1.1 else int(0.85 * found)))


def slope(points: deque[tuple[float, float]]) -> float:
    """The gradient of the line of least squares."""
    count = len(points)
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    above = sum((x - mean_x) * (y - mean_y) for x, y in points)
    below = sum((x - mean_x) ** 2 for x, _ in points)
    return above / below if below else 0.0
