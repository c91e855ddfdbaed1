"""The bucket behind the archive, against a real S3 server: sent while recording, never lost, never doubled."""

from __future__ import annotations

import asyncio
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from aiobotocore.session import get_session
from botocore.exceptions import ClientError

from mediaserver.codecs.payload import Codec
from mediaserver.recording import manifest
from mediaserver.recording.manifest import Manifest
from mediaserver.recording.recovery import recover_all
from mediaserver.recording.storage import Unreadable, keys
from mediaserver.recording.storage import s3 as s3_module
from mediaserver.recording.storage.face import MARK, ReaderFile
from mediaserver.recording.storage.keys import Tombstone
from mediaserver.recording.storage.s3 import BucketReader, S3Settings
from mediaserver.recording.verify import verify
from tests.recording import feed
from tests.recording.bucketed import Driven
from tests.recording.feed import MASTERS, Source, Studio
from tests.recording.radosgw import RadosGateway

ResultT = TypeVar("ResultT")


def studio_with(root: Path, storage: Driven, seconds: int = 3) -> Studio:
    studio = Studio(root, storage, segment_us=1_000_000)
    studio.track("us")
    studio.feed("us", feed.deliver([Source(Codec.CODEC_H264, feed.video(Codec.CODEC_H264, seconds * 30))]))
    return studio


def recorded(root: Path, storage: Driven) -> tuple[Studio, Manifest]:
    studio = studio_with(root, storage)
    studio.run()
    return studio, studio.stop()


def ask(settings: S3Settings, work: Callable[[Any], Awaitable[ResultT]]) -> ResultT:
    """By another client than the product's."""

    async def run() -> ResultT:
        async with get_session().create_client(
            "s3",
            endpoint_url=settings.endpoint,
            region_name=settings.region,
            aws_access_key_id=settings.access_key,
            aws_secret_access_key=settings.secret_key,
        ) as client:
            return await work(client)

    return asyncio.run(run())


def versions(settings: S3Settings) -> dict[str, int]:
    """How many versions each object has, by the file's name."""

    async def work(client: Any) -> dict[str, int]:
        found = await client.list_object_versions(Bucket=settings.bucket, Prefix=f"{settings.prefix}/")
        counts: dict[str, int] = {}
        for version in found.get("Versions", []):
            name = version["Key"].rsplit("/", 1)[1]
            counts[name] = counts.get(name, 0) + 1
        return counts

    return ask(settings, work)


def test_files_go_up_while_the_consultation_goes_on_and_the_manifest_last(tmp_path: Path, bucket: S3Settings) -> None:
    storage = Driven(tmp_path, bucket, MASTERS)
    studio = studio_with(tmp_path, storage, 5)
    studio.run(4_000_000)
    storage.drain()
    up = versions(bucket)
    assert {"us-1.mp4", keys.NAME} <= set(up)
    assert manifest.NAME not in up
    assert not (studio.path / MARK).exists()
    studio.run()
    made = studio.stop()
    sent: list[str] = []
    put = storage.bucket.put
    storage.bucket.put = lambda name, source: (sent.append(name.rsplit("/", 1)[1]), put(name, source))[1]  # type: ignore
    storage.closed(studio.recording.id)
    storage.drain()
    assert sent[-1] == manifest.NAME
    assert storage.is_whole(studio.path, made)
    assert set(versions(bucket).values()) == {1}
    assert set(versions(bucket)) == {segment.file for segment in made.tracks[0].segments} | {keys.NAME, manifest.NAME}


class Killed(BaseException):
    """The process ended here."""


class Dying(Driven):
    """Ends for good after so many things done to the bucket and to the mark, before the next or just after it."""

    def __init__(self, left: int, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.left = left
        for name in ("put", "sha256"):
            setattr(self.bucket, name, self._dying(getattr(self.bucket, name)))
        self._write_mark = self._dying(self._write_mark)  # type: ignore[method-assign]

    def _dying(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise Killed
            result = work(*arguments)
            self.left -= 1
            if self.left < 0:
                raise Killed
            return result

        return wrapped


@pytest.mark.soak
def test_killed_at_any_point_nothing_is_lost_and_nothing_doubled(tmp_path: Path, bucket: S3Settings) -> None:
    """The same recording goes up again and again, each time into a place of its own and cut off one step later."""
    studio = studio_with(tmp_path, Driven(tmp_path, bucket, MASTERS), 1)
    studio.run()
    made = studio.stop()
    for left in range(40):
        settings = msgspec.structs.replace(bucket, prefix=f"{bucket.prefix}/{left}")
        (studio.path / MARK).unlink(missing_ok=True)
        dying = Dying(left, tmp_path, settings, MASTERS)
        dying.sweep()
        try:
            dying.drain()
        except Killed:
            finished = False
        else:
            finished = True
        storage = Driven(tmp_path, settings, MASTERS, days=1)
        storage.settle()
        assert storage.is_whole(studio.path, made)
        found = versions(settings)
        assert set(found) == {segment.file for segment in made.tracks[0].segments} | {keys.NAME, manifest.NAME}
        assert set(found.values()) == {1}
        if finished:
            break
    assert finished
    assert left == 14  # two for each object and the mark, before and after


def test_killed_for_real(tmp_path: Path, bucket: S3Settings) -> None:
    """A process that records and sends, killed; the next one sends the rest."""
    command = [sys.executable, "-m", "tests.recording.sender", str(tmp_path), bucket.endpoint, bucket.prefix]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as child:
        assert child.stdout is not None
        assert select.select([child.stdout], [], [], 100)[0]
        assert child.stdout.readline()  # the first file is in the bucket
        child.send_signal(signal.SIGKILL)
    storage = Driven(tmp_path, bucket, MASTERS)
    (closed,), failures = recover_all(storage)
    assert not failures
    folder = storage.find(closed.id)
    assert folder is not None
    assert verify(folder, storage=storage).ok
    assert storage.settle() == sum(segment.bytes for segment in closed.tracks[0].segments)
    report = verify(folder, storage=storage)
    assert (report.ok, report.opened) == (True, report.files)
    assert set(versions(bucket).values()) == {1}


def test_a_server_that_stops_is_waited_for(tmp_path: Path, bucket: S3Settings, gateway: RadosGateway) -> None:
    storage = Driven(tmp_path, bucket)
    studio = studio_with(tmp_path, storage)
    gateway.stop()
    try:
        studio.run()
        made = studio.stop()  # a recording does not notice
        storage.closed(studio.recording.id)
        while storage.uploader.step():
            pass
        storage.now += 30_000_000
        assert storage.uploader.failing
        backlog = storage.uploader.backlog()
        assert backlog.files == len(made.tracks[0].segments) + 1
        assert backlog.bytes == sum(segment.bytes for segment in made.tracks[0].segments)
        assert backlog.age_us >= 30_000_000
        assert storage.uploader.failures >= 1
        assert "error sending request" in storage.troubles[0]
        assert storage.sweep() == 0  # nothing is let go of
        assert verify(studio.path, storage=storage).ok
    finally:
        gateway.start()
    storage.drain()
    assert storage.troubles[-1] == ""
    assert not storage.uploader.failing
    assert storage.is_whole(studio.path, made)
    assert set(versions(bucket).values()) == {1}


def test_a_server_that_refuses_is_told_in_a_sentence(tmp_path: Path, bucket: S3Settings) -> None:
    storage = Driven(tmp_path, msgspec.structs.replace(bucket, secret_key="wrong"))
    studio, made = recorded(tmp_path, storage)
    storage.closed(studio.recording.id)
    while storage.uploader.step():
        pass
    assert "403" in storage.troubles[0]
    assert "Debug" not in storage.troubles[0]
    assert storage.uploader.backlog().files == len(made.tracks[0].segments) + 1


def test_a_server_that_does_not_answer_costs_its_own_thread_alone(
    tmp_path: Path, bucket: S3Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_module, "REQUEST_SECONDS", 1)
    monkeypatch.setattr(s3_module, "RETRIES", 0)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        endpoint = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        storage = Driven(tmp_path, msgspec.structs.replace(bucket, endpoint=endpoint))
        storage.uploader.open(2)
        studio, made = recorded(tmp_path, storage)
        assert studio.recorder.counters()["write_errors"] == 0
        storage.uploader.close(30)
        assert verify(studio.path, storage=storage).ok
    assert storage.uploader.backlog().files == len(made.tracks[0].segments)


def test_a_copy_that_was_damaged_on_its_way_is_sent_again(tmp_path: Path, bucket: S3Settings) -> None:
    storage = Driven(tmp_path, bucket)
    studio, made = recorded(tmp_path, storage)
    genuine = storage.bucket.put
    damaged: list[str] = []

    def put(name: str, source: Path | bytes) -> None:
        if isinstance(source, Path) and not damaged:
            damaged.append(name)
            genuine(name, bytes(source.stat().st_size))
        else:
            genuine(name, source)

    storage.bucket.put = put  # type: ignore[method-assign]
    storage.closed(studio.recording.id)
    storage.drain()
    assert "does not come back as it was sent" in storage.troubles[0]
    assert storage.settle() > 0
    assert verify(studio.path, storage=storage).ok
    assert storage.is_whole(studio.path, made)


def test_what_is_altered_here_does_not_replace_a_good_copy(tmp_path: Path, bucket: S3Settings) -> None:
    storage = Driven(tmp_path, bucket)
    studio, made = recorded(tmp_path, storage)
    path = studio.path / made.tracks[0].segments[0].file
    path.write_bytes(b"x" * path.stat().st_size)
    storage.closed(studio.recording.id)
    while storage.uploader.step():
        pass
    assert "is not what the manifest says, and stays here" in storage.troubles[0]
    assert not storage.is_whole(studio.path, made)
    assert storage.sweep() == 0


def test_media_stay_for_as_long_as_they_should(tmp_path: Path, bucket: S3Settings) -> None:
    storage = Driven(tmp_path, bucket, days=7)
    studio, made = recorded(tmp_path, storage)
    assert storage.settle() == 0
    storage.now += 6 * 86_400_000_000
    assert storage.sweep() == 0
    storage.now += 86_400_000_000
    assert storage.sweep() == sum(segment.bytes for segment in made.tracks[0].segments)
    assert sorted(path.name for path in studio.path.iterdir()) == [MARK, manifest.NAME]
    assert storage.sweep() == 0
    assert verify(studio.path, storage=storage).ok


def test_locks_are_put_where_they_are_asked_for_and_never_on_the_key(tmp_path: Path, bucket: S3Settings) -> None:
    settings = msgspec.structs.replace(bucket, retention_days=36_500, retention_mode="compliance", legal_hold=True)
    storage = Driven(tmp_path, settings, MASTERS)
    studio, made = recorded(tmp_path, storage)
    storage.settle()

    async def work(client: Any) -> None:
        found = await client.list_object_versions(Bucket=settings.bucket, Prefix=f"{settings.prefix}/")
        for version in found["Versions"]:
            target = {"Bucket": settings.bucket, "Key": version["Key"]}
            if version["Key"].endswith(keys.NAME):
                with pytest.raises(ClientError):
                    await client.get_object_retention(**target)
                continue
            assert (await client.get_object_retention(**target))["Retention"]["Mode"] == "COMPLIANCE"
            assert (await client.get_object_legal_hold(**target))["LegalHold"]["Status"] == "ON"
            with pytest.raises(ClientError, match="AccessDenied"):
                await client.delete_object(**target, VersionId=version["VersionId"])

    ask(settings, work)
    # The recording can be erased all the same.
    storage.erase(studio.path, Tombstone(1, studio.recording.id, 1, "by request"))
    assert keys.NAME not in versions(settings)
    with pytest.raises(Unreadable, match="was erased"):
        storage.media(studio.path, made.tracks[0].segments[0])
    storage.settle()
    assert keys.TOMBSTONE in versions(settings)
    assert keys.NAME not in versions(settings)


def test_a_rewrapped_key_goes_up_too(tmp_path: Path, bucket: S3Settings) -> None:
    storage = Driven(tmp_path, bucket, MASTERS)
    studio, made = recorded(tmp_path, storage)
    storage.settle()
    newer = keys.MasterKeys("other", {"test": bytes(range(32)), "other": bytes(32)})
    command = Driven(tmp_path, bucket, newer)
    assert command.rewrap(studio.path)
    assert not storage.is_whole(studio.path, made)
    storage.settle()  # the server has not been told, and finds it
    stored = b"".join(storage.bucket.chunks(f"{studio.path.relative_to(tmp_path)}/{keys.NAME}"))
    assert keys.decode(stored, studio.recording.id).master == "other"
    assert verify(studio.path, storage=command).opened == 3


def test_what_is_fetched_back_is_bounded(tmp_path: Path, bucket: S3Settings) -> None:
    storage = Driven(tmp_path, bucket)
    studio, made = recorded(tmp_path, storage)
    storage.settle()
    segments = made.tracks[0].segments
    bounded = Driven(tmp_path, bucket, cache_bytes=segments[0].bytes)
    files = []
    for segment in segments:
        file = bounded.fetch(studio.path, segment)
        assert isinstance(file, ReaderFile)
        files.append(file)
    assert len(list((tmp_path / ".fetched").iterdir())) == 1
    for file, segment in zip(files, segments, strict=True):
        assert len(file.read()) == segment.bytes  # whoever has it open keeps it
        file.close()


class Ranges:
    """A bucket that counts what it is asked for."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.asked: list[tuple[int, int]] = []

    def read(self, name: str, size: int, offset: int) -> bytes:
        self.asked.append((offset, size))
        return self.data[offset : offset + size]


def test_reading_on_asks_for_more_at_a_time() -> None:
    data = bytes(range(256)) * 80_000
    bucket = Ranges(data)
    reader = BucketReader(bucket, "x", len(data))  # type: ignore[arg-type]
    got = b"".join(reader.read(100_000, offset) for offset in range(0, len(data), 100_000))
    assert got == data
    assert len(bucket.asked) < 15
    assert sum(size for _, size in bucket.asked) == len(data)
    assert reader.read(10, len(data)) == b""
    assert reader.read(10, 5) == data[5:15]
