"""One track on its way from the tap to fragments: reorder, assemble, cut into files.

Pure: what the ring gave comes in with the time, entries for the disk come out. Nothing that a publisher sends stops
it: what cannot be decoded or muxed is counted, named in a gap or a note, and a keyframe is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from mediaserver.codecs.payload import Codec, assembler, codec_name, facts
from mediaserver.codecs.unit import AccessUnit, Assembler
from mediaserver.recording import journal, raw, red
from mediaserver.recording.allowance import Allowance
from mediaserver.recording.entry import Entry
from mediaserver.recording.gaps import Gaps
from mediaserver.recording.ledger import SPILL
from mediaserver.recording.muxer import FORMATS
from mediaserver.recording.packets import PacketFile
from mediaserver.recording.reorder import Missing, Reorder
from mediaserver.recording.segment import Origin, SegmentBuilder
from mediaserver.recording.settings import RecordingSettings, TrackMeta
from mediaserver.recording.spill import SPILL_AFTER_US, Spill
from mediaserver.recording.timeline import Unwrapper, ntp_to_unix_us
from mediaserver.recording.unmuxed import Unmuxed
from mediaserver.sfu.stream.params import PayloadParams

if TYPE_CHECKING:
    from mediaserver.sfu.stream.tap import TapEntry, TapPacket, TapSenderReport

KEYFRAME_RETRY_US = 1_000_000
"""How often a keyframe is asked for again while one is needed. The data plane limits what reaches the publisher."""

JUMP_US = 10_000_000
"""RTP time and arrival time may differ by this much from one unit to the next; more, and a new file begins."""

MAX_NOTES = 32

FILES_AT_ONCE = 120
FILE_EVERY_US = 2_000_000
"""How many files a track may begin at once, and how often more, on the average. Whoever changes the picture's size or
its clock with every packet would make the journal, the manifest and the folder grow without end."""

REPORT_EVERY_US = 200_000
"""Sender reports that come quicker say nothing more of the clock."""

BACKWARD_US = 2_000_000
"""What pictures may be out of order in RTP time (B-pictures); more, and a new file begins."""


UNKNOWN_CLOCK_RATE = 90_000
"""Of packets whose payload type tells nothing: the rate of pictures."""


class Position(NamedTuple):
    """Where a track stood when its recorder ended: how many files and gaps it had, its SSRC as counted, and of that,
    unless `ssrc` is None, the last packet that was written, with its codec and the file that goes on."""

    files: int
    gaps: int
    stream: int
    ssrc: int | None = None
    codec: Codec = Codec.CODEC_NONE
    clock_rate: int = 0
    sequence: int = 0
    rtp: int = 0
    arrived_us: int = 0
    segment: SegmentBuilder | None = None


class TrackPipeline:
    """All state of one recorded track. `out` collects entries; whoever owns it takes them."""

    def __init__(
        self,
        meta: TrackMeta,
        settings: RecordingSettings,
        *,
        to_wall: Callable[[int], int],
        request_keyframe: Callable[[], None],
    ) -> None:
        """`to_wall` makes Unix time of the rings' arrival times, both in µs."""
        self.meta = meta
        self.out: list[Entry] = []
        self.packets = 0
        self.bytes = 0
        self.ignored = 0
        """Packets of payload types that nobody has named."""
        self.lost_packets = 0
        self._gaps = Gaps(meta.id, lambda gap: self.out.append(Entry(gap)))
        self._settings = settings
        self._to_wall = to_wall
        self._request_keyframe = request_keyframe
        self._formats: dict[int, tuple[Codec, int]] = {}
        self.update(meta.payloads)
        self._video = meta.kind == "video"
        self._ssrc: int | None = None
        self._stream = -1
        self._files = 0
        self._reorder: Reorder[TapPacket] = Reorder(settings.reorder_us, settings.repair_us)
        self._unwrap = Unwrapper()
        self._assembler: Assembler | None = None
        self._codec = Codec.CODEC_NONE
        self._clock_rate = 0
        self._lost_before = False
        self._segment: SegmentBuilder | None = None
        self._reason = "start"
        self._needs_keyframe = self._video
        self._asked_us = 0
        self._keyframe_us = 0
        self._last = (0, 0)
        self._suspended = False
        self._dropped = 0
        self._notes: set[str] = set()
        self._allowed = Allowance(FILES_AT_ONCE, FILE_EVERY_US)
        self._reported_us = -REPORT_EVERY_US
        self._sequence = 0
        self._unmuxed = Unmuxed(self._begin_unmuxed, self._place)
        self._spill = Spill(self._begin_spill, self._place, self._settle)

    @property
    def gaps(self) -> int:
        """How many there were."""
        return self._gaps.count

    @property
    def position(self) -> Position:
        """Where it stands when it has finished, for one that is to `go_on` with another tap."""
        return Position(self._files, self.gaps, self._stream)

    def go_on(self, at: Position, reason: str = "crash") -> None:
        """Go on from there. Before anything is fed."""
        self._files, self._gaps.count, self._stream = at.files, at.gaps, at.stream
        self._reason = reason
        if at.ssrc is None:
            return
        self._ssrc, self._codec, self._clock_rate = at.ssrc, at.codec, at.clock_rate
        self._reorder.resume(at.sequence, at.arrived_us)
        self._unwrap = Unwrapper(at.rtp)
        self._last = (at.rtp, at.arrived_us)
        self._sequence = at.sequence
        self._segment = at.segment
        if at.segment is not None:
            self._assembler = assembler(at.codec)
            self._needs_keyframe = False

    def feed(self, items: Iterable[TapEntry], dropped: int) -> None:
        """What the ring gave, in its order; `dropped` is how much the ring has dropped so far."""
        for item in items:
            if len(item) == 8:
                if item[4] != self._ssrc:
                    self._switch(item[4])
                self.packets += 1
                self.bytes += len(item[7])
                self._reorder.push(item[2], item[1], item)
                self._spill.add(item)
            else:
                self._report(item)
        if dropped > self._dropped:
            self._gaps.overflowed(dropped - self._dropped)
            self._dropped = dropped

    def update(self, payloads: Iterable[PayloadParams]) -> None:
        """How payload types are to be read. Earlier ones stay known: packets with them may still be on their way."""
        self._formats |= {one.payload_type: (Codec(one.codec), one.clock_rate) for one in payloads}

    def mute(self, muted: bool, now: int) -> None:
        """What is missing from now on, or was until now, is so because the track was muted."""
        self._gaps.mute(muted, now)

    def tick(self, now: int, awaited: int = 0) -> None:
        """Move on what has waited long enough. `now` is on the clock of the arrival times, µs; `awaited` the lowest
        number that the publisher is still asked for, 0: none."""
        self._drain(self._reorder.pop(now, awaited))
        if self._reorder.waited(now) >= SPILL_AFTER_US and not self._suspended:
            self.out += self._spill.secure(self._reorder.held, self._to_wall(now))
        else:
            self.out += self._spill.let_go()
        wanted = self._needs_keyframe and not self._suspended and self._ssrc is not None
        if wanted and now - self._asked_us >= KEYFRAME_RETRY_US:
            self._keyframe(now)
        if self._segment is not None:
            every = self._settings.keyframe_every_us
            if self._video and every and now - max(self._keyframe_us, self._asked_us) >= every:
                self._keyframe(now)
            self._segment.tick(self._to_wall(now))
            self._collect()
        self.out += self._unmuxed.tick(self._to_wall(now))

    def finish(self) -> None:
        """The end of the track: everything that is held goes out, and the file is closed."""
        self._end("end")
        self._gaps.close()

    def suspend(self, now: int, since: int) -> None:
        """The fragments handed out from `since` on are thrown away, as the disk would not take them; and nothing
        is kept until `resume`."""
        self._gaps.open("disk", self._ssrc or 0, 0, 0, 0, self._to_wall(since), self._to_wall(now))
        self._abandon("disk")
        self._suspended = True

    def resume(self, now: int) -> None:
        """The disk takes media again."""
        if self._suspended:
            self._suspended = False
            self._keyframe(now)

    def restart(self, now: int, text: str) -> None:
        """After something that should not be: leave the file as it is, begin another at the next keyframe."""
        self.note(now, text)
        self._abandon("error")
        self._keyframe(now)

    def note(self, now: int, text: str) -> None:
        """Tell it once, and do not let a publisher fill the manifest with it."""
        if text not in self._notes and len(self._notes) < MAX_NOTES:
            self._notes.add(text)
            self.out.append(Entry(journal.Noted(self.meta.id, self._to_wall(now), text)))

    def _abandon(self, reason: str) -> None:
        if self._segment is not None:
            self.out.append(Entry(journal.Closed(self.meta.id, self._segment.origin.file)))
            self._segment = None
        self.out += self._unmuxed.close() + self._spill.let_go()
        self._assembler = None
        self._codec = Codec.CODEC_NONE
        self._reason = reason
        self._needs_keyframe = self._video

    def _switch(self, ssrc: int) -> None:
        """To another SSRC: the publisher has restarted, or has switched a simulcast encoding on or off. The data plane
        gives nothing of the one before any more."""
        if self._ssrc is not None:
            self._end("ssrc")
        self._ssrc = ssrc
        self._stream += 1
        self._reorder = Reorder(self._settings.reorder_us, self._settings.repair_us)
        self._unwrap = Unwrapper()
        self._assembler = None
        self._codec = Codec.CODEC_NONE
        self._lost_before = False
        self._needs_keyframe = self._video
        self._asked_us = 0

    def _end(self, reason: str) -> None:
        """Nothing more of this SSRC comes: what is held goes out, and the files are closed."""
        self._drain(self._reorder.flush())
        self._flush(self._last[1])
        self._close(reason)
        self.out += self._unmuxed.close() + self._spill.let_go()

    # Files of packets

    def _settle(self) -> list[Entry]:
        if self._segment is not None:
            self._segment.flush()
            self._collect()
        return self._unmuxed.flush()

    def _place(self, item: TapPacket) -> tuple[int, int]:
        return self._unwrap.peek(item[3]), self._to_wall(item[1])

    def _begin_spill(self, name: str, first: TapPacket) -> PacketFile:
        return self._packet_file(SPILL, name, first, SPILL_AFTER_US)

    def _begin_unmuxed(self, first: TapPacket) -> PacketFile:
        self._files += 1
        return self._packet_file("packets", str(self._files), first, self._settings.fragment_us)

    def _packet_file(self, reason: str, name: str, first: TapPacket, fragment_us: int) -> PacketFile:
        """Another file of packets, for this one and those that follow."""
        codec, rate = self._formats.get(first[5], (Codec.CODEC_NONE, UNKNOWN_CLOCK_RATE))
        origin = Origin(
            track=self.meta.id,
            file=f"{self.meta.id}-{name}.{raw.CONTAINER}",
            stream=self._stream,
            ssrc=first[4],
            codec=codec,
            clock_rate=rate,
            first_rtp=self._unwrap.peek(first[3]),
            reason=reason,
        )
        return PacketFile(origin, first[2], self._to_wall(first[1]), fragment_us)

    def _report(self, item: TapSenderReport) -> None:
        _, arrival, ssrc, ntp, rtp = item
        if ssrc != self._ssrc or not self._clock_rate or not ntp or arrival - self._reported_us < REPORT_EVERY_US:
            return
        self._reported_us = arrival
        unwrapped = self._unwrap.peek(rtp)
        record = journal.Reported(self.meta.id, self._stream, unwrapped, ntp_to_unix_us(ntp), self._to_wall(arrival))
        self.out.append(Entry(record))

    def _drain(self, ready: list[TapPacket | Missing]) -> None:
        for item in ready:
            if isinstance(item, Missing):
                self._missing(item)
            else:
                self._packet(item)

    def _missing(self, missing: Missing) -> None:
        self._lost_before = True
        self.lost_packets += missing.packets
        start, end = self._to_wall(missing.from_us), self._to_wall(missing.to_us)
        cause = self._gaps.cause(missing)
        self._gaps.open(cause, self._ssrc or 0, missing.first, missing.last, missing.packets, start, end)
        if self._video:
            self._needs_keyframe = True
            self._keyframe(missing.to_us)

    def _packet(self, item: TapPacket) -> None:
        _, arrival, sequence, timestamp, _, payload_type, marker, payload = item
        if not payload:
            return
        codec, clock_rate = self._formats.get(payload_type, (Codec.CODEC_NONE, 0))
        if codec == Codec.CODEC_RED:
            block = red.primary(payload)
            payload_type, payload = block if block else (-1, b"")
            codec, clock_rate = self._formats.get(payload_type, (Codec.CODEC_NONE, 0))
        if codec == Codec.CODEC_NONE or not payload:
            self.ignored += 1
            if not self._suspended:
                self._keep_packets(f"payload type {payload_type} is not known", item)
            return
        if codec != self._codec or self._assembler is None:
            self._flush(arrival)
            self._assembler = assembler(codec)
            self._codec, self._clock_rate = codec, clock_rate
        if self._needs_keyframe and not self._suspended and self._unmuxed.hold(item):
            self._keep_packets("no picture to start from has come")
        lost, self._lost_before = self._lost_before, False
        self._sequence = sequence - 1  # a unit that ends with the next one's first packet
        units = self._assembler.push(payload, timestamp, bool(marker), lost)
        if units and marker:
            self._sequence = sequence
        if units:
            self._units(units, arrival)
        elif marker and self._video and not facts(codec, payload).valid:
            self._broken(arrival)  # nothing of that picture is left

    def _units(self, units: list[AccessUnit], arrival: int) -> None:
        for unit in units:
            if self._suspended:
                self._gaps.skip(self._to_wall(arrival))
            elif self._video:
                self._picture(unit, arrival)
            elif unit.data:
                self._keep(unit, arrival)

    def _flush(self, arrival: int) -> None:
        """The stream ends within a unit: of a picture that is nothing, and no loss."""
        units = self._assembler.flush() if self._assembler else []
        if not self._video:
            self._units(units, arrival)

    def _broken(self, arrival: int) -> None:
        """A picture cannot be decoded; where nothing is lost that is a gap of its own."""
        if self._segment is not None:
            self._begin_gap("broken", arrival)
        self._needs_keyframe = True

    def _picture(self, unit: AccessUnit, arrival: int) -> None:
        if not unit.complete:
            self._broken(arrival)
        if self._needs_keyframe:
            if not (unit.complete and unit.keyframe):
                self._gaps.skip(self._to_wall(arrival))
                return
            self._needs_keyframe = False
        if unit.keyframe:
            self._keyframe_us = arrival
        self._keep(unit, arrival)

    def _keep(self, unit: AccessUnit, arrival: int) -> None:
        rtp = self._unwrap(unit.timestamp)
        if self._segment is not None and (reason := self._discontinuity(unit, rtp, arrival)):
            self._close(reason)
        self._last = (rtp, arrival)
        wall = self._to_wall(arrival)
        if self._segment is None and not self._open(unit, rtp, arrival):
            return
        self._gaps.close(wall)
        assert self._segment is not None
        self._segment.add(unit, rtp, wall, self._sequence)
        self._collect()
        if self._video and unit.keyframe:
            self.out += self._unmuxed.close()
            self._unmuxed.forget()

    def _discontinuity(self, unit: AccessUnit, rtp: int, arrival: int) -> str:
        """Why this unit cannot go into the file that is open; empty when it can."""
        segment = self._segment
        assert segment is not None
        if self._codec != segment.codec:
            return "codec"
        elapsed = (rtp - self._last[0]) * 1_000_000 // self._clock_rate
        if elapsed < -BACKWARD_US or abs(elapsed - (arrival - self._last[1])) > JUMP_US:
            return "timestamps"
        if self._video and unit.keyframe:
            if (unit.width, unit.height) != segment.size:
                return "size"
            if unit.config is not None and unit.config != segment.config:
                return "parameters" if segment.config is not None else "crash"  # which they were is not known any more
        longest = self._settings.segment_us * self._clock_rate // 1_000_000
        if longest and (unit.keyframe or not self._video) and rtp - segment.origin.first_rtp >= longest:
            return "length"
        return ""

    def _open(self, unit: AccessUnit, rtp: int, arrival: int) -> bool:
        if self._video and not unit.keyframe:
            self._needs_keyframe = True
            return False
        codec = self._codec
        if codec not in FORMATS:
            self._keep_packets(f"{codec_name(codec)} cannot be muxed")
            return False
        if not self._allowed.take(arrival):
            self._refuse(arrival)
            self._gaps.skip(self._to_wall(arrival))
            self._needs_keyframe = self._video
            return False
        self._files += 1
        origin = Origin(
            track=self.meta.id,
            file=f"{self.meta.id}-{self._files}.{FORMATS[codec].container}",
            stream=self._stream,
            ssrc=self._ssrc or 0,
            codec=codec,
            clock_rate=self._clock_rate,
            first_rtp=rtp,
            reason=self._reason,
        )
        try:
            self._segment = SegmentBuilder(origin, unit, self._settings.fragment_us)
        except ValueError as error:
            self._files -= 1
            self._needs_keyframe = self._video
            self._keep_packets(str(error))
            return False
        return True

    def _refuse(self, arrival: int) -> None:
        """It has begun too many files: what comes until it may begin another one is not kept."""
        self.note(arrival, "it changed too often: what would have begun yet another file is not kept")
        self._begin_gap("files", arrival)

    def _begin_gap(self, cause: str, arrival: int) -> None:
        """Of what came, and is not kept; nothing where there is one already."""
        if not self._gaps.is_open:
            wall = self._to_wall(arrival)
            self._gaps.open(cause, self._ssrc or 0, self._sequence, self._sequence, 0, wall, wall)

    def _keep_packets(self, text: str, item: TapPacket | None = None) -> None:
        """This packet, or those that wait for a keyframe, and what follows until one comes are kept as they are."""
        arrival = item[1] if item is not None else self._unmuxed.since
        if arrival is not None and not self._unmuxed.is_open and not self._allowed.take(arrival):
            self._unmuxed.forget()
            self._refuse(arrival)
            return
        first = self._unmuxed.keep(item)
        if first is not None:
            self.note(first[1], f"{text}: kept as packets")
            self._gaps.close(self._to_wall(first[1]))

    def _close(self, reason: str) -> None:
        if self._segment is not None:
            self._segment.close()
            self._collect()
            self._segment = None
            self._reason = reason

    def _collect(self) -> None:
        if self._segment is not None and self._segment.out:
            self.out += self._segment.out
            self._segment.out = []

    def _keyframe(self, now: int) -> None:
        if self._video:
            self._asked_us = now
            self._request_keyframe()
