"""A publisher as a browser is one: it follows the feedback that it gets in rate, retransmits, and makes keyframes."""

from __future__ import annotations

import heapq
import random
import struct
from collections import OrderedDict, deque

import msgspec

from mediaserver.codecs.payload import Codec
from mediaserver.codecs.red import Block, build
from mediaserver.sfu.stream.engine import Engine
from mediaserver.sfu.stream.params import Address
from mediaserver.sfu.wire import rtcp_packets
from mediaserver.sfu.wire.rtcp_packets import FullIntra, Nack, PictureLoss, Remb, SenderReport, TransportFeedback
from tests.sim.congestion import START_BPS, SenderEstimate
from tests.sim.encoder import Encoder, VideoSpec
from tests.sim.lab_peer import LabPeer
from tests.sim.network import FOREVER, HEADERS, MS, SECOND, Link
from tests.sim.payloads import payloads, sound

MID_ID, RID_ID, RRID_ID, TWCC_ID = 1, 2, 3, 5
OPUS_TYPE, SOUND_TICKS = 111, 960
NAMED_PACKETS = 30
"""So many packets of a source carry mid and rid, as a browser's do until it knows that they have come."""
PACING_BURST = 5 * MS
PACING_FACTOR = 2.5
RTX_KEPT = 1_500
SRTP_TAG = 16
NTP_START = 3_900_000_000
PROBE_CLUSTERS = ((1, 3.0), (2, 6.0))
PROBE_US = 15 * MS


class SoundSpec(msgspec.Struct, frozen=True):
    """Opus in packets of 20 ms at `bps` (payload only), never silent; with `red` each packet brings the one before it
    again (RFC 2198)."""

    bps: int
    red: bool = False


class Source:
    """One SSRC with what can be retransmitted of it."""

    def __init__(self, ssrc: int, payload_type: int, mid: str, rid: str, draw: random.Random) -> None:
        self.ssrc, self.payload_type, self.rid = ssrc, payload_type, rid
        self.sequence = draw.randrange(1 << 15)
        self.offset = draw.randrange(1 << 32)
        self.packets = self.octets = self.repairs = 0
        self.rtx_ssrc = self.rtx_type = self.rtx_sequence = 0
        self.kept: OrderedDict[int, bytes] = OrderedDict()
        self.last_timestamp = 0
        named = bytes((MID_ID << 4 | len(mid) - 1,)) + mid.encode()
        repaired = named
        if rid:
            named += bytes((RID_ID << 4 | len(rid) - 1,)) + rid.encode()
            repaired += bytes((RRID_ID << 4 | len(rid) - 1,)) + rid.encode()
        self._named, self._repaired = extension_block(named), extension_block(repaired)
        self._bare = extension_block(b"")

    def extensions(self, repair: bool) -> bytes:
        """The block up to the transport-wide number, which stands at its end."""
        if repair:
            self.repairs += 1
            return self._repaired if self.repairs <= NAMED_PACKETS else self._bare
        return self._named if self.packets < NAMED_PACKETS else self._bare


def extension_block(elements: bytes) -> bytes:
    """In the one-byte form (RFC 8285), padded in front so that the transport-wide number can follow at its end."""
    padding = bytes(-(len(elements) + 3) % 4)
    size = len(elements) + len(padding) + 3
    return struct.pack("!HH", 0xBEDE, size // 4) + elements + padding + bytes((TWCC_ID << 4 | 1,))


class SentTrack:
    """A track of the publisher: an encoder (or a microphone) with its sources."""

    def __init__(self, mid: str, spec: VideoSpec | SoundSpec, first_ssrc: int, payload_type: int, seed: int) -> None:
        self.mid, self.spec = mid, spec
        draw = random.Random(seed)
        self.clock = 90_000 if isinstance(spec, VideoSpec) else 48_000
        self.encoder = Encoder(spec, seed) if isinstance(spec, VideoSpec) else None
        rids: tuple[str, ...] = ("",)
        if isinstance(spec, VideoSpec) and not spec.svc and len(spec.encodings) > 1:
            rids = tuple(one.rid for one in spec.encodings)
        self.sources = [Source(first_ssrc + 2 * index, payload_type, mid, rid, draw) for index, rid in enumerate(rids)]
        if isinstance(spec, VideoSpec):
            for source in self.sources:
                source.rtx_ssrc, source.rtx_type = source.ssrc + 1, payload_type + 1
                source.rtx_sequence = draw.randrange(1 << 15)
        self.number = 0
        self.next = 0
        self.muted = False
        self.before = b""

    def timestamp(self, source: Source, now: int) -> int:
        """RTP timestamp of something captured now. Every source has its own offset, as RFC 3550 asks."""
        return (now * self.clock // SECOND + source.offset) & 0xFFFFFFFF


class Publisher(LabPeer):
    """Sends its tracks from the moment that it is connected. `frames_sent` and `bytes_sent` count by mid."""

    def __init__(
        self, engine: Engine, number: int, addr: Address, seed: int, up: Link, down: Link, start_bps: int = START_BPS
    ) -> None:
        super().__init__(engine, number, addr, seed, up, down)
        self.tracks: list[SentTrack] = []
        self.estimate = SenderEstimate(start_bps)
        self.plis = self.nacks = self.retransmitted = 0
        self.rate_log: list[tuple[int, int]] = []
        self._queue: deque[tuple[SentTrack, Source, bytes, bool, int]] = deque()
        self._next_send = 0
        self._next_report = FOREVER
        self._next_allot = FOREVER
        self._probes: list[tuple[int, int]] = []  # when, and at which rate

    def add(self, track: SentTrack) -> None:
        self.tracks.append(track)

    def connected(self, now: int) -> None:
        for index, track in enumerate(self.tracks):
            track.next = now + index * MS
        self._next_report = self._next_allot = now
        for number, factor in PROBE_CLUSTERS:
            heapq.heappush(self._probes, (now + number * 20 * MS, int(self.estimate.bps * factor)))

    # Time

    def deadline(self) -> int:
        if not self.connected_at:
            return super().deadline()
        first = min(super().deadline(), self._next_report, self._next_allot)
        for track in self.tracks:
            if track.next < first:
                first = track.next
        if self._queue and self._next_send < first:
            first = self._next_send
        if self._probes and self._probes[0][0] < first:
            first = self._probes[0][0]
        return first

    def tick(self, now: int) -> None:
        super().tick(now)
        if not self.connected_at:
            return
        if now >= self._next_allot:
            self._allot(now)
        for track in self.tracks:
            if track.next <= now:
                self._capture(track, now)
        while self._probes and self._probes[0][0] <= now:
            self._probe(heapq.heappop(self._probes)[1], now)
        if self._queue and self._next_send <= now:
            self._pace(now)
        if now >= self._next_report:
            self._report(now)

    def _allot(self, now: int) -> None:
        """Sound first, then the pictures in proportion to what they would like."""
        self._next_allot = now + 100 * MS
        self.rate_log.append((now, self.estimate.bps))
        left = self.estimate.bps
        pictures = []
        for track in self.tracks:
            if isinstance(track.spec, SoundSpec):
                left -= track.spec.bps * (2 if track.spec.red else 1)
            else:
                pictures.append((track, sum(one.most for one in track.spec.encodings)))
        wished = sum(most for _, most in pictures)
        for track, most in pictures:
            if track.encoder is not None:
                track.encoder.allot(max(0, min(most, left * most // wished)))

    def _capture(self, track: SentTrack, now: int) -> None:
        track.number += 1
        if track.encoder is None:
            track.next += 20 * MS
            if isinstance(track.spec, SoundSpec) and not track.muted:
                source = track.sources[0]
                payload = own = sound(track.number, now, track.spec.bps // 400)
                if track.spec.red:
                    copies = [Block(OPUS_TYPE, SOUND_TICKS, track.before)] if track.before else []
                    payload = build([*copies, Block(OPUS_TYPE, 0, own)])
                track.before = own
                self._send(source, payload, now, track.timestamp(source, now), marker=False)
            return
        track.next += track.encoder.interval
        if track.muted:
            return
        idle = not self._queue
        for unit in track.encoder.encode(now):
            source = track.sources[unit.encoding]
            parts = payloads(unit)
            timestamp = track.timestamp(source, now)
            for index, payload in enumerate(parts):
                marker = unit.last and index == len(parts) - 1
                self._queue.append((track, source, payload, marker, timestamp))
        if idle:
            self._next_send = max(self._next_send, now)

    def _pace(self, now: int) -> None:
        """What the pacer lets go until a burst from now; a queue of more than two seconds is cut short."""
        rate = PACING_FACTOR * max(self.estimate.bps, 100_000)
        at = float(now)
        while self._queue and at <= now + PACING_BURST:
            _, source, payload, marker, timestamp = self._queue.popleft()
            size = self._send(source, payload, now, timestamp, marker=marker)
            at += size * 8 * SECOND / rate
        self._next_send = int(at)

    # Packets

    def _send(self, source: Source, payload: bytes, now: int, timestamp: int, *, marker: bool) -> int:
        sequence = source.sequence
        source.sequence += 1
        block = source.extensions(False)
        wide = self.estimate.sent(len(payload) + len(block) + 13 + SRTP_TAG + HEADERS, now)
        head = struct.pack(
            "!BBHII",
            0x90,
            source.payload_type | (0x80 if marker else 0),
            sequence & 0xFFFF,
            timestamp,
            source.ssrc,
        )
        self.post(head + block + wide.to_bytes(2, "big") + payload, now, sequence >> 16)
        source.packets += 1
        source.octets += len(payload)
        source.last_timestamp = timestamp
        source.kept[sequence & 0xFFFF] = head + payload
        if len(source.kept) > RTX_KEPT:
            source.kept.popitem(last=False)
        return len(payload) + len(block) + 12 + SRTP_TAG + HEADERS

    def _repair(self, source: Source, sequence: int, now: int) -> None:
        """RFC 4588: the payload behind its original number, on the source's retransmission SSRC; without that, the
        packet once more."""
        kept = source.kept.get(sequence)
        if kept is None:
            return
        self.retransmitted += 1
        if not source.rtx_ssrc:
            block = source.extensions(False)
            wide = self.estimate.sent(len(kept) + len(block) + 1 + SRTP_TAG + HEADERS, now)
            behind = (source.sequence - 1 - sequence) & 0xFFFF
            again = kept[:12] + block + wide.to_bytes(2, "big") + kept[12:]
            self.post(again, now, source.sequence - 1 - behind >> 16)
            return
        marker = kept[1] & 0x80
        payload = sequence.to_bytes(2, "big") + kept[12:]
        self._send_repair(source, marker, kept[4:8], payload, now, 0)

    def _send_repair(
        self, source: Source, marker: int, timestamp: bytes, payload: bytes, now: int, probe: int, padding: int = 0
    ) -> None:
        number = source.rtx_sequence
        source.rtx_sequence += 1
        block = source.extensions(True)
        if padding:
            payload = bytes(padding - 1) + bytes((padding,))
        wide = self.estimate.sent(len(payload) + len(block) + 14 + SRTP_TAG + HEADERS, now, probe)
        head = (
            bytes((0xB0 if padding else 0x90, source.rtx_type | marker))
            + (number & 0xFFFF).to_bytes(2, "big")
            + timestamp
            + source.rtx_ssrc.to_bytes(4, "big")
        )
        self.post(head + block + wide.to_bytes(2, "big") + payload, now, number >> 16)

    def _probe(self, bps: int, now: int) -> None:
        """A burst of padding at this rate, as one lump of at least five packets."""
        source = next((one for track in self.tracks for one in track.sources if one.rtx_ssrc and one.packets), None)
        if source is None:
            heapq.heappush(self._probes, (now + 10 * MS, bps))
            return
        for _ in range(max(6, bps * PROBE_US // (8 * SECOND * 300))):
            self._send_repair(source, 0, source.last_timestamp.to_bytes(4, "big"), b"", now, bps, padding=255)

    # What the server says

    def receive_rtcp(self, plain: bytes, now: int) -> None:
        for item in rtcp_packets.read(plain):
            if isinstance(item, TransportFeedback):
                before = self.estimate.bps
                self.estimate.feedback(item, now)
                self._probe_on(before, now)
            elif isinstance(item, Nack):
                self.nacks += len(item.sequences)
                source = self._source(item.media_ssrc)
                for sequence in item.sequences if source is not None else ():
                    assert source is not None
                    self._repair(source, sequence, now)
            elif isinstance(item, PictureLoss):
                self._want_keyframe(item.media_ssrc)
            elif isinstance(item, FullIntra):
                for ssrc, _ in item.requests:
                    self._want_keyframe(ssrc)
            elif isinstance(item, Remb):
                self.estimate.remb(item.bitrate)

    def _probe_on(self, before: int, now: int) -> None:
        """As long as probes succeed, the next asks for twice as much."""
        after = self.estimate.bps
        if after > before * 1.3 and not self._probes and after < self.estimate.most:
            heapq.heappush(self._probes, (now, 2 * after))

    def _want_keyframe(self, ssrc: int) -> None:
        for track in self.tracks:
            if track.encoder is not None and any(source.ssrc == ssrc for source in track.sources):
                self.plis += 1
                track.encoder.want_keyframe()

    def _source(self, ssrc: int) -> Source | None:
        return next((one for track in self.tracks for one in track.sources if one.ssrc == ssrc), None)

    def _report(self, now: int) -> None:
        self._next_report = now + SECOND
        ntp = (NTP_START << 32) + (now << 32) // SECOND
        for track in self.tracks:
            for source in track.sources:
                if source.packets:
                    report = SenderReport(source.ssrc, ntp, track.timestamp(source, now), source.packets, source.octets)
                    self.post_rtcp(rtcp_packets.write(report, capacity=1200), now)


CODEC_TYPES = {Codec.CODEC_VP8: 96, Codec.CODEC_VP9: 98, Codec.CODEC_H264: 102, Codec.CODEC_AV1: 104}
