"""The archivist's desk over HTTP: the timeline, thumbnails and exports of real recordings."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import av
import msgspec
import pytest
from aiohttp import ClientSession

from mediaserver.codecs.payload import Codec
from mediaserver.loadtest.raster import read_code
from mediaserver.recording import manifest
from mediaserver.recording.archive import Archive
from mediaserver.recording.export.jobs import DiskFull, Exports, TooManyExports
from mediaserver.recording.export.work import Order
from mediaserver.recording.manifest import Segment
from mediaserver.recording.stills import NoStill, Stills, StillsBusy
from mediaserver.recording.storage.face import Opening
from mediaserver.reports.session import Breach, SessionReport, ViewEntry
from mediaserver.reports.spells import Spell, SpellsSection
from tests.recording import feed
from tests.recording.test_archive import Desk, record
from tests.recording.test_playback import record as record_all

API = "/api/archive/recordings"


def report_of(studio: feed.Studio) -> bytes:
    """A report with a breach from second 2 to 3, one that is still going on, and a stale spell."""
    at = [f"2026-09-21T14:13:{20 + second:02}.000Z" for second in range(9)]
    view = ViewEntry("p2", "us", "ultrasound", at[0])
    view.breaches = [Breach("below-floor:line", at[2], at[3]), Breach("paused:line", at[6])]
    stranger = ViewEntry("p2", "gone", "camera", at[0], breaches=[Breach("paused:line", at[1], at[2])])
    spells = SpellsSection([Spell("cam", "camera", "stale", "publisher", at[4], at[5], 1.0)], 0)
    sections = {"freshness": spells, "sound": {"of": "another version"}}
    report = SessionReport(1, "room-1", at[0], None, [studio.recording.id], [], [], [view, stranger], 0, sections)
    return msgspec.json.encode(report)


def test_timeline(tmp_path: Path) -> None:
    studio = record_all(tmp_path, Codec.CODEC_VP8, Codec.CODEC_H264)
    kept = manifest.decode((studio.path / manifest.NAME).read_bytes())
    assert kept.started_us == feed.WALL_START  # the report's times below stand on it
    url = f"{API}/{studio.recording.id}/timeline.json"

    async def work(client: ClientSession) -> None:
        async with client.get(url) as response:
            bare = await response.json()
        assert (bare["report"], bare["marks"]) == (False, [])
        assert await desk.archive.keep_report(studio.recording.id, report_of(studio))
        async with client.get(url) as response:
            found = await response.json()
        tracks = {track["id"]: track for track in found["tracks"]}
        assert [s["reason"] for s in tracks["cam"]["segments"]] == ["start", "size"]
        assert [s["offset_ms"] for s in tracks["cam"]["segments"]] == [20.0, 4020.0]
        (scan,) = tracks["us"]["segments"]
        assert scan["places"] == [[0.0, 1020.0], [7000.0, 8020.0]]
        assert scan["type"].startswith('video/mp4; codecs="avc1')
        assert 33 < scan["frame_ms"] < 34
        marks = [(m["kind"], m["track"], m["offset_ms"], m["duration_ms"], m["cause"]) for m in found["marks"]]
        assert marks == [
            ("floor", "us", 2000, 1000, "below-floor:line"),
            ("stale", "cam", 4000, 1000, "stale:publisher"),
            ("floor", "us", 6000, found["duration_ms"] - 6000, "paused:line"),
        ]
        assert await desk.archive.keep_report(studio.recording.id, b"{}")
        async with client.get(url) as response:
            assert (await response.json())["marks"] == []

    desk = Desk(Archive(tmp_path))
    desk.run(work)


def test_gaps_are_on_the_timeline(tmp_path: Path) -> None:
    studio = feed.Studio(tmp_path)
    studio.track("camera")
    lossy = feed.deliver(
        [feed.Source(Codec.CODEC_VP8, feed.video(Codec.CODEC_VP8, 120))],
        lambda time, item: [] if 1e6 < time < 1.2e6 else [time + 20_000],
    )
    studio.feed("camera", lossy)
    studio.run()
    studio.stop()

    async def work(client: ClientSession) -> None:
        async with client.get(f"{API}/{studio.recording.id}/timeline.json") as response:
            (mark,) = (await response.json())["marks"]
        assert (mark["kind"], mark["cause"]) == ("gap", "lost")
        assert 900 < mark["offset_ms"] < 1100 < mark["offset_ms"] + mark["duration_ms"]

    Desk(Archive(tmp_path)).run(work)


@pytest.mark.parametrize(("at", "code"), [(0, 0), (2500, 60), (6000, 150), (600_000, 210)])
def test_thumbnail_is_the_keyframe_before(tmp_path: Path, at: int, code: int) -> None:
    studio = record_all(tmp_path, Codec.CODEC_VP8, Codec.CODEC_H264)
    base = f"{API}/{studio.recording.id}/tracks"

    async def work(client: ClientSession) -> None:
        async with client.get(f"{base}/cam/thumbnail?at={at}&width=1280") as response:
            picture = await response.read()
            etag = response.headers["ETag"]
            assert response.content_type == "image/jpeg"
        with av.open(io.BytesIO(picture), format="mjpeg") as container:
            (frame,) = container.decode(video=0)
        assert isinstance(frame, av.VideoFrame)
        assert frame.width == (320 if code < 120 else 640)
        assert read_code(frame.to_ndarray(format="gray")) == code
        async with client.get(f"{base}/cam/thumbnail?at={at}&width=1280", headers={"If-None-Match": etag}) as response:
            assert response.status == 304
        for query, status in (("cam/thumbnail?width=15", 400), ("cam/thumbnail?at=-1", 400), ("mic/thumbnail", 404)):
            async with client.get(f"{base}/{query}") as response:
                assert response.status == status

    Desk(Archive(tmp_path)).run(work)


def opened(path: Path) -> Opening:
    return Opening(os.open(path, os.O_RDONLY), path.name, None)


def opening(folder: Path, segment: Segment) -> Opening:
    return opened(folder / segment.file)


def test_stills_are_bounded_and_kept(tmp_path: Path) -> None:
    studio = record(tmp_path)
    path = studio.path / "camera-1.webm"

    async def main() -> None:
        stills = Stills(kept_bytes=6000)
        one, two = await asyncio.gather(*(stills.picture(partial(opened, path), "a", 0, 160) for _ in range(2)))
        assert one is two
        assert await stills.picture(partial(opened, path), "a", 0, 160) is one
        for second in range(3):
            await stills.picture(partial(opened, path), "b", second, 160)
        assert await stills.picture(partial(opened, path), "a", 0, 160) is not one  # others have taken its place
        broken = tmp_path / "broken.webm"
        broken.write_bytes(path.read_bytes()[:400])
        with pytest.raises(NoStill, match=r"broken\.webm"):
            await stills.picture(partial(opened, broken), "c", 0, 160)
        waiting = [asyncio.ensure_future(stills.picture(partial(opened, path), "d", n, 16)) for n in range(64)]
        await asyncio.sleep(0)
        with pytest.raises(StillsBusy):
            await stills.picture(partial(opened, path), "e", 0, 16)
        await stills.close()
        assert all(isinstance(e, BaseException) for e in await asyncio.gather(*waiting, return_exceptions=True))

    asyncio.run(main())


async def until_ended(client: ClientSession, url: str) -> dict[str, Any]:
    while True:
        async with client.get(url) as response:
            found: dict[str, Any] = await response.json()
        if found["state"] in ("done", "failed"):
            return found
        await asyncio.sleep(0.05)


def test_export_as_a_job(tmp_path: Path) -> None:
    studio = record_all(tmp_path, Codec.CODEC_VP8, Codec.CODEC_H264)
    url = f"{API}/{studio.recording.id}/exports"

    async def work(client: ClientSession) -> None:
        async with client.post(url, json={"kind": "mp4"}) as response:
            assert response.status == 422
            assert "export to MKV" in (await response.json())["detail"]
        for body in (b"{", b'{"kind":"avi"}', b'{"kind":"mkv","more":1}', b"\xff", b"[]"):
            async with client.post(url, data=body) as response:
                assert response.status == 400, body
        async with client.post(url, json={"kind": "mkv"}) as response:
            assert response.status == 202
            job = await response.json()
            where = response.headers["Location"]
        assert where == f"{url}/{job['id']}"
        done = await until_ended(client, where)
        assert (done["state"], done["progress"], done["error"]) == ("done", 1.0, "")
        async with client.get(url) as response:
            assert (await response.json())["exports"] == [done]
        async with client.get(f"{where}/result") as response:
            data = await response.read()
            assert response.headers["ETag"] == f'"{done["sha256"]}"'
            assert response.headers["Content-Disposition"].endswith(f'{studio.recording.id}.mkv"')
        assert (len(data), hashlib.sha256(data).hexdigest()) == (done["bytes"], done["sha256"])
        async with client.get(f"{where}/result", headers={"Range": "bytes=5-14"}) as response:
            assert (response.status, await response.read()) == (206, data[5:15])
        with av.open(io.BytesIO(data)) as container:
            assert len(container.streams) == 4
        async with client.delete(where) as response:
            assert response.status == 204
        for gone in (where, f"{where}/result"):
            async with client.get(gone) as response:
                assert response.status == 404
        assert not list((tmp_path / ".exports").iterdir())

    desk = Desk(Archive(tmp_path))
    desk.run(work)
    assert {"export", "follow", "fetch", "discard"} <= {action for action, _ in desk.actions}


@pytest.mark.parametrize("kept", ["plain", "encrypted"])
def test_a_zip_and_a_transcoded_mp4_are_jobs_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: str) -> None:
    monkeypatch.setattr(feed, "encrypted", kept == "encrypted")
    studio = record(tmp_path)
    url = f"{API}/{studio.recording.id}/exports"

    async def made(client: ClientSession, order: dict[str, Any]) -> tuple[str, bytes]:
        async with client.post(url, json=order) as response:
            assert response.status == 202, await response.text()
            where = response.headers["Location"]
        while True:
            async with client.get(where) as response:
                view = await response.json()
            if view["state"] in ("done", "failed"):
                break
            await asyncio.sleep(0.05)
        assert view["state"] == "done", view
        async with client.get(f"{where}/result") as response:
            return response.content_type, await response.read()

    async def work(client: ClientSession) -> None:
        identifiers = {"patient_id": "MRN-1"}
        async with client.put(f"{API}/{studio.recording.id}/identifiers", json=identifiers) as response:
            assert response.status == 204
        kind, data = await made(client, {"kind": "zip"})
        assert kind == "application/zip"
        with zipfile.ZipFile(io.BytesIO(data)) as found:
            names = {Path(name).name for name in found.namelist()}
            assert {"camera-1.webm", "manifest.json", "identifiers.json", "verify.html"} <= names
            assert b"MRN-1" in found.read(f"{studio.recording.id}/identifiers.json")
        async with client.post(url, json={"kind": "mp4"}) as response:
            assert response.status == 422, "VP8"
        async with client.post(url, json={"kind": "zip", "transcode": True}) as response:
            assert response.status == 400
        kind, data = await made(client, {"kind": "mp4", "transcode": True})
        with av.open(io.BytesIO(data)) as container:
            assert container.streams.video[0].codec_context.name == "h264"

    Desk(Archive(tmp_path, storage=studio.storage)).run(work)


async def until(done: Callable[[], bool]) -> None:
    for _ in range(6000):
        if done():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to that")


def test_exports_are_bounded_stopped_and_expire(tmp_path: Path) -> None:
    studio = record(tmp_path / "archive")
    source = studio.path

    async def main() -> None:
        order = partial(Order.of, manifest.decode((source / manifest.NAME).read_bytes()), studio.storage)
        exports = Exports(tmp_path / "out", lambda: feed.WALL_START, at_once=1, most=3, keep_seconds=0.2)
        first, second, third = [await exports.begin("r", order, "mkv", 0) for _ in range(3)]
        with pytest.raises(TooManyExports):
            await exports.begin("r", order, "mkv", 0)
        await exports.remove("r", second.id)  # before its turn
        await exports.remove("r", first.id)
        await until(lambda: exports.get("r", third.id).state == "done")
        assert exports.get("r", third.id).expires == "2026-09-21T14:13:20.200Z"
        assert exports.result("r", third.id) is not None
        await until(lambda: not exports.of("r"))
        (source / "camera-1.webm").unlink()
        broken = await exports.begin("r", order, "mkv", 0)
        await until(lambda: exports.get("r", broken.id).state == "failed")
        assert "camera-1.webm: No such file" in exports.get("r", broken.id).error
        with pytest.raises(DiskFull):
            await exports.begin("r", order, "mkv", 1 << 60)
        await exports.close()
        assert not list((tmp_path / "out").iterdir())

    asyncio.run(main())


def test_an_export_of_another_recording_is_not_there(tmp_path: Path) -> None:
    one = record(tmp_path)

    async def work(client: ClientSession) -> None:
        async with client.post(f"{API}/{one.recording.id}/exports") as response:
            job = (await response.json())["id"]
        async with client.get(f"{API}/other/exports/{job}") as response:
            assert response.status == 404
        desk.rooms = {"elsewhere"}
        for method, path in (("GET", f"/{job}"), ("GET", f"/{job}/result"), ("DELETE", f"/{job}"), ("POST", "")):
            async with client.request(method, f"{API}/{one.recording.id}/exports{path}") as response:
                assert response.status == 404

    desk = Desk(Archive(tmp_path))
    desk.run(work)


def test_bookmarks(tmp_path: Path) -> None:
    studio = record(tmp_path)
    url = f"{API}/{studio.recording.id}/bookmarks"
    bad = ({}, {"at_ms": -1}, {"at_ms": 1, "track": "none"}, {"at_ms": 1, "text": "two\nlines"}, {"at_ms": 10**7})

    async def work(client: ClientSession) -> None:
        for body in (*bad, {"at_ms": 1, "text": "x" * 257}, {"at_ms": 1, "more": 1}):
            async with client.post(url, json=body) as response:
                assert response.status == 400, body
        made = []
        for at, text in ((2000, "Mitral valve"), (1000, "")):
            async with client.post(url, json={"at_ms": at, "text": text, "track": "camera"}) as response:
                assert response.status == 201
                made.append(await response.json())
        assert (made[0]["at_ms"], made[0]["by"], made[0]["made"]) == (2000, "Dr. Test", "2026-09-21T14:13:20.000Z")
        async with client.get(url) as response:
            assert (await response.json())["bookmarks"] == made[::-1]
        async with client.get(f"{API}/{studio.recording.id}/timeline.json") as response:
            assert (await response.json())["bookmarks"] == made[::-1]
        for _ in range(2):
            async with client.delete(f"{url}/{made[0]['id']}") as response:
                assert response.status == 204
        async with client.get(url) as response:
            assert (await response.json())["bookmarks"] == made[1:]
        desk.rooms = {"elsewhere"}
        async with client.post(url, json={"at_ms": 1}) as response:
            assert response.status == 404

    desk = Desk(Archive(tmp_path))
    desk.run(work)


def test_holds(tmp_path: Path) -> None:
    studio = record(tmp_path)
    url = f"{API}/{studio.recording.id}/holds"

    async def work(client: ClientSession) -> None:
        async with client.post(url, json={"reason": ""}) as response:
            assert response.status == 400
        async with client.post(url, json={"reason": "complaint 7"}) as response:
            assert response.status == 201
            hold = (await response.json())["id"]
        for held, count in (("true", 1), ("false", 0)):
            async with client.get(f"{API}?held={held}") as response:
                assert (await response.json())["total"] == count
        async with client.delete(f"{url}/{hold}") as response:
            assert response.status == 204
        async with client.delete(f"{url}/{hold}") as response:
            assert response.status == 404
        async with client.get(url) as response:
            (found,) = (await response.json())["holds"]
        assert (found["reason"], found["by"], found["lifted_by"]) == ("complaint 7", "Dr. Test", "Dr. Test")
        assert found["lifted"] is not None

    Desk(Archive(tmp_path)).run(work)
