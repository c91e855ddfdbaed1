"""What recording costs, per packet: the data plane that hands it over, and the writer that takes it to the disk.

    python -m tests.bench.recorder [--seconds N] [--rounds N] [--consultations N]

An ultrasound consultation (H.264 with 5 Mbit/s, VP8 with 2 Mbit/s, stethoscope and voice) through the real engine with
SRTP, without a socket. The data plane is measured with and without taps turn by turn, on the same packets; the
writer with hashing and writing into memory, but without waiting for a disk. All is CPU time, the least of the rounds:
what others take on a shared machine only adds to it. At the end so many consultations at once, each with files of
its own, and what share of a core their writer takes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from mediaserver.codecs.payload import Codec
from mediaserver.recording.recorder import Recorder, Recording
from mediaserver.recording.settings import RecordingSettings, TrackMeta
from mediaserver.sfu.stream.engine import Engine
from mediaserver.sfu.stream.params import PayloadParams, TrackParams
from mediaserver.sfu.stream.tap import TapRing
from mediaserver.sfu.wire import packet
from tests.recording import feed
from tests.sim.peer import KEY_SIZE, ScriptedPeer

START = 10_000_000
STEP = 50_000
PER_CONSULTATION = 1_280
"""Packets a second of an ultrasound consultation (the budgets' load)."""
VP8_GOES_ON = b"\0"
"""The descriptor of a packet that begins no partition (RFC 7741)."""
TRACKS = (
    ("ultrasound", Codec.CODEC_H264, 102, 5_000_000),
    ("camera", Codec.CODEC_VP8, 96, 2_000_000),
    ("stethoscope", Codec.CODEC_OPUS, 111, 128_000),
    ("voice", Codec.CODEC_OPUS, 111, 40_000),
)


def units(codec: Codec, bps: int, seconds: int) -> list[list[tuple[bytes, bool]]]:
    """Each unit's payloads with their markers: real pictures whose packets are filled up to the rate."""
    if codec == Codec.CODEC_OPUS:
        return [[(b"\xf8" + bytes(bps // 400 - 1), False)]] * (seconds * 50)
    coded = feed.video(codec, 300, gop=300, width=640, height=480)
    real = feed.packets(codec, coded, 640, 480)
    share = bps // 8 // 30
    out = []
    for index in range(seconds * 30):
        parts = [*real[index % 300]]
        left = share - sum(len(payload) for payload, _ in parts)
        fill = [(VP8_GOES_ON + bytes(1_150) if codec == Codec.CODEC_VP8 else filler(), False)] * max(0, left // 1_150)
        parts = parts + fill if codec == Codec.CODEC_VP8 else fill + parts
        out.append([(payload, at == len(parts) - 1) for at, (payload, _) in enumerate(parts)])
    return out


def filler() -> bytes:
    """A NAL unit of user data (H.264, annex D: SEI)."""
    return b"\x06\x05" + b"\xff" * 4 + bytes((130,)) + b"\x55" * 1_150 + b"\x80"


def datagrams(peer: ScriptedPeer, seconds: int) -> list[tuple[int, bytes]]:
    """Time and protected packet, in the order of their sending."""
    plain: list[tuple[int, bytes, int]] = []
    for index, (_, codec, payload_type, bps) in enumerate(TRACKS):
        rate, interval = (48_000, 20_000) if codec == Codec.CODEC_OPUS else (90_000, 1_000_000 / 30)
        sequence = 100
        for number, unit in enumerate(units(codec, bps, seconds)):
            for part, (payload, marker) in enumerate(unit):
                data = packet.write_rtp(
                    payload_type=payload_type,
                    marker=marker,
                    sequence=sequence & 0xFFFF,
                    timestamp=round(number * interval * rate / 1e6) & 0xFFFFFFFF,
                    ssrc=1000 + index,
                    payload=payload,
                )
                plain.append((START + round(number * interval) + 200 * part, data, sequence >> 16))
                sequence += 1
    return [(at, peer._to_server.protect(data, roc)) for at, data, roc in sorted(plain, key=lambda one: one[0])]


def prepared() -> tuple[Engine, ScriptedPeer]:
    """An engine with a cart that is known, and its tracks."""
    engine = Engine(seed=bytes(16))
    engine.advance(START)
    peer = ScriptedPeer(engine, 1, ("192.0.2.1", 5000), 1)
    engine.add_peer(1, peer.ufrag, peer.pwd)
    inbound, outbound = peer.keys
    engine.set_keys(1, peer.profile, inbound[:KEY_SIZE], inbound[KEY_SIZE:], outbound[:KEY_SIZE], outbound[KEY_SIZE:])
    engine.receive(peer.check_request(nominate=True), peer.addr, START)
    for index, (_, codec, payload_type, _) in enumerate(TRACKS):
        rate = 48_000 if codec == Codec.CODEC_OPUS else 90_000
        payload = PayloadParams(payload_type, codec, rate, nack=True, pli=codec != Codec.CODEC_OPUS)
        params = TrackParams(
            mid=str(index), video=codec != Codec.CODEC_OPUS, payloads=(payload,), ssrcs=(1000 + index,)
        )
        engine.add_track(100 + index, 1, params)
    engine.advance(START)
    engine.poll_events()
    return engine, peer


def forwarded(steps: list[list[tuple[bytes, tuple[str, int]]]], taps: int) -> float:
    """CPU seconds of the data plane for these batches."""
    engine, _ = prepared()
    rings = [TapRing(4096) for _ in range(taps)]
    for index, ring in enumerate(rings):
        engine.add_tap(900 + index, 100 + index, ring)
    engine.advance(START)
    spent = 0.0
    for number, batch in enumerate(steps):
        now = START + (number + 1) * STEP
        begun = time.thread_time()
        engine.receive_batch(batch, now)
        spent += time.thread_time() - begun
        for ring in rings:
            ring.read(4096)
        engine.transmits()
    return spent


class Written:
    """What the writer has spent on so many consultations at once."""

    def __init__(self, folder: Path, steps: list[list[tuple[bytes, tuple[str, int]]]], consultations: int = 1) -> None:
        self.now = START
        engine, _ = prepared()
        recorder = Recorder(
            RecordingSettings(folder),
            monotonic=lambda: self.now,
            wall=lambda: 1_790_000_000_000_000 + self.now,
            executor=feed.Inline(),
            storage=feed.Unsynced(folder),
        )
        recordings = [recorder.start(f"exam-{number}") for number in range(consultations)]
        for number, recording in enumerate(recordings):
            for index, (source, codec, payload_type, _) in enumerate(TRACKS):
                self._tap(engine, recording, number, index, source, codec, payload_type)
        self.cpu = 0.0
        for batch in steps:
            self.now += STEP
            engine.receive_batch(batch, self.now)
            begun = time.process_time()
            while recorder.step():
                pass
            self.cpu += time.process_time() - begun
            engine.transmits()
        self.packets = recorder.counters()["packets"]
        self.bytes = recorder.counters()["fragment_bytes"]
        for recording in recordings:
            kept = recording.snapshot()
            assert not kept.notes, kept
            assert not any(track.gaps for track in kept.tracks), kept
            recording.stop()
        recorder.step()

    @staticmethod
    def _tap(
        engine: Engine, recording: Recording, number: int, index: int, source: str, codec: Codec, payload_type: int
    ) -> None:
        ring = TapRing(4096)
        engine.add_tap(900 + number * len(TRACKS) + index, 100 + index, ring)
        kind, rate = ("audio", 48_000) if codec == Codec.CODEC_OPUS else ("video", 90_000)
        payloads = (PayloadParams(payload_type, int(codec), rate),)
        recording.add_track(TrackMeta(str(index), source, kind, payloads, participant="cart"), ring)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.recorder", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--consultations", type=int, default=100)
    options = parser.parse_args()
    _, peer = prepared()
    sent = datagrams(peer, options.seconds)
    steps: list[list[tuple[bytes, tuple[str, int]]]] = [[] for _ in range(options.seconds * 1_000_000 // STEP + 1)]
    for at, data in sent:
        steps[(at - START) // STEP].append((data, peer.addr))
    without, tapped, writers = [], [], []
    forwarded(steps, len(TRACKS))  # warm
    for _ in range(options.rounds):
        without.append(forwarded(steps, 0))
        tapped.append(forwarded(steps, len(TRACKS)))
        with tempfile.TemporaryDirectory(dir=feed.MEMORY) as folder:
            writers.append(Written(Path(folder), steps))
    count = len(sent)
    alone, both = min(without) / count * 1e6, min(tapped) / count * 1e6
    written = min(writer.cpu / writer.packets for writer in writers) * 1e6
    print(f"{count} packets, {count / options.seconds:.0f} a second, {writers[0].bytes >> 20} MiB written")
    print(f"data plane: {alone:.3f} µs a packet without taps, {both:.3f} with")
    print(f"writer: {written:.2f} µs a packet; {1e6 / written / PER_CONSULTATION:.0f} consultations on one core")
    some = steps[: 10_000_000 // STEP]
    with tempfile.TemporaryDirectory(dir=feed.MEMORY) as folder:
        crowd = Written(Path(folder), some, options.consultations)
    share = crowd.cpu / (len(some) * STEP / 1e6)
    print(
        f"{options.consultations} at once: {crowd.cpu / crowd.packets * 1e6:.2f} µs a packet, {share:.2f} of a core, "
        f"{crowd.bytes >> 20} MiB in {len(some) * STEP / 1e6:.0f} s"
    )


if __name__ == "__main__":
    main()
