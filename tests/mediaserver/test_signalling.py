"""The WebSocket: joining, resuming, and what is done about clients that misbehave."""

from __future__ import annotations

import asyncio
import json
import socket

import aiohttp
import pytest

from mediaserver import live_room, protocol
from mediaserver.connection import QUEUE_BYTES, Bucket
from mediaserver.protocol import CloseCode
from mediaserver.settings import RecordingSettings, RoomSettings, SignallingSettings
from mediaserver.sfu.stream.params import EventKind, PlaneEvent
from tests.mediaserver.conftest import Open, run
from tests.sfu.session.offers import make_offer, video


def test_join_tells_who_is_there(site: Open) -> None:
    async def main() -> None:
        async with site() as s:
            first = await s.doctor("Dr. A")
            second = await s.doctor("Dr. B", "observer")
            people = second.joined["participants"]
            assert [(person["name"], person["role"]) for person in people] == [
                ("Dr. A", "doctor"),
                ("Dr. B", "observer"),
            ]
            assert second.joined["rights"] == ["subscribe"]
            assert second.joined["budgets"]["ultrasound"]["stale_ms"] == 250
            assert second.joined["recording"] == {
                "state": "off", "recording": None, "detail": "", "whose": "required", "tracks": [],
            }  # fmt: skip
            news = await first.until("participant-joined")
            assert news["participant"]["id"] == second.joined["participant"]
            assert (await first.ask("participants"))["participants"] == people

    run(main())


def test_the_tokens_name_goes_first(site: Open) -> None:
    async def main() -> None:
        async with site() as s:
            client = await s.connect()
            joined = await client.join(s.server.token(room="r", role="doctor", name="Dr. A"), name="Dr. B")
            assert joined["name"] == "Dr. A"

    run(main())


def test_leave(site: Open) -> None:
    async def main() -> None:
        async with site() as s:
            first, second = await s.doctor(), await s.doctor()
            assert (await second.ask("leave"))["type"] == "ok"
            assert await second.closed() == CloseCode.LEFT
            left = await first.until("participant-left")
            assert left == {"type": "participant-left", "participant": second.joined["participant"], "reason": "left"}
            again = await s.connect()
            refused = await again.join(s.token(), resume=second.joined["resume"])
            assert refused["code"] == "resume-failed"
            assert not refused["fatal"]
            assert (await again.join(s.token()))["type"] == "joined", "the same connection may join anew"

    run(main())


def test_room_ends_with_its_last_participant(site: Open) -> None:
    async def main() -> None:
        async with site() as s:
            one = await s.doctor()
            assert list(s.server.rooms) == ["r"]
            assert (await one.ask("leave"))["type"] == "ok"
            assert list(s.server.rooms) == []

    run(main())


@pytest.mark.parametrize(
    ("change", "code", "close"),
    [
        ({"token": "rubbish"}, "unauthorized", CloseCode.UNAUTHORIZED),
        ({"room": "other"}, "forbidden", CloseCode.FORBIDDEN),
        ({"room": "no/room"}, "forbidden", CloseCode.FORBIDDEN),
        ({"version": 99}, "unsupported-version", CloseCode.BAD_MESSAGE),
    ],
)
def test_join_refused(site: Open, change: dict[str, object], code: str, close: int) -> None:
    async def main() -> None:
        async with site() as s:
            client = await s.connect()
            refused = await client.ask("join", **({"version": 1, "room": "r", "token": s.token()} | change))
            assert (refused["type"], refused["code"], refused["fatal"]) == ("error", code, True)
            assert refused["message"]
            assert await client.closed() == close
            assert list(s.server.rooms) == []

    run(main())


def test_before_joining(site: Open) -> None:
    async def main() -> None:
        async with site() as s:
            client = await s.connect()
            assert (await client.ask("ping"))["code"] == "not-joined"
            await client.socket.send_str("{")
            assert await client.closed() == CloseCode.BAD_MESSAGE
            assert client.news[-1]["code"] == "bad-message"

    run(main())


def test_join_in_time(site: Open) -> None:
    async def main() -> None:
        async with site(signalling=SignallingSettings(join_seconds=0.05)) as s:
            client = await s.connect()
            assert await client.closed() == CloseCode.TIMEOUT
            assert client.news[0]["code"] == "timeout"

    run(main())


def test_bad_messages_of_a_participant(site: Open) -> None:
    async def main() -> None:
        async with site() as s:
            client = await s.doctor()
            refused = await client.ask("offer", sdp="x", publish=[{"mid": "0", "source": "xray"}])
            assert refused["code"] == "bad-message"
            assert "publish[0].source" in refused["message"]
            await client.socket.send_bytes(b"\xff\xfe")
            assert (await client.until("error"))["id"] is None
            assert (await client.ask("fly"))["code"] == "bad-message"
            assert (await client.ask("join", version=1, room="r", token="t"))["code"] == "already-joined"
            assert (await client.ask("ping"))["type"] == "pong"

    run(main())


@pytest.mark.parametrize(
    ("kind", "fields", "code"),
    [
        ("offer", {"sdp": "rubbish"}, "bad-offer"),
        ("offer", {"sdp": "v=0\r\nm=nonsense\r\n"}, "bad-offer"),
        ("mute", {"track": "none", "muted": True}, "not-found"),
        ("subscribe", {"track": "none"}, "not-found"),
        ("unsubscribe", {"track": "none"}, "not-found"),
        ("record", {"on": True}, "forbidden"),
    ],
)
def test_requests_that_can_not_be_served(site: Open, kind: str, fields: dict[str, object], code: str) -> None:
    async def main() -> None:
        async with site() as s:
            client = await s.doctor(role="observer")
            refused = await client.ask(kind, **fields)
            assert refused["code"] == code, refused
            assert refused["message"]
            assert (await client.ask("ping"))["type"] == "pong"

    run(main())


def test_resume(site: Open) -> None:
    async def main() -> None:
        async with site() as s:
            first, second = await s.doctor("A"), await s.doctor("B")
            await second.socket.close()
            again = await s.connect()
            joined = await again.join(s.token(), resume=second.joined["resume"])
            assert joined["resumed"]
            assert joined["participant"] == second.joined["participant"]
            assert joined["name"] == "B"
            assert (await first.ask("ping"))["type"] == "pong"
            assert [message["type"] for message in first.news] == ["participant-joined"], "nobody heard of it"

    run(main())


def test_an_answer_that_was_lost_with_the_socket_is_given_again(site: Open) -> None:
    async def main() -> None:
        async with site() as s:
            doctor, cart = await s.doctor(), await s.doctor(role="cart")
            offer = {"sdp": make_offer(video(ssrc=9)), "publish": [{"mid": "0", "source": "camera"}]}
            await cart.send("offer", id=77, **offer)
            track = (await doctor.until("track-added"))["track"]["id"]
            await cart.socket.close()
            again = await s.connect()
            joined = await again.join(s.token("cart"), resume=cart.joined["resume"])
            assert [one["id"] for one in joined["tracks"]] == [track]
            first, second = [await again.ask("offer", **offer) for _ in range(2)]
            assert first["bound"] == second["bound"] == [{"mid": "0", "track": track}]
            credentials = [line for line in first["sdp"].splitlines() if line.startswith("a=ice-")]
            assert [line for line in second["sdp"].splitlines() if line.startswith("a=ice-")] == credentials
            assert (await doctor.ask("ping"))["type"] == "pong"
            assert [one["type"] for one in doctor.news] == ["participant-joined"], "nobody else heard of it"

    run(main())


def test_resume_replaces_a_socket_that_only_seems_to_live(site: Open) -> None:
    async def main() -> None:
        async with site() as s:
            old = await s.doctor()
            new = await s.connect()
            joined = await new.join(s.token(), resume=old.joined["resume"])
            assert joined["participant"] == old.joined["participant"]
            assert await old.closed() == CloseCode.REPLACED
            assert (await new.ask("ping"))["type"] == "pong"
            assert len(s.server.rooms["r"].members) == 1

    run(main())


@pytest.mark.parametrize("role", ["cart", "observer"])
def test_resume_with_anothers_key(site: Open, role: str) -> None:
    async def main() -> None:
        async with site() as s:
            victim = await s.doctor()
            thief = await s.connect()
            assert (await thief.join(s.token(role), resume=victim.joined["resume"]))["code"] == "resume-failed"
            thief = await s.connect()
            refused = await thief.join(s.token(room="q"), room="q", resume=victim.joined["resume"])
            assert refused["code"] == "resume-failed"
            thief = await s.connect()
            fewer = s.token(rights=["subscribe"])
            assert (await thief.join(fewer, resume=victim.joined["resume"]))["code"] == "resume-failed"
            assert (await victim.ask("ping"))["type"] == "pong"

    run(main())


def test_socket_that_does_not_resume(site: Open) -> None:
    async def main() -> None:
        async with site(signalling=SignallingSettings(resume_seconds=0.05)) as s:
            first, second = await s.doctor(), await s.doctor()
            await second.socket.close()
            left = await first.until("participant-left")
            assert left["reason"] == "disconnected"
            again = await s.connect()
            assert (await again.join(s.token(), resume=second.joined["resume"]))["code"] == "resume-failed"

    run(main())


def test_message_too_long(site: Open) -> None:
    async def main() -> None:
        async with site(signalling=SignallingSettings(message_bytes=4096)) as s:
            client = await s.doctor()
            await client.send("candidate", candidate="x" * 5000)
            assert await client.closed() == CloseCode.TOO_BIG

    run(main())


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"ping","id":1,"x":' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"a":' * 40_000,
        "[" * 200_000,
        '{"type":"ping","id":' + "9" * 10_000 + "}",
        '{"type":"ping","id":-1}',
        '{"type":"ping","id":{"id":1}}',
        '{"type":["ping"],"id":1}',
        '{"type":"offer","id":1,"sdp":7,"publish":{},"subscribe":null}',
        '{"type":"keyframe","track":"\\ud800"}',
        '{"type":"candidate","candidate":"candidate:' + "1 " * 2000 + '","mid":"0"}',
        "null",
        "",
    ],
)
def test_hostile_messages_are_answered_and_harm_nobody(site: Open, text: str) -> None:
    async def main() -> None:
        async with site() as s:
            witness, hostile = await s.doctor(), await s.doctor()
            await hostile.socket.send_str(text)
            refused = await hostile.until("error")
            assert refused["code"] in ("bad-message", "bad-offer")
            assert not refused["fatal"]
            assert (await hostile.ask("ping"))["type"] == "pong"
            assert (await witness.ask("ping"))["type"] == "pong"
            stranger = await s.connect()
            await stranger.socket.send_str(text)
            assert await stranger.closed() == CloseCode.BAD_MESSAGE

    run(main())


def test_offers_without_end_leave_one_peer_connection(site: Open) -> None:
    async def main() -> None:
        async with site(signalling=SignallingSettings(messages_per_second=1e6, burst=100_000)) as s:
            witness, hostile = await s.doctor(), await s.doctor(role="cart")
            for number in range(100):
                offer = make_offer(video(ssrc=9), session=number, client=number % 3, ufrag=f"u{number:05}")
                wish = [{"mid": "0", "source": "camera"}]
                assert (await hostile.ask("offer", sdp=offer, publish=wish))["type"] == "answer"
            for number in range(1000):
                line = f"candidate:{number} 1 udp 1 192.0.2.1 {1024 + number} typ host"
                await hostile.send("candidate", candidate=line, mid="0")
            assert (await hostile.ask("ping"))["type"] == "pong"
            assert (await witness.ask("ping"))["type"] == "pong"
            assert len(s.server.rooms["r"].tracks) == 1
            while len(s.server.rooms.ids) > 2:  # the data plane reports what it has let go of
                await witness.ask("ping")
            assert "error" not in {message["type"] for message in hostile.news}

    run(main())


def test_too_many_messages(site: Open) -> None:
    async def main() -> None:
        async with site(signalling=SignallingSettings(messages_per_second=1, burst=5)) as s:
            client = await s.doctor()
            for number in range(10):
                await client.send("ping", id=number)
            assert await client.closed() == CloseCode.TOO_FAST
            assert client.news[-1]["code"] == "too-fast"
            assert client.news[-1]["fatal"]

    run(main())


def test_pings_are_answered_and_count_as_messages(site: Open) -> None:
    async def main() -> None:
        async with site(signalling=SignallingSettings(messages_per_second=1, burst=20)) as s:
            client = await s.doctor()
            await client.socket.ping(b"well?")
            assert (await client.ask("ping"))["type"] == "pong"
            flooder = await s.connect()
            for _ in range(40):
                await flooder.socket.ping()
            assert await flooder.closed() == CloseCode.TOO_FAST
            assert s.server.stats.dropped_clients["too-fast"] == 1
            assert (await client.ask("ping"))["type"] == "pong"

    run(main())


async def join_by_hand(address: tuple[str, int], token: str) -> socket.socket:
    """A socket that has joined and of which nobody reads any more."""
    loop = asyncio.get_running_loop()
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    await loop.sock_connect(raw, address)
    upgrade = (
        b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    await loop.sock_sendall(raw, upgrade)
    await loop.sock_recv(raw, 1024)
    join = json.dumps({"type": "join", "id": 1, "version": 1, "room": "r", "token": token}).encode()
    await loop.sock_sendall(raw, bytes([0x81, 0xFE]) + len(join).to_bytes(2, "big") + bytes(4) + join)
    await loop.sock_recv(raw, 10)
    return raw


def test_client_that_does_not_read_is_dropped_and_holds_nobody_up(site: Open) -> None:
    async def main() -> None:
        async with site(signalling=SignallingSettings(queue_messages=16, resume_seconds=0.05)) as s:
            healthy = await s.doctor()
            deaf = await join_by_hand(tuple(s.server.http_ports[0]), s.token())
            live = s.server.rooms["r"]
            while not s.server.stats.dropped_clients["too-slow"]:
                live.set_recording("alarm", None, "x" * 50_000)
                assert (await healthy.ask("ping"))["type"] == "pong"
            assert (await healthy.until("participant-left"))["reason"] == "disconnected"
            deaf.close()

    run(main())


def test_what_waits_for_a_client_is_limited_in_bytes_too(site: Open) -> None:
    async def main() -> None:
        async with site(signalling=SignallingSettings(queue_messages=10_000, resume_seconds=0.05)) as s:
            deaf = await join_by_hand(tuple(s.server.http_ports[0]), s.token())
            live = s.server.rooms["r"]
            for _ in range(QUEUE_BYTES // 500_000 + 1):
                assert s.server.stats.dropped_clients["too-slow"] == 0
                live.set_recording("alarm", None, "x" * 500_000)
            assert s.server.stats.dropped_clients["too-slow"] == 1
            deaf.close()

    run(main())


def test_a_participant_that_the_data_plane_has_no_room_for(site: Open) -> None:
    async def main() -> None:
        async with site() as s:
            cart = await s.doctor(role="cart")
            await cart.ask("offer", sdp=make_offer(video(ssrc=9)), publish=[{"mid": "0", "source": "camera"}])
            live = s.server.rooms["r"]
            transport = live.room.participants[cart.joined["participant"]].transport
            assert transport is not None
            live.plane_events((PlaneEvent(EventKind.REFUSED, transport.plane_id, 0, b"too many peers", 0),))
            assert await cart.closed() == CloseCode.GOING_AWAY
            assert (cart.news[-1]["code"], cart.news[-1]["fatal"]) == ("room-full", True)

    run(main())


def test_recording_by_policy_off(site: Open) -> None:
    async def main() -> None:
        async with site(recording=RecordingSettings(policy="off")) as s:
            doctor = await s.doctor()
            assert (await doctor.ask("record", on=True))["code"] == "forbidden"
            assert (await doctor.ask("record", on=False))["type"] == "ok"

    run(main())


def test_room_full(site: Open) -> None:
    async def main() -> None:
        async with site(rooms=RoomSettings(max_rooms=1, max_participants=1)) as s:
            first = await s.doctor()
            second = await s.connect()
            assert (await second.join(s.token()))["code"] == "room-full"
            assert (await second.join(s.token(room="q"), room="q"))["code"] == "overloaded"
            assert (await first.ask("ping"))["type"] == "pong"

    run(main())


def test_too_many_connections(site: Open) -> None:
    async def main() -> None:
        async with site(signalling=SignallingSettings(connections=1)) as s:
            first = await s.doctor()
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await s.connect()
            assert refused.value.status == 503
            assert (await first.ask("ping"))["type"] == "pong"  # nor did it go meanwhile

    run(main())


def test_who_does_not_join_makes_room_for_others(site: Open) -> None:
    async def main() -> None:
        async with site(signalling=SignallingSettings(connections=8)) as s:
            inside = await s.doctor()
            strangers = [await s.connect() for _ in range(6)]
            late = await s.doctor("Late")
            assert late.joined["type"] == "joined"
            assert [await one.closed() for one in strangers[:5]] == [CloseCode.TIMEOUT] * 5
            assert strangers[0].news[-1]["code"] == "timeout"
            assert s.server.stats.dropped_clients["stranger"] == 5
            assert (await inside.ask("ping"))["type"] == "pong"

    run(main())


def test_plain_request(site: Open) -> None:
    async def main() -> None:
        async with site() as s, s.http.get(f"{s.url}/ws") as response:
            assert response.status == 400

    run(main())


def test_bucket() -> None:
    bucket = Bucket(rate=2, burst=3, now_us=0)
    assert [bucket.take(0) for _ in range(4)] == [True, True, True, False]
    assert bucket.take(500_000)
    assert not bucket.take(500_000)
    assert [bucket.take(100_000_000) for _ in range(4)] == [True, True, True, False]


def test_error_codes_are_all_declared() -> None:
    declared = set(protocol.ErrorCode.__args__)  # type: ignore[attr-defined]
    from mediaserver import signalling

    assert set(signalling._ROOM_ERRORS.values()) <= declared
    assert {code for _, code, _ in signalling._GONE.values()} <= declared


def test_a_crowd_is_told_together_of_who_comes_and_goes(site: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the others once, in order, and nobody of those who stand in the list that it got itself."""
    monkeypatch.setattr(live_room, "CROWD", 2)

    async def main() -> None:
        async with site() as s:
            clients = [await s.connect() for _ in range(8)]
            await asyncio.gather(*(client.join(s.token()) for client in clients))
            everybody = {client.joined["participant"] for client in clients}
            await clients[0].ask("leave")
            rest, gone = clients[1:], clients[0].joined["participant"]
            for client in rest:
                await client.ask("participants")  # the answer comes after what has happened before
                known = [one["id"] for one in client.joined["participants"]]
                told = [news["participant"] for news in client.news if news["type"] == "participant-joined"]
                assert sorted([*known, *(one["id"] for one in told)]) == sorted(everybody)
                assert [n["participant"] for n in client.news if n["type"] == "participant-left"] == [gone]
            late = await s.connect()
            await late.join(s.token())
            listed = await rest[0].ask("participants")
            assert late.joined["participant"] in {one["id"] for one in listed["participants"]}
            assert [n["participant"]["id"] for n in rest[0].news if n["type"] == "participant-joined"][-1] == (
                late.joined["participant"]
            )

    run(main())
