"""A recorder on the laboratory's engine, in virtual time: what it keeps of what a publisher's line carries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import msgspec

from mediaserver.recording.manifest import Manifest, Track
from mediaserver.recording.recorder import ParticipantMeta, Recorder
from mediaserver.recording.settings import RecordingSettings, TrackMeta
from mediaserver.recording.timeline import NTP_UNIX_SECONDS
from mediaserver.sfu.stream.params import PayloadParams
from mediaserver.sfu.stream.tap import TapRing
from tests.recording.feed import Inline, Unsynced
from tests.sim.consultation import FIRST_TRACK, Consultation, SourceSpec, payload_types
from tests.sim.encoder import VideoSpec
from tests.sim.network import MS, SECOND, LinkSpec
from tests.sim.payloads import MAGIC, TRUTH_SIZE, Truth, read_truth
from tests.sim.publisher import NTP_START

STEP = 50 * MS


UNIX_START = (NTP_START - NTP_UNIX_SECONDS) * SECOND
"""Wall-clock time when the laboratory's clock shows 0; the publisher's reports agree with it."""


class Archive:
    """A consultation that is recorded from its start. `folder` is the recording's, once it has stopped."""

    def __init__(self, root: Path, sources: Sequence[SourceSpec], cart: LinkSpec, seed: int = 1) -> None:
        self.consultation = Consultation(seed=seed, sources=sources, cart=cart)
        self.laboratory = self.consultation.laboratory
        self.recorder = Recorder(
            RecordingSettings(root),
            monotonic=lambda: self.laboratory.now,
            wall=lambda: UNIX_START + self.laboratory.now,
            request_keyframe=lambda recording, track: self.laboratory.engine.request_keyframe(FIRST_TRACK + int(track)),
            executor=Inline(),
            storage=Unsynced(root),
        )
        self.recording = self.recorder.start("exam")
        self.recording.add_participant(ParticipantMeta("cart", "cart", "cart"))
        self.waiting = 0
        for index, spec in enumerate(sources):
            video = isinstance(spec.medium, VideoSpec)
            payloads = tuple(
                PayloadParams(payload_type, int(codec), 90_000 if video else 48_000)
                for payload_type, codec in payload_types(spec.medium).items()
            )
            ring = TapRing(4096)
            self.laboratory.engine.add_tap(900 + index, FIRST_TRACK + index, ring)
            kind = "video" if video else "audio"
            self.recording.add_track(TrackMeta(str(index), spec.source, kind, payloads, participant="cart"), ring)
        self.root = root
        self._step()

    def _step(self) -> None:
        while self.recorder.step():
            pass
        self.laboratory.at(self.laboratory.now + STEP, self._step)

    def run(self, us: int) -> None:
        self.laboratory.run(us)

    def stop(self) -> Manifest:
        """Stop the recording and give what it says of itself. In the last seconds the line loses nothing: what is asked
        for then would not be waited for."""
        up = self.consultation.cart.up
        up.spec = msgspec.structs.replace(up.spec, loss=0.0, burst=None)
        self.run(6 * SECOND)
        for index in range(len(self.consultation.sources)):
            self.laboratory.engine.remove_tap(900 + index)
        future = self.recording.stop()
        self.run(2 * SECOND)
        kept = future.result(timeout=0)
        (self.folder,) = self.root.glob(f"*/*/*/{kept.id}")
        return kept

    def truths(self, track: Track) -> list[Truth]:
        """What is in the files, picture by picture or packet by packet of sound."""
        found = []
        for segment in track.segments:
            with av.open(self.folder / segment.file) as container:
                for packet in container.demux(container.streams[0]):
                    if packet.size:
                        data = bytes(packet)
                        end = data.rindex(MAGIC) + TRUTH_SIZE  # VP9 has an index of its layers behind it
                        found.append(read_truth(data[end - TRUTH_SIZE : end]))
        return found
