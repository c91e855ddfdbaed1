"""The archive over HTTP and by command, over real recordings."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

import av
import pytest
from aiohttp import ClientSession, web
from typer.testing import CliRunner

from mediaserver.codecs.payload import Codec
from mediaserver.desk.api import ArchiveApi
from mediaserver.recording import manifest
from mediaserver.recording.archive import Archive, ArchiveInUse
from mediaserver.recording.catalog import Query
from mediaserver.recording.cli import app
from tests.recording import feed
from tests.recording.feed import Source, Studio


def record(folder: Path, codec: Codec = Codec.CODEC_VP8, *, stop: bool = True) -> Studio:
    """Three seconds of a camera."""
    studio = Studio(folder)
    studio.track("camera")
    studio.feed("camera", feed.deliver([Source(codec, feed.video(codec, 90))]))
    studio.run()
    if stop:
        studio.stop()
    return studio


class Desk:
    """The archive behind a real server, and a client of it. Only `rooms` may be seen."""

    def __init__(self, archive: Archive, rooms: Collection[str] | None = None) -> None:
        self.archive = archive
        self.rooms = rooms
        self.actions: list[tuple[str, str | None]] = []

    async def authorize(self, request: web.Request, action: str, recording: str | None) -> Collection[str] | None:
        if request.headers.get("Authorization") == "nobody":
            raise web.HTTPUnauthorized
        self.actions.append((action, recording))
        return self.rooms

    def run(self, work: Callable[[ClientSession], Awaitable[None]]) -> None:
        async def serve() -> None:
            await self.archive.open()
            application = web.Application()
            api = ArchiveApi(
                self.archive, self.authorize, wall_us=lambda: feed.WALL_START, who=lambda request: "Dr. Test"
            )
            application.router.add_routes(api.routes())
            runner = web.AppRunner(application)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0][:2]
            try:
                async with ClientSession(f"http://{host}:{port}") as client:
                    await work(client)
            finally:
                await runner.cleanup()
                await api.close()
                await self.archive.close()

        asyncio.run(serve())


def test_lists_and_shows(tmp_path: Path) -> None:
    studio = record(tmp_path)

    async def work(client: ClientSession) -> None:
        async with client.get("/api/archive/recordings?room=room-1&limit=5") as response:
            found = await response.json()
        assert found["total"] == 1
        (track,) = found["recordings"][0]["tracks"]
        assert (track["source"], track["codec"], track["width"], track["gaps"]) == ("camera", "VP8", 320, 0)
        assert 2900 <= track["duration_ms"] <= 3100
        async with client.get(f"/api/archive/recordings/{studio.recording.id}") as response:
            shown = await response.json()
        assert shown["started"].startswith("2026-09-21T")
        assert shown["tracks"][0]["segments"][0]["file"] == "camera-1.webm"
        async with client.get(f"/api/archive/recordings/{studio.recording.id}/manifest") as response:
            assert await response.read() == (studio.path / manifest.NAME).read_bytes()
        for query, status in (("limit=x", 400), ("from=yesterday", 400), ("limit=501", 400), ("from=2026-09-21", 200)):
            async with client.get(f"/api/archive/recordings?{query}") as response:
                assert response.status == status

    desk = Desk(Archive(tmp_path))
    desk.run(work)
    assert desk.actions[:2] == [("list", None), ("show", studio.recording.id)]


def test_media_by_ranges(tmp_path: Path) -> None:
    studio = record(tmp_path)
    data = (studio.path / "camera-1.webm").read_bytes()
    etag = f'"{hashlib.sha256(data).hexdigest()}"'
    path = f"/api/archive/recordings/{studio.recording.id}/tracks/camera/media"
    size = len(data)
    cases = [
        ({}, 200, data, None),
        ({"Range": "bytes=0-"}, 200, data, None),
        ({"Range": "bytes=10-19"}, 206, data[10:20], f"bytes 10-19/{size}"),
        ({"Range": f"bytes={size - 5}-{size + 5}"}, 206, data[-5:], f"bytes {size - 5}-{size - 1}/{size}"),
        ({"Range": "bytes=-7"}, 206, data[-7:], f"bytes {size - 7}-{size - 1}/{size}"),
        ({"Range": f"bytes=-{size + 1}"}, 200, data, None),
        ({"Range": f"bytes={size}-"}, 416, b"", f"bytes */{size}"),
        ({"Range": "bytes=-0"}, 416, b"", f"bytes */{size}"),
        ({"Range": "bytes=9-3"}, 200, data, None),
        ({"Range": "bytes=1-2,4-5"}, 200, data, None),
        ({"Range": "lines=1-2"}, 200, data, None),
        ({"Range": "bytes=1-2", "If-Range": etag}, 206, data[1:3], f"bytes 1-2/{size}"),
        ({"Range": "bytes=1-2", "If-Range": '"other"'}, 200, data, None),
        ({"If-None-Match": etag}, 304, b"", None),
        ({"If-None-Match": '"other"'}, 200, data, None),
        ({"If-Match": '"other"'}, 412, b"", None),
        ({"If-Match": "*"}, 200, data, None),
    ]

    async def work(client: ClientSession) -> None:
        for headers, status, body, content_range in cases:
            async with client.get(path, headers=headers) as response:
                assert response.status == status, headers
                assert await response.read() == body, headers
                assert response.headers.get("Content-Range") == content_range, headers
                assert response.headers["ETag"] == etag
        async with client.head(path) as response:
            assert (response.status, response.content_length) == (200, size)
            assert response.content_type == "video/webm"
            assert response.headers["Accept-Ranges"] == "bytes"
        async with client.get(f"{path}?segment=1") as response:
            assert response.status == 404

    Desk(Archive(tmp_path)).run(work)


def test_verify_and_export(tmp_path: Path) -> None:
    studio = record(tmp_path)
    base = f"/api/archive/recordings/{studio.recording.id}"

    async def work(client: ClientSession) -> None:
        async with client.post(f"{base}/verify") as response:
            assert (await response.json())["ok"] is True
        async with client.get(f"{base}/export?format=mkv") as response:
            assert response.content_type == "video/x-matroska"
            with av.open(io.BytesIO(await response.read())) as container:
                assert sum(1 for _ in container.decode(video=0)) == 90
        async with client.get(f"{base}/export?format=mp4") as response:
            assert response.status == 422
            assert "MP4 cannot hold VP8" in (await response.json())["detail"]
        async with client.get(f"{base}/export?format=avi") as response:
            assert response.status == 400
        (studio.path / "camera-1.webm").write_bytes(b"x")
        async with client.get(f"{base}/verify") as response:
            report = await response.json()
        assert report["ok"] is False
        assert report["problems"][0]["name"] == "camera-1.webm"
        assert list((tmp_path / ".exports").iterdir()) == []

    Desk(Archive(tmp_path)).run(work)


def test_other_rooms_are_not_there(tmp_path: Path) -> None:
    studio = record(tmp_path)
    base = f"/api/archive/recordings/{studio.recording.id}"

    async def work(client: ClientSession) -> None:
        async with client.get("/api/archive/recordings") as response:
            assert (await response.json())["total"] == 0
        for path in ("", "/manifest", "/tracks/camera/media", "/verify", "/export"):
            async with client.get(base + path) as response:
                assert response.status == 404, path
        async with client.get(base, headers={"Authorization": "nobody"}) as response:
            assert response.status == 401

    Desk(Archive(tmp_path), rooms=["room-2"]).run(work)


@pytest.mark.parametrize("name", ["..", "%2e%2e", "*", "2026%2F..", "x" * 65, "no-such"])
def test_strange_names_are_unknown(tmp_path: Path, name: str) -> None:
    async def work(client: ClientSession) -> None:
        async with client.get(f"/api/archive/recordings/{name}") as response:
            assert response.status == 404
        async with client.get(f"/api/archive/recordings/{name}/verify") as response:
            assert response.status == 404

    Desk(Archive(tmp_path)).run(work)


def test_a_recording_that_goes_on_is_listed(tmp_path: Path) -> None:
    archive = Archive(tmp_path, live=lambda: studio.recorder.recordings())
    studio = record(tmp_path / "elsewhere", stop=False)
    identifier = studio.recording.id

    async def work(client: ClientSession) -> None:
        async with client.get("/api/archive/recordings") as response:
            (found,) = (await response.json())["recordings"]
        assert (found["id"], found["state"], found["ended"]) == (identifier, "recording", None)
        assert found["tracks"][0]["bytes"] > 0
        async with client.get(f"/api/archive/recordings/{identifier}") as response:
            assert (await response.json())["state"] == "recording"
        for path in ("tracks/camera/media", "verify", "export"):
            async with client.get(f"/api/archive/recordings/{identifier}/{path}") as response:
                assert response.status == 409

    Desk(archive).run(work)


def test_opening_closes_what_a_crash_left_and_enters_it(tmp_path: Path) -> None:
    studio = record(tmp_path, stop=False)

    async def work(client: ClientSession) -> None:
        async with client.get("/api/archive/recordings") as response:
            (found,) = (await response.json())["recordings"]
        assert (found["id"], found["state"]) == (studio.recording.id, "recovered")

    Desk(Archive(tmp_path)).run(work)


def test_the_catalog_can_be_rebuilt(tmp_path: Path) -> None:
    studio = record(tmp_path)

    def forget() -> None:
        for path in tmp_path.glob("catalog.sqlite*"):
            path.unlink()

    async def work() -> None:
        archive = Archive(tmp_path)
        await archive.open()
        await archive.close()
        await asyncio.to_thread(forget)
        archive = Archive(tmp_path)
        await archive.open()
        assert [r.id for r in (await archive.find(Query())).recordings] == [studio.recording.id]
        (studio.path / manifest.NAME).unlink()
        assert await archive.rebuild() == 0
        assert (await archive.find(Query())).total == 0
        await archive.close()

    asyncio.run(work())


def test_an_archive_has_one_owner(tmp_path: Path) -> None:
    async def work() -> None:
        first = Archive(tmp_path)
        await first.open()
        second = Archive(tmp_path)
        with pytest.raises(ArchiveInUse):
            await second.open()
        await first.close()
        await second.open()
        await second.close()

    asyncio.run(work())


def command(folder: Path, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["--data", str(folder), *arguments])
    return result.exit_code, result.output


def test_commands(tmp_path: Path) -> None:
    studio = record(tmp_path / "archive", Codec.CODEC_H264)
    identifier = studio.recording.id
    code, text = command(tmp_path, "list", "--json")
    assert code == 0
    assert json.loads(text)["recordings"][0]["id"] == identifier
    code, text = command(tmp_path, "list")
    assert code == 0
    assert "camera" in text
    code, text = command(tmp_path, "show", identifier)
    assert text.encode() == (studio.path / manifest.NAME).read_bytes()
    code, text = command(tmp_path, "verify", identifier)
    assert (code, text.split(":")[1].split(",")[0]) == (0, " genuine")
    for name in ("out.mkv", "out.mp4"):
        code, _ = command(tmp_path, "export", identifier, "--out", str(tmp_path / name))
        assert code == 0
        with av.open(tmp_path / name) as container:
            assert sum(1 for _ in container.decode(video=0)) == 90
    assert command(tmp_path, "export", identifier, "--out", str(tmp_path / "out.avi"))[0] == 2
    assert command(tmp_path, "rebuild") == (0, "1 recordings\n")
    with (studio.path / "camera-1.mp4").open("ab") as stream:
        stream.write(b"x")
    code, text = command(tmp_path, "verify", identifier, "--json")
    assert code == 1
    assert json.loads(text)["problems"][0]["kind"] == "altered"
    assert command(tmp_path, "verify", "no-such")[0] == 2
    assert command(tmp_path / "nowhere", "list")[0] == 2


def test_commands_beside_a_server_change_nothing(tmp_path: Path) -> None:
    studio = record(tmp_path / "archive", stop=False)

    async def work() -> None:
        server = Archive(tmp_path / "archive")
        assert server._lock.take()
        code, text = await asyncio.to_thread(command, tmp_path, "list", "--json")
        assert code == 0
        (found,) = json.loads(text)["recordings"]
        assert (found["id"], found["state"]) == (studio.recording.id, "recording")
        await server.close()

    asyncio.run(work())
    assert studio.stop().state == "complete"


def test_reading_commands_do_not_keep_a_server_out(tmp_path: Path) -> None:
    record(tmp_path / "archive", Codec.CODEC_H264)

    async def work() -> None:
        reader, server = Archive(tmp_path / "archive"), Archive(tmp_path / "archive")
        await reader.open()
        reader.share()
        await server.open()
        assert (await reader.find(Query())).total == 1
        code, text = await asyncio.to_thread(command, tmp_path, "rebuild")
        assert code == 2
        assert "a server records into" in text
        await reader.close()
        await server.close()

    asyncio.run(work())


def test_a_broken_catalog_is_told_in_a_sentence(tmp_path: Path) -> None:
    studio = record(tmp_path / "archive", Codec.CODEC_H264)
    database = tmp_path / "archive" / "catalog.sqlite"
    database.write_text("this is no database, whatever its name says")
    code, text = command(tmp_path, "list")
    assert code == 2
    assert text.startswith(f"the catalog {database} can't be used (file is not a database): move it away")
    database.unlink()
    _, text = command(tmp_path, "list", "--json")
    assert [found["id"] for found in json.loads(text)["recordings"]] == [studio.recording.id]


def test_what_could_not_be_closed_is_told(tmp_path: Path) -> None:
    studio = record(tmp_path / "archive", stop=False)
    (studio.path / manifest.NAME).mkdir()  # nothing can take its place
    _, text = command(tmp_path, "list")
    assert f"recording {studio.recording.id} could not be closed: " in text
    assert command(tmp_path, "export", studio.recording.id, "--out", str(tmp_path / "none" / "a.mkv"))[0] == 2
