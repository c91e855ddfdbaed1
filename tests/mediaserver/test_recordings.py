"""When a room is recorded, who may switch it, and that what was recorded is in the archive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack

from mediaserver import Config, MediaServer, StartError
from mediaserver.recording.recorder import Recording
from mediaserver.settings import DataSettings, HttpSettings, MediaSettings, RecordingSettings
from mediaserver.sfu.stream.params import PayloadParams
from tests.mediaserver.conftest import Client, Open, Site, run
from tests.mediaserver.test_end_to_end import publish
from tests.mediaserver.test_server import audit
from tests.sfu.session.offers import H264, VP8, make_offer, video


async def recording(client: Client, state: str) -> dict[str, Any]:
    return await client.until(lambda m: m["type"] == "recording" and m["state"] == state)


async def listed(s: Site, **query: str) -> list[dict[str, Any]]:
    headers = s.bearer("archivist", "*")
    async with s.http.get(f"{s.url}/api/archive/recordings", params=query, headers=headers) as response:
        assert response.status == 200, await response.text()
        found: list[dict[str, Any]] = (await response.json())["recordings"]
        return found


async def ended(s: Site) -> None:
    """Wait until what was recorded is complete."""
    await s.server.recordings.settled()


def test_on_request(site: Open, tmp_path: Path) -> None:
    async def main() -> None:
        async with site() as s:
            cart, doctor = await s.doctor("Cart", "cart"), await s.doctor("Dr. A")
            sender, _ = await publish(cart, {"camera": VideoStreamTrack(), "microphone": AudioStreamTrack()})
            assert (await cart.ask("record", on=True))["code"] == "forbidden"
            assert (await doctor.ask("record", on=True))["type"] == "ok"
            started = await recording(cart, "starting")
            live = await recording(doctor, "on")
            assert live["recording"] == started["recording"]
            late = await s.doctor("Late")
            assert late.joined["recording"] | {"tracks": 0} == late.joined["recording"] | {"tracks": 0, "state": "on"}
            assert late.joined["recording"]["recording"] == live["recording"]
            assert (await doctor.ask("record", on=False))["type"] == "ok"
            assert (await recording(cart, "off"))["recording"] == live["recording"]
            await ended(s)
            (found,) = await listed(s, room="r")
            assert found["id"] == live["recording"]
            assert {track["source"] for track in found["tracks"]} == {"camera", "microphone"}
            assert all(track["bytes"] > 0 for track in found["tracks"])
            async with s.http.post(
                f"{s.url}/api/archive/recordings/{found['id']}/verify", headers=s.bearer("archivist", "*")
            ) as response:
                assert response.status == 200, await response.text()
            await sender.close()
        lines = {line["event"]: line for line in audit(tmp_path)}
        assert lines["recording-started"]["by"] == doctor.joined["participant"]
        assert lines["recording-stopped"]["recording"] == live["recording"]
        assert lines["archive-list"]["by"] == "archivist"
        assert lines["archive-verify"]["recording"] == live["recording"]

    run(main())


def test_by_policy(site: Open) -> None:
    async def main() -> None:
        async with site(recording=RecordingSettings(policy="on", settle_seconds=0.2)) as s:
            cart, doctor = await s.doctor("Cart", "cart"), await s.doctor("Dr. A")
            assert doctor.joined["recording"]["state"] == "off"
            sender, _ = await publish(cart, {"camera": VideoStreamTrack()})
            await recording(doctor, "on")
            assert (await doctor.ask("record", on=False))["code"] == "forbidden"
            assert (await doctor.ask("record", on=True))["type"] == "ok", "it is on already"
            assert (await cart.ask("leave"))["type"] == "ok"
            await sender.close()
            await recording(doctor, "off")
            assert (await doctor.ask("leave"))["type"] == "ok"
            await ended(s)
            assert not s.server.rooms
            assert len(await listed(s)) == 1

    run(main())


def test_cart_comes_back_into_the_same_recording(site: Open) -> None:
    async def main() -> None:
        async with site(recording=RecordingSettings(policy="on")) as s:
            cart = await s.doctor("Cart", "cart")
            sender, _ = await publish(cart, {"camera": VideoStreamTrack()})
            first = await recording(cart, "on")
            assert (await cart.ask("leave"))["type"] == "ok"
            await sender.close()
            assert list(s.server.rooms) == ["r"], "the room waits for its cart"
            again = await s.doctor("Cart", "cart")
            assert again.joined["recording"]["recording"] == first["recording"]
            sender, _ = await publish(again, {"camera": VideoStreamTrack()})
            await again.until(lambda m: m["type"] == "track-changed" and m["track"]["live"])
            await sender.close()
        # The server's end completes the recording.
        async with site() as s:
            (found,) = await listed(s)
            assert len(found["tracks"]) == 2

    run(main())


def test_shutdown_completes_the_recording(site: Open) -> None:
    async def main() -> None:
        async with site(recording=RecordingSettings(policy="on")) as s:
            cart = await s.doctor("Cart", "cart")
            sender, _ = await publish(cart, {"camera": VideoStreamTrack()})
            live = await recording(cart, "on")
        await sender.close()
        async with site() as s:
            (found,) = await listed(s)
            assert found["id"] == live["recording"]
            assert found["state"] == "complete"

    run(main())


@pytest.mark.parametrize(
    ("role", "room", "status", "count"),
    [("archivist", "r", 200, 1), ("archivist", "q", 200, 0), ("doctor", "r", 200, 1), ("observer", "r", 403, 0)],
)
def test_who_sees_what(site: Open, role: str, room: str, status: int, count: int) -> None:
    async def main() -> None:
        async with site(recording=RecordingSettings(policy="on")) as s:
            cart = await s.doctor("Cart", "cart")
            sender, _ = await publish(cart, {"camera": VideoStreamTrack()})
            live = await recording(cart, "on")
            await sender.close()
            s.server.rooms["r"].close()
            await ended(s)
            api = f"{s.url}/api/archive/recordings"
            async with s.http.get(api, headers=s.bearer(role, room)) as response:
                assert response.status == status
                if status == 200:
                    assert len((await response.json())["recordings"]) == count
            one = f"{api}/{live['recording']}"
            async with s.http.get(one, params={"token": s.token(role, room)}) as response:
                assert response.status == (200 if count else 403 if status == 403 else 404)
            assert (await s.http.get(api)).status == 401

    run(main())


def test_two_servers_on_one_folder(tmp_path: Path) -> None:
    settings = Config(
        http=HttpSettings(address="127.0.0.1:0"),
        media=MediaSettings(udp="127.0.0.1:0", workers=1),
        data=DataSettings(dir=str(tmp_path)),
    )

    async def main() -> None:
        async with MediaServer(settings):
            with pytest.raises(StartError, match=r"another server records into .* --data DIR"):
                await MediaServer(msgspec.structs.replace(settings)).__aenter__()

    run(main())


def test_a_later_offer_with_other_payload_types_reaches_the_recorder(
    site: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[list[int]] = []

    def update(self: Recording, track: str, payloads: tuple[PayloadParams, ...]) -> None:
        told.append([one.payload_type for one in payloads])
        plain(self, track, payloads)

    plain = Recording.update_track
    monkeypatch.setattr(Recording, "update_track", update)

    async def main() -> None:
        async with site(recording=RecordingSettings(policy="on")) as s:
            cart = await s.doctor("Cart", "cart")
            wish = [{"mid": "0", "source": "camera"}]
            for codecs in ((VP8, H264), (H264,), (H264,)):
                offer = make_offer(video("sendonly", *codecs, ssrc=5))
                assert (await cart.ask("offer", sdp=offer, publish=wish))["type"] == "answer"

    run(main())
    assert told == [[96]]


def test_what_an_earlier_run_left_open_and_cannot_be_closed_is_logged(
    site: Open, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data" / "archive" / "2026" / "11" / "01" / "20261101-120000-00000000"
    folder.mkdir(parents=True)
    (folder / "journal.jsonl").mkdir()

    async def main() -> None:
        async with site() as s:
            assert s.server.archive.failures

    run(main())
    assert "recording 20261101-120000-00000000 could not be closed" in capsys.readouterr().out
