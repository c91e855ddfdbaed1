"""The whole server in a Python application: its life, its face, its HTTP, and that nothing stays behind."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import socket
import ssl
import threading
from pathlib import Path

import aiohttp
import msgspec
import pytest
from aiortc.mediastreams import VideoStreamTrack
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mediaserver import Config, ConfigError, MediaServer, StartError, __version__
from mediaserver.audit import Audit
from mediaserver.clock import Clock
from mediaserver.events import EventsLost
from mediaserver.http import tls
from mediaserver.metrics import RECORDER_LEVELS, RECORDER_SUMS
from mediaserver.protocol import CloseCode
from mediaserver.room_events import RoomClosed, RoomOpened
from mediaserver.settings import AuthSettings, DataSettings, HttpSettings, MediaSettings
from mediaserver.sfu.session import events as ev
from mediaserver.sfu.session.model import Role
from mediaserver.sfu.wire import gcm
from tests.mediaserver.conftest import Open, Site, run
from tests.mediaserver.test_end_to_end import publish


def config(tmp_path: Path, **sections: object) -> Config:
    base = Config(
        http=HttpSettings(address="127.0.0.1:0"),
        media=MediaSettings(udp="127.0.0.1:0", workers=1),
        data=DataSettings(dir=str(tmp_path / "data")),
    )
    return msgspec.structs.replace(base, **sections)


def audit(tmp_path: Path) -> list[dict[str, object]]:
    """The lines of the audit trail, without those that it has of itself."""
    lines = [json.loads(line) for line in (tmp_path / "data" / "audit.log").read_text().splitlines()]
    return [line for line in lines if not line["event"].startswith("trail-")]


def test_rooms_participants_and_events_as_objects(site: Open) -> None:
    async def main() -> None:
        async with site() as s:
            events = s.server.events()
            called: list[str] = []
            end = s.server.subscribe(lambda room, event: called.append(type(event).__name__))
            cart = await s.doctor("Cart 7", "cart")
            sender, ids = await publish(cart, {"ultrasound": VideoStreamTrack()})
            room = s.server.rooms["r"]
            assert [(person.name, person.role) for person in room.participants] == [("Cart 7", Role.CART)]
            assert [(track.id, track.source) for track in room.tracks] == [(ids["ultrasound"], "ultrasound")]
            seen: list[str] = []
            async for happening in events:
                assert happening.room is room
                seen.append(type(happening.event).__name__)
                if isinstance(happening.event, ev.PictureChanged):
                    assert (happening.event.width, happening.event.height) == (640, 480)
                if {"PictureChanged", "TrackLive"} <= set(seen):
                    break
            assert {"RoomOpened", "ParticipantJoined", "TrackAdded", "TransportChanged"} <= set(seen)
            assert called[: len(seen)] == seen
            end()
            before = len(called)
            room.close()
            assert len(called) == before
            rest = [type((await anext(events)).event) for _ in range(3)]
            assert ev.TrackRemoved in rest or ev.ParticipantLeft in rest
            await sender.close()
        assert [happening.event async for happening in events if isinstance(happening.event, RoomOpened)] == []

    run(main())


def test_events_end_with_the_server(site: Open) -> None:
    async def main() -> None:
        async with site() as s:
            events = s.server.events()
            await s.doctor()
        kinds = [type(happening.event) async for happening in events]
        assert kinds == [RoomOpened, ev.ParticipantJoined, ev.ParticipantLeft, RoomClosed]

    run(main())


def test_shutdown_tells_everybody(site: Open) -> None:
    async def main() -> None:
        async with site() as s:
            one, two, stranger = await s.doctor(), await s.doctor(), await s.connect()
            clients = (one, two, stranger)
            codes = asyncio.gather(*(client.closed() for client in clients))
            await s.server.__aexit__(None, None, None)
            assert await codes == [CloseCode.GOING_AWAY] * 3
            assert [client.news[-1]["code"] for client in clients] == ["shutting-down"] * 3

    run(main())


def test_nothing_stays_behind(tmp_path: Path) -> None:
    """Threads, file descriptors and tasks are as before, after servers that had participants and media."""

    async def one_life() -> None:
        async with MediaServer(config(tmp_path)) as server, aiohttp.ClientSession() as http:
            s = Site(server, http)
            cart = await s.doctor("Cart", "cart")
            sender, _ = await publish(cart, {"camera": VideoStreamTrack()})
            await cart.until(lambda m: m["type"] == "track-changed" and m["track"]["live"])
            await sender.close()

    run(one_life())  # what libraries open once
    gc.collect()
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        run(one_life())
    gc.collect()
    assert threading.active_count() <= threads
    assert len(os.listdir("/proc/self/fd")) <= files


def test_two_servers_in_one_process(tmp_path: Path) -> None:
    async def main() -> None:
        async with MediaServer(config(tmp_path / "a")) as one, MediaServer(config(tmp_path / "b")) as two:
            assert one.url != two.url
            async with aiohttp.ClientSession() as http:
                for server in (one, two):
                    async with http.get(f"{server.url}/healthz") as response:
                        assert response.status == 200

    run(main())


def test_busy_http_port(tmp_path: Path) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            server = MediaServer(config(tmp_path, http=HttpSettings(address=f"127.0.0.1:{port}")))
            with pytest.raises(StartError, match=rf"HTTP port 127\.0\.0\.1:{port} is in use.*--http ADDR:PORT"):
                await server.__aenter__()

    run(main())


def test_busy_udp_port(tmp_path: Path) -> None:
    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            server = MediaServer(config(tmp_path, media=MediaSettings(udp=f"127.0.0.1:{port}", workers=1)))
            with pytest.raises(StartError, match=rf"UDP port 127\.0\.0\.1:{port} is in use.*--udp ADDR:PORT"):
                await server.__aenter__()

    run(main())


def test_more_workers_than_ports_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mediaserver.config.core_count", lambda: 8)
    config = Config(
        http=HttpSettings(address="127.0.0.1:0"),
        media=MediaSettings(udp="127.0.0.1:65535", tcp="off", workers=0),
        data=DataSettings(dir=str(tmp_path)),
    )

    async def main() -> None:
        with pytest.raises(StartError, match="past port 65535: choose a lower port for --udp"):
            async with MediaServer(config):
                pass

    run(main())


@pytest.mark.parametrize("host", ["a..b", "a" * 80, "no.such.host.invalid"])
def test_a_host_that_is_none(tmp_path: Path, host: str) -> None:
    config = Config(
        http=HttpSettings(address=f"{host}:0"),
        media=MediaSettings(udp="127.0.0.1:0", workers=1),
        data=DataSettings(dir=str(tmp_path)),
    )

    async def main() -> None:
        with pytest.raises(StartError, match="is no address of this machine"):
            async with MediaServer(config):
                pass

    run(main())


def test_data_folder_that_can_not_be(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "file").write_text("")
        server = MediaServer(config(tmp_path, data=DataSettings(dir=str(tmp_path / "file" / "data"))))
        with pytest.raises(StartError, match="--data DIR"):
            await server.__aenter__()

    run(main())


def test_public_keys(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    path = tmp_path / "key.pem"
    path.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )

    async def main() -> None:
        async with MediaServer(config(tmp_path, auth=AuthSettings(public_keys=(str(path),)))) as server:
            assert not server.random_secret
            with pytest.raises(ValueError, match="secret"):
                server.token(room="r", role="doctor")
        for bad in (str(tmp_path / "none.pem"), __file__):
            with pytest.raises(ConfigError, match=bad):
                await MediaServer(config(tmp_path, auth=AuthSettings(public_keys=(bad,)))).__aenter__()

    run(main())


def test_self_signed_https_keeps_its_certificate(tmp_path: Path) -> None:
    settings = config(tmp_path, http=HttpSettings(address="127.0.0.1:0", tls="self-signed"))

    async def main() -> None:
        seen = set()
        for _ in range(2):
            async with MediaServer(settings) as server, aiohttp.ClientSession() as http:
                assert server.url.startswith("https://127.0.0.1:")
                certificate = tmp_path / "data" / "tls" / "self-signed.pem"
                trusted = ssl.create_default_context(cafile=str(certificate))
                async with http.get(f"{server.url}/healthz", ssl=trusted) as response:
                    assert response.status == 200
                seen.add(certificate.read_bytes())
                assert (certificate.parent / "self-signed.key").stat().st_mode & 0o777 == 0o600
        assert len(seen) == 1

    run(main())


@pytest.mark.parametrize(
    ("certificate", "key", "words"),
    [
        ("none.pem", "a.key", r"http\.certificate \S+none\.pem can't be read: No such file"),
        ("a.pem", "none.key", r"http\.key \S+none\.key can't be read: No such file"),
        ("a.key", "a.key", r"http\.certificate \S+a\.key holds no certificate"),
        ("a.pem", "a.pem", r"http\.key \S+a\.pem holds no private key"),
        ("a.pem", "b.key", r"http\.key \S+b\.key belongs to another certificate"),
        ("a.pem", "locked.key", r"http\.key \S+locked\.key is encrypted"),
    ],
)
def test_a_certificate_that_cannot_be_used(tmp_path: Path, certificate: str, key: str, words: str) -> None:
    for name in "ab":
        signed, made = tls._self_signed(tmp_path / name, [], 1e9)
        signed.rename(tmp_path / f"{name}.pem")
        made.rename(tmp_path / f"{name}.key")
    private = serialization.load_pem_private_key((tmp_path / "a.key").read_bytes(), None)
    locked = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"passphrase"),
    )
    (tmp_path / "locked.key").write_bytes(locked)
    settings = HttpSettings(certificate=str(tmp_path / certificate), key=str(tmp_path / key))
    with pytest.raises(ConfigError, match=words):
        tls.server_context(settings, tmp_path, [], 1e9)


def test_pages_and_headers(site: Open) -> None:
    async def main() -> None:
        async with site() as s:
            for path in ("/", "/cart", "/viewer", "/archive", "/static/client.js", "/favicon.ico"):
                async with s.http.get(s.url + path) as response:
                    assert response.status == 200, path
                    assert response.headers["X-Content-Type-Options"] == "nosniff"
                    assert "frame-ancestors" in response.headers["Content-Security-Policy"]
                    assert response.headers["Referrer-Policy"] == "no-referrer"
            for path in ("/static/../config.py", "/static/%2e%2e/config.py", "/static/", "/nope", "/api/nope"):
                async with s.http.get(s.url + path) as response:
                    assert response.status in (403, 404), path
                    assert response.content_type == "application/problem+json"
            async with s.http.post(f"{s.url}/healthz") as response:
                assert response.status == 405
            async with s.http.get(f"{s.url}/asyncapi.json") as response:
                assert (await response.json())["asyncapi"] == "3.0.0"

    run(main())


def test_health_and_metrics(site: Open) -> None:
    async def main() -> None:
        async with site() as s:
            async with s.http.get(f"{s.url}/readyz") as response:
                assert (response.status, await response.json()) == (200, {"status": "ready", "reasons": []})
            doctor = await s.doctor()
            s.server.rooms["r"].set_recording("alarm", "x", "disk full")
            async with s.http.get(f"{s.url}/readyz") as response:
                assert response.status == 503
                assert "1 recordings" in (await response.json())["reasons"][0]
            async with s.http.get(f"{s.url}/metrics") as response:
                text = await response.text()
            for line in (
                f'mediaserver_info{{srtp="{gcm.library()}",version="{__version__}"}} 1.0',
                "mediaserver_rooms 1.0",
                'mediaserver_participants{via="websocket"} 1.0',
                'mediaserver_joins_total{via="websocket"} 1.0',
                'mediaserver_room_recordings{state="alarm"} 1.0',
                'mediaserver_plane_drops_total{cause="srtp_auth",worker="0"} 0.0',
                'mediaserver_forward_latency_seconds_count{worker="0"} 0.0',
                'mediaserver_forward_latency_seconds_bucket{le="0.004096",worker="0"} 0.0',
                "mediaserver_recorder_fsync_seconds_count 0.0",
                "process_open_fds ",
            ):
                assert line in text, line
            assert doctor.joined["participant"] not in text
            assert s.url not in text

    run(main())


def test_srtp_goes_by_the_library_that_is_configured(site: Open) -> None:
    async def main() -> None:
        media = MediaSettings(udp=":0", workers=1, srtp_library="openssl")
        async with site(media=media) as s, s.http.get(f"{s.url}/metrics") as response:
            assert 'mediaserver_info{srtp="OpenSSL ' in await response.text()

    try:
        run(main())
    finally:
        gcm.choose("auto")


def test_operator(site: Open, tmp_path: Path) -> None:
    async def main() -> None:
        async with site() as s:
            doctor = await s.doctor("Dr. A")
            api = f"{s.url}/api/rooms"
            for headers, status in (({}, 401), (s.bearer("doctor"), 403)):
                async with s.http.get(api, headers=headers) as response:
                    assert response.status == status
            everywhere, elsewhere = s.bearer("operator", "*"), s.bearer("operator", "other")
            async with s.http.get(api, headers=everywhere) as response:
                (room,) = (await response.json())["rooms"]
                assert (room["name"], room["participants"][0]["name"]) == ("r", "Dr. A")
                assert response.headers["Cache-Control"] == "no-store"
            async with s.http.get(api, headers=elsewhere) as response:
                assert (await response.json())["rooms"] == []
            person = f"{api}/r/participants/{doctor.joined['participant']}"
            assert (await s.http.delete(person, headers=elsewhere)).status == 404
            assert (await s.http.delete(person, headers=everywhere)).status == 204
            assert await doctor.closed() == CloseCode.REMOVED
            assert (await s.http.delete(person, headers=everywhere)).status == 404
            other = await s.doctor()
            assert (await s.http.delete(f"{api}/r", headers=everywhere)).status == 204
            assert await other.closed() == CloseCode.GOING_AWAY
        actions = [line["event"] for line in audit(tmp_path)]
        removal = ["join", "denied", "denied", "removed", "leave"]
        assert actions == ["server-started", *removal, "join", "room-closed", "leave", "server-stopped"]

    run(main())


def test_audit_of_joins_and_denials(site: Open, tmp_path: Path) -> None:
    async def main() -> None:
        async with site() as s:
            doctor = await s.doctor("Dr. A")
            assert (await doctor.ask("leave"))["type"] == "ok"
            stranger = await s.connect()
            await stranger.join("rubbish")
        lines = audit(tmp_path)
        by = {line["event"]: line for line in lines}
        assert by["join"]["name"] == "Dr. A"
        assert by["join"]["via"] == "websocket"
        assert by["leave"]["reason"] == "left"
        assert by["denied"]["address"] == "127.0.0.1"
        assert "malformed" in str(by["denied"]["reason"])
        assert all(str(line["time"]).endswith("Z") for line in lines)
        text = (tmp_path / "data" / "audit.log").read_text()
        assert "eyJ" not in text, "no token is ever written"

    run(main())


def test_strangers_do_not_fill_the_disk(site: Open, tmp_path: Path) -> None:
    async def main() -> None:
        async with site() as s:
            headers = {"Content-Type": "application/sdp", "Authorization": "Bearer x"}
            for _ in range(120):
                async with s.http.post(f"{s.url}/whip/r", data="v=0", headers=headers) as response:
                    assert response.status == 401
        assert sum(line["event"] == "denied" for line in audit(tmp_path)) < 100

    run(main())


def test_media_is_reachable_where_it_is_announced(tmp_path: Path) -> None:
    async def main() -> None:
        media = MediaSettings(udp=":0", workers=2, announce=("203.0.113.7", "2001:db8::7"))
        async with MediaServer(config(tmp_path, media=media)) as server:
            for slot, port in zip(server.rooms.workers, server.media_ports, strict=True):
                assert slot.settings.candidates == (("203.0.113.7", port), ("2001:db8::7", port))

    run(main())


def test_rooms_spread_over_the_workers(tmp_path: Path) -> None:
    async def main() -> None:
        settings = config(tmp_path, media=MediaSettings(udp=":0", workers=2))
        async with MediaServer(settings) as server, aiohttp.ClientSession() as http:
            s = Site(server, http)
            doctors = [await s.doctor(room=f"r{number}") for number in range(4)]
            assert [slot.participants for slot in server.rooms.workers] == [2, 2]
            assert [slot.rooms for slot in server.rooms.workers] == [2, 2]
            assert len({doctor.joined["participant"] for doctor in doctors}) == 4

    run(main())


def test_a_slow_reader_of_events_is_told(site: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mediaserver.events.EVENT_QUEUE", 2)

    async def main() -> None:
        async with site() as s:
            events = s.server.events()
            await asyncio.gather(s.doctor(), s.doctor(), s.doctor())
            with pytest.raises(EventsLost):
                await anext(events)
            events.close()

    run(main())


def test_every_counter_is_a_metric_with_a_help_of_its_own(site: Open) -> None:
    async def main() -> None:
        async with site() as s:
            text = s.server.metrics.text().decode()
            helps = dict(re.findall(r"^# HELP mediaserver_(\S+) (.+)$", text, re.MULTILINE))
            [(_, plane)] = s.server.rooms.workers.counters()
            for name in plane:
                drop = name.startswith("drop_")
                wanted = f'plane_drops_total{{cause="{name[5:]}",worker="0"}}' if drop else f"plane_{name}"
                assert f"mediaserver_{wanted}" in text
            assert s.server.metrics.recorder is not None
            told_by_the_plane = {"dropped"}
            names = set(RECORDER_LEVELS) | set(RECORDER_SUMS) | told_by_the_plane
            assert set(s.server.metrics.recorder.counters()) == names
            assert len(set(helps.values())) == len(helps)
            assert not [name for name in helps if name.endswith(("_us", "_us_total", "_ms", "_ms_total"))]

    run(main())


def test_the_audit_trail_takes_any_text(tmp_path: Path) -> None:
    trail = Audit(tmp_path / "data" / "audit.log", Clock())
    trail.write("denied", reason="half a character: \ud800")
    trail.write("server-stopped")
    trail.close()
    assert [line["event"] for line in audit(tmp_path)] == ["denied", "server-stopped"]
