"""Packets of one track into a file as they came, fragment by fragment.

Two have use for it: what cannot be muxed is kept so, and what waits in memory for a packet before it is written so in
the meantime, in case of a crash. Pure: it gives out entries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mediaserver.codecs.payload import Codec, codec_name
from mediaserver.recording import journal, raw
from mediaserver.recording.entry import Entry
from mediaserver.recording.segment import Origin

if TYPE_CHECKING:
    from mediaserver.sfu.stream.tap import TapPacket

MAX_FRAGMENT_BYTES = 1 << 20


class PacketFile:
    """One file being filled. `rtp` is a packet's timestamp, unwrapped; `wall_us` when it arrived, Unix time in µs."""

    def __init__(self, origin: Origin, first_sequence: int, wall_us: int, fragment_us: int) -> None:
        self.origin = origin
        self.begun_us = wall_us
        self._fragment_us = fragment_us
        self._records: list[bytes] = []
        self._bytes = 0
        self._since = 0
        self._arrival = (0, 0)
        self._times = (0, 0)
        self._sequence = first_sequence
        opened = journal.Opened(
            track=origin.track,
            file=origin.file,
            container=raw.CONTAINER,
            codec=codec_name(origin.codec) if origin.codec != Codec.CODEC_NONE else "",
            clock_rate=origin.clock_rate,
            stream=origin.stream,
            ssrc=origin.ssrc,
            width=0,
            height=0,
            first_rtp=origin.first_rtp,
            reason=origin.reason,
            header=raw.HEADER_SIZE,
            first_sequence=first_sequence,
        )
        self.out: list[Entry] = [Entry(opened, raw.header(wall_us))]

    def add(self, packet: TapPacket, rtp: int, wall_us: int) -> None:
        time = max(0, rtp - self.origin.first_rtp)
        if not self._records:
            self._since, self._arrival, self._times = wall_us, (rtp, wall_us), (time, time)
        record = raw.record(packet, wall_us - self.begun_us)
        self._records.append(record)
        self._bytes += len(record)
        self._times = min(self._times[0], time), max(self._times[1], time)
        self._sequence = max(self._sequence, packet[2])
        if wall_us - self._since >= self._fragment_us or self._bytes >= MAX_FRAGMENT_BYTES:
            self.flush()

    def tick(self, wall_us: int) -> None:
        """Write out what has waited for company for too long."""
        if self._records and wall_us - self._since >= self._fragment_us:
            self.flush()

    def flush(self) -> None:
        """Make a fragment of what is held."""
        if not self._records:
            return
        data = b"".join(self._records)
        first, last = self._times
        rtp, arrived = self._arrival
        written = journal.Written(
            track=self.origin.track,
            file=self.origin.file,
            size=len(data),
            time=first,
            duration=last - first,
            units=len(self._records),
            keyframes=0,
            keyframe=False,
            rtp=rtp,
            arrived_us=arrived,
            sequence=self._sequence,
        )
        self.out.append(Entry(written, data))
        self._records = []
        self._bytes = 0

    def close(self) -> None:
        """Nothing more comes."""
        self.flush()
        self.out.append(Entry(journal.Closed(self.origin.track, self.origin.file)))

    def dropped(self) -> list[Entry]:
        """It was needed no longer than until now."""
        return [Entry(journal.Dropped(self.origin.track, self.origin.file))]

    def take(self) -> list[Entry]:
        """What goes to the disk now."""
        out, self.out = self.out, []
        return out
