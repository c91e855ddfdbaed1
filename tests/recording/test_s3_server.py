"""A whole server with a bucket behind it and encryption switched on, as its settings say it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiortc.mediastreams import VideoStreamTrack

from mediaserver import Config, MediaServer
from mediaserver.config import ConfigError, load
from mediaserver.recording import register
from mediaserver.recording.retention import RetentionClass
from mediaserver.recording.storage.face import MARK
from mediaserver.recording.storage.keys import DISPOSED
from mediaserver.recording.storage.s3 import Bucket, S3Settings
from mediaserver.settings import RetentionSettings
from tests.mediaserver.conftest import Site
from tests.mediaserver.test_end_to_end import publish
from tests.mediaserver.test_recordings import ended, recording

SECONDS = 100.0


def config(folder: Path, bucket: S3Settings) -> Config:
    """By a file for what may be seen and the environment for what may not."""
    path = folder / "mediaserver.toml"
    path.write_text(
        f'[http]\naddress = "127.0.0.1:0"\n[media]\nudp = ":0"\nworkers = 1\n[data]\ndir = "{folder / "data"}"\n'
        '[recording]\npolicy = "on"\nsegment_seconds = 1\nsettle_seconds = 0\n'
        f'[storage]\nkind = "s3"\nbucket = "{bucket.bucket}"\nprefix = "{bucket.prefix}"\n'
        f'endpoint = "{bucket.endpoint}"\naccess_key = "{bucket.access_key}"\nlocal_days = 0\n'
        '[encryption]\nmaster = "one"\n'
    )
    key = base64.b64encode(bytes(32)).decode()
    environ = {"MEDIASERVER_STORAGE_SECRET_KEY": bucket.secret_key, "MEDIASERVER_ENCRYPTION_KEYS": f"one:{key}"}
    return load(path, environ)


async def metric(site: Site, name: str) -> float:
    async with site.http.get(f"{site.url}/metrics", headers=site.bearer("operator", "*")) as response:
        assert response.status == 200
        lines = (await response.text()).splitlines()
    return float(next(line for line in lines if line.startswith(f"mediaserver_{name} ")).split()[1])


async def until(work: Any) -> None:
    while not await work():  # noqa: ASYNC110 - what it waits for happens in threads and in another program
        await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def opened(settings: Config) -> Any:
    async with MediaServer(settings) as server, aiohttp.ClientSession() as http:
        yield Site(server, http)


def test_from_the_cart_to_the_bucket_and_back(tmp_path: Path, bucket: S3Settings) -> None:
    settings = config(tmp_path, bucket)

    async def main() -> None:
        async with opened(settings) as s:
            cart = await s.doctor("Cart", "cart")
            sender, _ = await publish(cart, {"camera": VideoStreamTrack()})
            live = await recording(cart, "on")

            async def some() -> bool:
                return await metric(s, "uploaded_files_total") >= 1

            await until(some)  # while it goes on
            await sender.close()
            s.server.rooms["r"].close()
            await ended(s)

            async def none() -> bool:
                return not await metric(s, "upload_waiting_files")

            await until(none)
            assert await metric(s, "upload_failing") == 0
        identifier = live["recording"]
        folder = s.server.archive.folder / identifier[:4] / identifier[4:6] / identifier[6:8] / identifier
        assert (folder / MARK).exists()
        async with opened(settings) as s:  # which lets go of what is in the bucket

            async def gone() -> bool:
                return not await asyncio.to_thread(lambda: [*folder.glob("*.webm"), *folder.glob("*.mp4")])

            await until(gone)
            api = f"{s.url}/api/archive/recordings/{identifier}"
            headers = s.bearer("archivist", "r")
            async with s.http.get(f"{api}/verify", headers=headers) as response:
                report = await response.json()
            assert report["ok"]
            assert report["opened"] == report["files"] >= 1
            async with s.http.get(api, headers=headers) as response:
                (track,) = (await response.json())["tracks"]
            async with s.http.get(f"{api}/tracks/{track['id']}/media", headers=headers) as response:
                assert (await response.read())[:4] == b"\x1a\x45\xdf\xa3"

            async def copied() -> bool:
                return all(copy.behind <= 5 for copy in s.server.metrics.log_copies)

            await until(copied)
        data = tmp_path / "data"
        for path in (data / "archive" / register.NAME, *data.glob("audit*")):
            path.unlink()  # a disk was lost, and the folders were brought back from a backup
        async with opened(settings) as s:
            kept = (data / "archive" / register.NAME).read_text()
            assert f'"event":"recording-closed","recording":"{identifier}"' in kept
            assert "server-started" in next(data.glob("audit-*.log")).read_text()
            assert (await s.server.archive.verify_register()).problems == []
        classes = RetentionSettings(classes=(RetentionClass(name="none", days=0),), default="none")
        async with opened(msgspec.structs.replace(settings, retention=classes)) as s:
            operator = s.bearer("operator", "*", name="Olga")
            order = {"reason": "its time is over", "dry_run": False}
            async with s.http.post(f"{s.url}/api/archive/disposals", headers=operator, json=order) as response:
                assert (await response.json())["counts"] == {"disposed": 1}
            names = await asyncio.to_thread(lambda: list(Bucket(bucket).names()))
            assert not [name for name in names if identifier in name]
            assert [path.name for path in folder.iterdir()] == [DISPOSED]
            assert (await s.server.archive.verify(identifier)).ok
            assert (await s.server.archive.verify_register()).ok

    async def bounded() -> None:
        async with asyncio.timeout(SECONDS):
            await main()

    asyncio.run(bounded())


def test_settings_that_can_not_work_are_told(tmp_path: Path) -> None:
    def refusal(environ: dict[str, str]) -> str:
        try:
            load(None, environ)
        except ConfigError as error:
            return str(error)
        return ""

    assert "needs a `bucket`" in refusal({"MEDIASERVER_STORAGE_KIND": "s3"})
    assert "go together" in refusal({"MEDIASERVER_STORAGE_ACCESS_KEY": "x"})

    async def main() -> str:
        settings = load(None, {"MEDIASERVER_ENCRYPTION_MASTER": "gone", "MEDIASERVER_DATA_DIR": str(tmp_path)})
        try:
            async with MediaServer(settings):
                return ""
        except ConfigError as error:
            return str(error)

    assert "encryption: there is no master key gone" in asyncio.run(main())
