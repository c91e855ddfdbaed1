"""What a browser does with one incoming picture: repair, frames, references, decoding, and when it is frozen.

Whether a frame can be decoded is found out as libwebrtc finds it out, from the descriptors as the server wrote them.
The truth that the laboratory's payloads carry is only held against it: a frame that a browser would take and that lacks
something is counted as `corrupt`.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict

from mediaserver.codecs.payload import Codec
from tests.sim.descriptors import Descriptor, read_descriptor
from tests.sim.network import MS, SECOND
from tests.sim.payloads import KEY, NOBODY, Truth, read_truth

NACK_TRIES = 10
NACK_MOST = 1_000
NACK_ROUND_US = 20 * MS
STUCK_US = 3 * SECOND
WAIT_KEY_US = 200 * MS
FRAMES_KEPT = 200
UNITS_KEPT = 400


class Missing:
    """A packet that has not come."""

    __slots__ = ("asked", "tries")

    def __init__(self) -> None:
        self.asked = self.tries = 0


class PartUnit:
    """A unit that is being put together."""

    __slots__ = ("begin", "count", "descriptor", "end", "last", "size", "truth")

    def __init__(self) -> None:
        self.begin = self.end = -1
        self.count = self.size = 0
        self.last = False
        self.descriptor: Descriptor | None = None
        self.truth: Truth | None = None


class VideoReceiver:
    """One leg's packets in, shown pictures out.

    `shown_at`, `captured`, `encodings`, `heights`, `sizes` and `temporals` are parallel, one entry a shown picture.
    """

    def __init__(self, codec: Codec, ssrc: int, rtx_ssrc: int) -> None:
        self.codec, self.ssrc, self.rtx_ssrc = codec, ssrc, rtx_ssrc
        self.shown_at, self.captured, self.sizes = array("q"), array("q"), array("q")
        self.encodings, self.heights, self.temporals = array("b"), array("H"), array("b")
        self.packets = self.bytes = self.recovered = self.repeated = self.padding = 0
        self.nacked = self.plis = self.keyframes = self.corrupt = self.skipped = self.given_up = 0
        self.base = self.highest = -1
        self.jitter, self._transit = 0.0, 0
        self.want_pli = False
        self.missing: dict[int, Missing] = {}
        self._new: list[int] = []
        self._next_round = 0
        self._parts: OrderedDict[tuple[int, int], PartUnit] = OrderedDict()
        self._taken: OrderedDict[int, None] = OrderedDict()
        self._waiting: list[PartUnit] = []
        self._decoder = Decoder()
        self._started = 0
        self._asked_key = self._last_decoded = 0

    # Packets

    def extend(self, sequence: int) -> int:
        """The number without wraps."""
        if self.highest < 0:
            return sequence + 0x10000
        return self.highest + (((sequence - self.highest) + 0x8000) & 0xFFFF) - 0x8000

    def take(self, number: int, timestamp: int, marker: bool, payload: bytes, now: int, repair: bool) -> None:
        """A packet's payload, by its own number or brought by RTX. Padding alone is empty."""
        sequence = self.extend(number)
        if self.highest < 0:
            self.base = self.highest = sequence
            self._started = self._last_decoded = now
        elif sequence > self.highest:
            self._notice(sequence)
            self.highest = sequence
        elif self.missing.pop(sequence, None) is not None:
            self.recovered += repair
        elif repair or sequence in self._taken:
            self.repeated += 1
            return
        self.packets += 1
        self.bytes += len(payload)
        self._taken[sequence] = None
        if len(self._taken) > 2 * NACK_MOST:
            self._taken.popitem(last=False)
        if not payload:
            self.padding += 1
            self._decoder.fill(sequence)
            self._decode(now)
            return
        self._assemble(sequence, timestamp, marker, payload, now)

    def measure(self, timestamp: int, now: int) -> None:
        """Interarrival jitter in units of the clock (RFC 3550, section 6.4.1)."""
        transit = now * 9 // 100 - timestamp
        difference = abs(transit - self._transit) & 0xFFFFFFFF
        self._transit = transit
        if difference < 1 << 20:
            self.jitter += (difference - self.jitter) / 16

    def _notice(self, sequence: int) -> None:
        if sequence - self.highest - 1 + len(self.missing) > NACK_MOST:
            self.missing.clear()
            self._new.clear()
            self.want_pli = True
            return
        for lost in range(self.highest + 1, sequence):
            self.missing[lost] = Missing()
            self._new.append(lost)

    def nacks(self, now: int, round_trip: int) -> list[int]:
        """What is to be asked for now: at once what is newly missing, again what was asked for a round trip ago."""
        asked = [one for one in self._new if one in self.missing]
        self._new.clear()
        if now >= self._next_round and self.missing:
            self._next_round = now + NACK_ROUND_US
            given_up = []
            for sequence, entry in self.missing.items():
                if entry.tries and now - entry.asked >= round_trip:
                    if entry.tries >= NACK_TRIES:
                        given_up.append(sequence)
                    else:
                        asked.append(sequence)
            for sequence in given_up:
                del self.missing[sequence]
            self.given_up += len(given_up)
            self.want_pli |= bool(given_up)
        for sequence in asked:
            self.missing[sequence].asked = now
            self.missing[sequence].tries += 1
        self.nacked += len(asked)
        return [one & 0xFFFF for one in sorted(asked)]

    def keyframe_due(self, now: int) -> bool:
        """Whether a keyframe is to be asked for now."""
        waits = not self._decoder.started and self._started and now - self._started >= WAIT_KEY_US
        stuck = self._decoder.started and now - self._last_decoded >= STUCK_US and self.highest >= 0
        if (self.want_pli or waits or stuck) and now - self._asked_key >= WAIT_KEY_US:
            self.want_pli = False
            self._asked_key = now
            if stuck:
                self._last_decoded = now
            self.plis += 1
            return True
        return False

    # Frames

    def _assemble(self, sequence: int, timestamp: int, marker: bool, payload: bytes, now: int) -> None:
        truth = read_truth(payload)
        descriptor = read_descriptor(self.codec, payload, truth)
        key = (timestamp, truth.spatial)
        part = self._parts.get(key)
        if part is None:
            part = self._parts[key] = PartUnit()
            if len(self._parts) > FRAMES_KEPT:
                self._parts.popitem(last=False)
        part.count += 1
        part.size += len(payload)
        if descriptor.begins:
            part.begin = sequence
            part.descriptor, part.truth = descriptor, truth
        if descriptor.ends or marker:
            part.end = sequence
            part.last = marker
        if part.begin >= 0 and part.end >= part.begin and part.count == part.end - part.begin + 1:
            del self._parts[key]
            if truth.flags & KEY and truth.spatial == 0:
                self._forget_before(part.begin)
            self._waiting.append(part)
            self._decode(now)

    def _forget_before(self, sequence: int) -> None:
        """A keyframe is whole: what is missing before it is of no use any more."""
        for lost in [one for one in self.missing if one < sequence]:
            del self.missing[lost]

    def _decode(self, now: int) -> None:
        decoder = self._decoder
        progress = True
        while progress and self._waiting:
            progress = False
            self._waiting.sort(key=lambda one: one.begin)
            for index, part in enumerate(self._waiting):
                assert part.descriptor is not None
                state = decoder.judge(part.descriptor, part.begin, self.codec)
                if state == WAIT:
                    continue
                del self._waiting[index]
                if state == TAKE:
                    # What is older and still waits comes too late now.
                    self._show(part, now)
                    older = [one for one in self._waiting if one.end < part.begin]
                    self.skipped += len(older)
                    self._waiting = [one for one in self._waiting if one.end > part.end]
                else:
                    self.skipped += 1
                progress = True
                break
        del self._waiting[:-FRAMES_KEPT]

    def _show(self, part: PartUnit, now: int) -> None:
        truth, descriptor = part.truth, part.descriptor
        assert truth is not None
        assert descriptor is not None
        self._last_decoded = now
        self._decoder.decoded(descriptor, part.begin, part.end)
        self.keyframes += bool(truth.flags & KEY and truth.spatial == 0)
        self.corrupt += not self._decoder.is_true(truth)
        if part.last:
            self.shown_at.append(now)
            self.captured.append(truth.captured)
            self.encodings.append(max(truth.encoding, truth.spatial))
            self.heights.append(truth.height)
            self.temporals.append(truth.temporal)
            self.sizes.append(part.size)


WAIT, TAKE, DROP = range(3)


class Decoder:
    """Which frames refer to which, as libwebrtc's reference finders see it, and which have been decoded."""

    def __init__(self) -> None:
        self.started = False
        self._picture = -1  # unwrapped id of the last decoded picture
        self._tl0 = -1
        self._layers: OrderedDict[int, dict[int, int]] = OrderedDict()  # tl0 -> temporal layer -> picture
        self._decoded: OrderedDict[tuple[int, int], None] = OrderedDict()
        self._last_end = -1
        self._filled: OrderedDict[int, None] = OrderedDict()
        self._units: OrderedDict[tuple[int, int], None] = OrderedDict()
        self._encoding = -1

    def fill(self, sequence: int) -> None:
        """A packet without payload: it stands between two frames and belongs to neither."""
        self._filled[sequence] = None
        if len(self._filled) > UNITS_KEPT:
            self._filled.popitem(last=False)

    def judge(self, descriptor: Descriptor, begin: int, codec: Codec) -> int:
        if descriptor.key:
            return TAKE if begin > self._last_end else DROP
        if not self.started:
            return WAIT
        if begin <= self._last_end:
            return DROP
        if descriptor.picture < 0 or (codec == Codec.CODEC_VP8 and descriptor.tl0 < 0):
            # Without ids every frame refers to the one before it: nothing may be missing between them.
            expected = self._last_end + 1
            while expected in self._filled:
                expected += 1
            return TAKE if begin == expected else WAIT
        if codec == Codec.CODEC_VP8:
            return self._judge_vp8(descriptor)
        picture = self.unwrap(descriptor.picture, 0x8000, self._picture)
        wanted = [(picture - one, descriptor.spatial) for one in descriptor.differences]
        if descriptor.below:
            wanted.append((picture, descriptor.spatial - 1))
        return TAKE if all(one in self._decoded for one in wanted) else WAIT

    def _judge_vp8(self, descriptor: Descriptor) -> int:
        """RtpVp8RefFinder: a base layer refers to the one before it, others to all layers up to theirs."""
        tl0 = self.unwrap(descriptor.tl0, 0x100, self._tl0)
        if descriptor.temporal == 0:
            return TAKE if tl0 - 1 in self._layers else WAIT
        layers = self._layers.get(tl0)
        if layers is None:
            return WAIT
        if descriptor.sync:
            return TAKE
        if any(layer not in layers for layer in range(descriptor.temporal)):
            return WAIT
        # A picture between those that it refers to and itself may be one of its references.
        picture = self.unwrap(descriptor.picture, 0x8000, self._picture)
        newest = max(layers[layer] for layer in range(descriptor.temporal))
        missed = [one for one in range(newest + 1, picture) if (one, 0) not in self._decoded]
        return WAIT if missed else TAKE

    def decoded(self, descriptor: Descriptor, begin: int, end: int) -> None:
        self.started = True
        self._last_end = end
        while self._last_end + 1 in self._filled:
            self._last_end += 1
        if descriptor.picture < 0:
            return
        picture = self.unwrap(descriptor.picture, 0x8000, self._picture)
        if descriptor.key and descriptor.spatial == 0:
            self._layers.clear()
        self._picture = picture
        self._decoded[picture, max(0, descriptor.spatial)] = None
        if len(self._decoded) > UNITS_KEPT:
            self._decoded.popitem(last=False)
        if descriptor.tl0 >= 0:
            tl0 = self.unwrap(descriptor.tl0, 0x100, self._tl0)
            self._tl0 = tl0
            if descriptor.temporal <= 0:
                before = {} if descriptor.key else dict(self._layers.get(tl0 - 1, {}))
                self._layers[tl0] = {0: picture, **{layer: at for layer, at in before.items() if layer}}
                if len(self._layers) > UNITS_KEPT:
                    self._layers.popitem(last=False)
            elif tl0 in self._layers:
                self._layers[tl0][descriptor.temporal] = picture

    def is_true(self, truth: Truth) -> bool:
        """Whether everything that the encoder used for this unit has really been decoded."""
        whole = truth.encoding == self._encoding or bool(truth.flags & KEY)
        if truth.flags & KEY and truth.spatial == 0:
            self._units.clear()
            self._encoding = truth.encoding
        for reference in (truth.first, truth.second):
            whole = whole and (reference == NOBODY or (truth.encoding, reference) in self._units)
        self._units[truth.encoding, truth.unit] = None
        if len(self._units) > UNITS_KEPT:
            self._units.popitem(last=False)
        return whole

    @staticmethod
    def unwrap(value: int, modulus: int, last: int) -> int:
        """The number nearest to the last one."""
        if last < 0:
            return value + modulus
        return last + ((value - last + modulus // 2) % modulus) - modulus // 2
