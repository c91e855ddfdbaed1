"""After a crash: packets that waited for others before them take the way that they would have taken.

The track's pipeline goes on where its last fragment on the disk ends, with the packets of the spill as all that ever
came. What they lack is a gap by then.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from mediaserver.codecs.payload import codec_from_name
from mediaserver.recording import journal, raw
from mediaserver.recording.entry import Entry
from mediaserver.recording.ledger import FileState, Ledger, TrackState
from mediaserver.recording.pipeline import Position, TrackPipeline
from mediaserver.recording.segment import SegmentBuilder
from mediaserver.recording.settings import RecordingSettings, TrackMeta
from mediaserver.recording.storage import LocalStorage
from mediaserver.sfu.stream.params import PayloadParams


def replay(storage: LocalStorage, folder: Path, ledger: Ledger, track: TrackState, spill: FileState) -> None:
    """Write what `spill` holds beyond the track's other files, and bring the ledger up to date. Interrupted, it can be
    done again. Raises OSError."""
    opened = spill.opened
    if spill.last is None or not (folder / opened.file).exists():
        return
    data = _get(storage, folder / opened.file, spill.size)
    packets = list(raw.read(data, opened.first_sequence, raw.started_us(data)))
    settings = RecordingSettings(folder)
    added = track.added
    payloads = tuple(PayloadParams(kind, codec, rate) for kind, (codec, rate) in track.payloads.items())
    meta = TrackMeta(added.track, added.source, added.kind, payloads)
    pipeline = TrackPipeline(meta, settings, to_wall=lambda arrival: arrival, request_keyframe=lambda: None)
    pipeline.go_on(_position(track, opened, settings.fragment_us))
    pipeline.feed(packets, 0)
    pipeline.finish()
    _write(storage, folder, ledger, pipeline.out)


def _position(track: TrackState, opened: journal.Opened, fragment_us: int) -> Position:
    """Where the track stood on the disk."""
    number = max(track.gaps, default=0)
    before = [file for file in track.kept if file.opened.stream == opened.stream and file.fragments and file.last]
    position = Position(max(map(_number, track.kept), default=0), number, opened.stream - 1)
    if not before:
        return position
    last = before[-1]
    assert last.last is not None
    segment = None
    if not last.closed and last.opened.container != raw.CONTAINER:
        segment = SegmentBuilder.resumed(last.opened, len(last.fragments), last.span, fragment_us)
    rtp = last.opened.first_rtp + last.span
    return position._replace(
        stream=opened.stream,
        ssrc=opened.ssrc,
        codec=codec_from_name(last.opened.codec),
        clock_rate=last.opened.clock_rate,
        sequence=last.last.sequence,
        rtp=rtp,
        arrived_us=last.last.arrived_us + (rtp - last.last.rtp) * 1_000_000 // last.opened.clock_rate,
        segment=segment,
    )


def _number(file: FileState) -> int:
    return int(file.opened.file.rpartition("-")[2].partition(".")[0])


def _write(storage: LocalStorage, folder: Path, ledger: Ledger, entries: list[Entry]) -> None:
    """The media to their files, then the rest to the ledger: the manifest will say it, not the journal."""
    for record, data in entries:
        if isinstance(record, journal.Opened):
            _put(storage, folder / record.file, 0, data)
        elif isinstance(record, journal.Written):
            state = ledger.file(record.track, record.file)
            digest = _put(storage, folder / record.file, state.size, data)
            record = msgspec.structs.replace(record, sha256=digest)
        ledger.apply(record)


def _get(storage: LocalStorage, path: Path, size: int) -> bytes:
    file = storage.open_media(path)
    try:
        return file.read(size, 0)
    finally:
        file.close()


def _put(storage: LocalStorage, path: Path, offset: int, data: bytes) -> str:
    """Write at the end, cut off what an interrupted attempt has left behind it. The SHA-256 of the whole."""
    file = storage.open_media(path)
    try:
        file.truncate(offset)
        file.write(data, offset)
        file.sync()
        return file.sha256(offset + len(data))
    finally:
        file.close()
