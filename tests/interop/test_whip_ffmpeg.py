"""FFmpeg publishes by WHIP, aiortc views by WHEP: neither has ever seen this server's own client."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mediaserver.loadtest.signalling import Message, Signalling
from tests.browser.conftest import Server
from tests.interop.whep_viewer import WhepViewer

SECONDS = 60.0
FRAMES = 90
ROOT = Path(__file__).parents[2]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path / "data")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A P-256 certificate and its key; the muxer would make an RSA one, which few WebRTC peers take."""
    folder = tmp_path_factory.mktemp("certificate")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "publisher")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (folder / "certificate.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "certificate.pem", folder / "key.pem"


class Publisher:
    """`tests.interop.whip_publisher` as a process. `sent` are the numbers of the pictures that it has sent."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.sent: list[int] = []
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.sent.append(int(line))

    async def end(self) -> int:
        """Let it close its session and end; its exit status."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        await self._reader
        return await self.process.wait()


@contextlib.asynccontextmanager
async def publishing(
    server: Server, room: str, certificate: tuple[Path, Path], seconds: float = SECONDS
) -> AsyncIterator[Publisher]:
    url = f"{server.base}/whip/{room}?source=ultrasound,microphone"
    arguments = [url, server.token(room, "cart"), *map(str, certificate), str(seconds)]
    command = [sys.executable, "-m", "tests.interop.whip_publisher", *arguments]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=PIPE, stdout=PIPE)
    publisher = Publisher(process)
    try:
        yield publisher
    finally:
        if process.returncode is None:
            process.kill()
            await publisher.end()


@contextlib.asynccontextmanager
async def watching(server: Server, room: str) -> AsyncIterator[Signalling]:
    async with aiohttp.ClientSession() as http:
        signalling = await Signalling.connect(http, server.base)
        await signalling.join(room, server.token(room, "doctor"))
        try:
            yield signalling
        finally:
            await signalling.close()


async def heard(signalling: Signalling, kind: str) -> Message:
    while (message := await signalling.news.get()) is not None:
        if message["type"] == kind:
            return message
    raise ConnectionError(f"the socket was closed before {kind}")


def test_ffmpeg_publishes_and_a_viewer_by_whep_sees(server: Server, certificate: tuple[Path, Path]) -> None:
    async def main() -> None:
        async with asyncio.timeout(SECONDS), watching(server, "r") as doctor, WhepViewer() as viewer:
            async with publishing(server, "r", certificate) as publisher:
                added = [(await heard(doctor, "track-added"))["track"] for _ in range(2)]
                assert {track["source"] for track in added} == {"ultrasound", "microphone"}
                await viewer.join(f"{server.base}/whep/r", server.token("r", "observer"))
                await viewer.until(lambda: len(viewer.codes) >= FRAMES and viewer.bursts >= 2)
                status = await viewer.leave()
                assert await publisher.end() == 0
                left = await heard(doctor, "participant-left")
            assert status == 200
            assert await viewer.leave() == 404
        assert left["reason"] == "left"
        assert viewer.sizes == {(640, 480)}
        codes = [code for code in viewer.codes if code is not None]
        assert len(codes) == len(viewer.codes), "a picture came damaged"
        assert codes == list(range(codes[0], codes[0] + len(codes))), "not every picture, or not in order"
        assert codes[-1] <= publisher.sent[-1]

    asyncio.run(main())


@pytest.mark.soak
def test_ffmpeg_stays_past_the_consent_timeout(server: Server, certificate: tuple[Path, Path]) -> None:
    """Whoever checks the path from time to time stays in (RFC 7675); who was killed is removed after it."""

    async def main() -> None:
        async with (
            asyncio.timeout(3 * SECONDS),
            watching(server, "r") as doctor,
            WhepViewer() as viewer,
            publishing(server, "r", certificate, 3 * SECONDS) as publisher,
        ):
            added = {(await heard(doctor, "track-added"))["track"]["id"] for _ in range(2)}
            await viewer.join(f"{server.base}/whep/r", server.token("r", "observer"))
            await viewer.until(lambda: len(viewer.codes) >= 45 * 30)
            publisher.process.kill()
            removed = {(await heard(doctor, "track-removed"))["track"] for _ in range(2)}
            assert removed == added
            assert (await heard(doctor, "participant-left"))["reason"] == "silent"

    asyncio.run(main())
