"""Every kind of storage alike: what is recorded plays, verifies and exports, wherever and however it lies."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import av
from aiohttp import ClientSession

from mediaserver.codecs.payload import Codec
from mediaserver.recording import manifest
from mediaserver.recording.archive import Archive
from mediaserver.recording.catalog import Query
from mediaserver.recording.manifest import Manifest
from mediaserver.recording.storage import LocalStorage
from mediaserver.recording.verify import REPORT, verify
from tests.recording import feed
from tests.recording.bucketed import Driven
from tests.recording.feed import Source, Studio
from tests.recording.test_archive import Desk

StorageAt = Callable[[Path], LocalStorage]


def record(root: Path, storage: LocalStorage) -> tuple[Studio, Manifest]:
    """Three seconds of a camera in files of a second; with a bucket they are nowhere else afterwards."""
    studio = Studio(root, storage, segment_us=1_000_000)
    studio.track("camera")
    studio.feed("camera", feed.deliver([Source(Codec.CODEC_VP8, feed.video(Codec.CODEC_VP8, 90))]))
    studio.run()
    made = studio.stop()
    if isinstance(storage, Driven):
        storage.settle()
        assert not list(root.rglob("*.webm"))
    return studio, made


def test_plays_verifies_and_exports(tmp_path: Path, storage_at: StorageAt) -> None:
    storage = storage_at(tmp_path)
    studio, made = record(tmp_path, storage)
    identifier = studio.recording.id
    base = f"/api/archive/recordings/{identifier}"

    async def work(client: ClientSession) -> None:
        assert [found.id for found in (await archive.find(Query())).recordings] == [identifier]
        for number, segment in enumerate(made.tracks[0].segments):
            path = f"{base}/tracks/camera/media?segment={number}"
            async with client.get(path) as response:
                clear = await response.read()
            assert response.headers["ETag"] == f'"{segment.sha256}"'
            content = segment.content or manifest.Content(segment.bytes, segment.sha256)
            assert (len(clear), hashlib.sha256(clear).hexdigest()) == (content.bytes, content.sha256)
            for header, part in (("bytes=0-99", clear[:100]), ("bytes=500-", clear[500:]), ("bytes=-7", clear[-7:])):
                async with client.get(path, headers={"Range": header}) as response:
                    assert (response.status, await response.read()) == (206, part)
            async with client.get(path, headers={"If-None-Match": f'"{segment.sha256}"'}) as response:
                assert response.status == 304
        async with client.get(f"{base}/verify") as response:
            report = await response.json()
        assert (report["ok"], report["files"]) == (True, len(made.tracks[0].segments))
        for _ in range(2):
            async with client.get(f"{base}/export?format=mkv") as response:
                with av.open(io.BytesIO(await response.read())) as container:
                    assert sum(1 for _ in container.decode(video=0)) == 90
        assert await archive.keep_report(identifier, b'{"seen":true}')
        async with client.get(f"{base}/report") as response:
            assert await response.json() == {"seen": True}

    archive = Archive(tmp_path, storage=storage)
    Desk(archive).run(work)
    if isinstance(storage, Driven):
        storage.drain()
        stored = b"".join(storage.bucket.chunks(f"{studio.path.relative_to(tmp_path)}/{REPORT}"))
        assert stored == (studio.path / REPORT).read_bytes()
        assert storage.is_whole(studio.path, made)


def test_what_was_altered_in_the_store_is_named(tmp_path: Path, storage_at: StorageAt) -> None:
    storage = storage_at(tmp_path)
    studio, made = record(tmp_path, storage)
    first, second = made.tracks[0].segments[:2]
    name = f"{studio.path.relative_to(tmp_path)}/{first.file}"
    if isinstance(storage, Driven):
        data = bytearray(b"".join(storage.bucket.chunks(name)))
        data[len(data) // 2] ^= 1
        storage.bucket.put(name, bytes(data))
    else:
        data = bytearray((tmp_path / name).read_bytes())
        data[len(data) // 2] ^= 1
        (tmp_path / name).write_bytes(data)
        (studio.path / second.file).unlink()
    report = verify(studio.path, storage=storage)
    expected = [("altered", first.file)] + ([] if isinstance(storage, Driven) else [("missing", second.file)])
    assert [(problem.kind, problem.name) for problem in report.problems] == expected


def test_the_archive_can_be_made_anew(tmp_path: Path, storage_at: StorageAt) -> None:
    """Of a bucket when there is one: the local folder is lost, all of it."""
    studio, _ = record(tmp_path / "one", storage_at(tmp_path / "one"))
    root = tmp_path / ("one" if type(studio.storage) is LocalStorage else "two")
    storage = storage_at(root)

    async def work() -> None:
        archive = Archive(root, storage=storage)
        await archive.open()
        assert await archive.rebuild() == 1
        assert [found.id for found in (await archive.find(Query())).recordings] == [studio.recording.id]
        report = await archive.verify(studio.recording.id)
        assert report.ok
        assert report.files == 3
        await archive.close()

    asyncio.run(work())
