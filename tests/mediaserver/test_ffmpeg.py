"""FFmpeg publishes by WHIP, another implementation views by WHEP."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from mediaserver.sfu.session.dtls import Identity
from mediaserver.sfu.session.events import ParticipantLeft
from tests.mediaserver.conftest import Open, run
from tests.mediaserver.test_end_to_end import by_whip, frames, new_peer, received


def write_identity(folder: Path) -> tuple[str, str]:
    """The P-256 certificate and key that the muxer asks for."""
    made = Identity.generate(datetime.now(UTC))
    certificate, key = folder / "cert.pem", folder / "key.pem"
    certificate.write_bytes(made.certificate.public_bytes(serialization.Encoding.PEM))
    form, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key.write_bytes(made.key.private_bytes(serialization.Encoding.PEM, form, none))
    return str(certificate), str(key)


def test_ffmpeg_publishes_and_a_viewer_sees(site: Open, tmp_path: Path) -> None:
    async def main() -> None:
        async with site() as s:
            events = s.server.events()
            viewer = new_peer()
            tracks = received(viewer)
            viewer.addTransceiver("video", direction="recvonly")
            viewer.addTransceiver("audio", direction="recvonly")
            await by_whip(s, "/whep/r", "observer", viewer)
            publisher = await asyncio.create_subprocess_exec(
                sys.executable,
                str(Path(__file__).with_name("ffmpeg_publisher.py")),
                f"{s.url}/whip/r?source=ultrasound",
                s.token("cart"),
                *write_identity(tmp_path),
                "4",
            )
            await frames(tracks, 30)
            (picture, sound) = sorted(s.server.rooms["r"].tracks, key=lambda track: track.kind, reverse=True)
            assert (picture.source, picture.codec, picture.width, picture.height) == ("ultrasound", "H264", 640, 480)
            assert sound.source == "microphone"
            assert await publisher.wait() == 0
            async for happening in events:
                if isinstance(happening.event, ParticipantLeft):
                    assert happening.event.reason == "left", "the muxer deletes its resource"
                    break
            await viewer.close()

    run(main())
