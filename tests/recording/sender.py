"""A process that records in virtual time and sends what is complete in real time, until it is killed. It prints a line
when the first file is in the bucket. For `test_s3`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from mediaserver.codecs.payload import Codec
from mediaserver.recording.storage.remote import S3Storage
from mediaserver.recording.storage.s3 import S3Settings
from tests.recording import feed, radosgw


def main(folder: Path, endpoint: str, prefix: str) -> None:
    settings = S3Settings(
        bucket="archive",
        prefix=prefix,
        endpoint=endpoint,
        access_key=radosgw.ACCESS_KEY,
        secret_key=radosgw.SECRET_KEY,
    )
    storage = S3Storage(
        folder,
        settings,
        feed.MASTERS,
        monotonic=lambda: time.monotonic_ns() // 1000,
        wall=lambda: time.time_ns() // 1000,
    )
    storage.start(2)
    studio = feed.Studio(folder, storage, segment_us=1_000_000)
    studio.track("us")
    studio.feed("us", feed.deliver([feed.Source(Codec.CODEC_H264, feed.video(Codec.CODEC_H264, 300))]))
    studio.run()
    while not storage.uploader.files:
        time.sleep(0.01)
    print("sent", flush=True)
    while True:
        time.sleep(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
