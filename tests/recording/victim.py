"""A process that records two tracks in real time until it is killed; it prints the number of each picture that has
arrived. For `test_recovery`."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from mediaserver.codecs.payload import Codec
from mediaserver.recording.recorder import Recorder
from mediaserver.recording.settings import RecordingSettings, TrackMeta
from mediaserver.sfu.stream.params import PayloadParams
from tests.recording import feed


def main(folder: str, kept: str) -> None:
    feed.encrypted = kept == "encrypted"
    codecs = {"camera": Codec.CODEC_VP8, "us": Codec.CODEC_H264}
    sources = {
        name: feed.Source(codec, feed.video(codec, 300, gop=300), ssrc=int(codec)) for name, codec in codecs.items()
    }
    recorder = Recorder(
        RecordingSettings(Path(folder)),
        monotonic=lambda: time.monotonic_ns() // 1000,
        wall=lambda: time.time_ns() // 1000,
        storage=feed.storage_at(Path(folder)),
    )
    recorder.open()
    recording = recorder.start("room-1")
    rings = {name: feed.Ring() for name in codecs}
    for name, codec in codecs.items():
        payloads = (PayloadParams(96 + int(codec), int(codec), 90_000),)
        recording.add_track(TrackMeta(name, name, "video", payloads), rings[name])
    start = time.monotonic_ns() // 1000
    schedule = sorted(
        (capture, name, item) for name, source in sources.items() for capture, item in source.sent() if item[0] == 0
    )
    number = -1
    pace = threading.Event()
    for capture, name, item in schedule:
        wait = start + capture - time.monotonic_ns() // 1000
        if wait > 0:
            pace.wait(wait / 1e6)
        rings[name].items.append((0, time.monotonic_ns() // 1000, *item[2:]))
        if round(capture / feed.FRAME_US) != number:
            number = round(capture / feed.FRAME_US)
            print(number, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
