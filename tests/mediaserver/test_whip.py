"""WHIP and WHEP as HTTP: what RFC 9725 asks of each method, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection

from mediaserver.settings import HttpSettings, IceServerSettings, RoomSettings, SignallingSettings
from mediaserver.whip import Fragment
from tests.mediaserver.conftest import Open, Site, run

SDP = {"Content-Type": "application/sdp"}
FRAGMENT = {"Content-Type": "application/trickle-ice-sdpfrag"}


async def offer(direction: str = "sendonly", *kinds: str) -> str:
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    for kind in kinds or ("video", "audio"):
        peer.addTransceiver(kind, direction=direction)
    await peer.setLocalDescription(await peer.createOffer())
    sdp: str = peer.localDescription.sdp
    await peer.close()
    return sdp


async def create(s: Site, path: str = "/whip/r", role: str = "cart") -> Any:
    sdp = await offer("sendonly" if "whip" in path else "recvonly")
    response = await s.http.post(s.url + path, data=sdp, headers=s.bearer(role) | SDP)
    assert response.status == 201, await response.text()
    return response


def problem(body: dict[str, Any], status: int) -> str:
    assert body["status"] == status
    assert body["title"]
    detail: str = body["detail"]
    return detail


def test_created(site: Open) -> None:
    async def main() -> None:
        servers = (
            IceServerSettings(urls=["stun:stun.example.org"]),
            IceServerSettings(urls=["turn:t.example.org"], username="u", credential="c"),
        )
        async with site(signalling=SignallingSettings(ice_servers=servers)) as s:
            response = await create(s)
            assert response.content_type == "application/sdp"
            assert re.fullmatch(r"/whip/r/resources/[\w-]{24}", response.headers["Location"])
            assert re.fullmatch(r'"[^"]+"', response.headers["ETag"])
            assert response.headers["Accept-Patch"] == "application/trickle-ice-sdpfrag"
            assert response.headers.getall("Link") == [
                '<stun:stun.example.org>; rel="ice-server"',
                '<turn:t.example.org>; rel="ice-server"; username="u"; credential="c"; credential-type="password"',
            ]
            text = await response.text()
            assert "a=ice-lite" in text
            assert "a=setup:passive" in text
            assert "127.0.0.1" in text
            assert [track.source for track in s.server.rooms["r"].tracks] == ["camera", "microphone"]

    run(main())


def test_the_others_of_a_room_do_not_learn_its_address(site: Open) -> None:
    async def main() -> None:
        async with site() as s:
            doctor = await s.doctor()
            response = await create(s)
            (cart,) = {track.participant for track in s.server.rooms["r"].tracks}
            told = await doctor.until("track-added")
            assert told["track"]["participant"] == cart
            headers = s.bearer("doctor") | FRAGMENT | {"If-Match": "*"}
            for name in (cart, cart.removeprefix("p-"), response.headers["ETag"].strip('"')):
                async with s.http.delete(f"{s.url}/whip/r/resources/{name}", headers=headers) as refused:
                    assert refused.status == 404
                body = "a=ice-ufrag:evil\r\na=ice-pwd:0123456789012345678901\r\n"
                async with s.http.patch(f"{s.url}/whip/r/resources/{name}", data=body, headers=headers) as refused:
                    assert refused.status == 404
            assert cart in s.server.rooms["r"].members
            assert cart not in response.headers["Location"]

    run(main())


@pytest.mark.parametrize(
    ("query", "kinds", "sources"),
    [
        ("?source=ultrasound", ("video", "audio"), ["ultrasound", "microphone"]),
        ("?source=ultrasound,stethoscope", ("video", "audio"), ["ultrasound", "stethoscope"]),
        ("?source=ultrasound&source=stethoscope", ("video", "audio"), ["ultrasound", "stethoscope"]),
        ("?source=stethoscope", ("audio",), ["stethoscope"]),
        ("", ("video",), ["camera"]),
    ],
)
def test_sources(site: Open, query: str, kinds: tuple[str, ...], sources: list[str]) -> None:
    async def main() -> None:
        async with site() as s:
            sdp = await offer("sendonly", *kinds)
            async with s.http.post(f"{s.url}/whip/r{query}", data=sdp, headers=s.bearer("cart") | SDP) as response:
                assert response.status == 201
            assert [track.source for track in s.server.rooms["r"].tracks] == sources

    run(main())


@pytest.mark.parametrize(
    ("path", "role", "room", "status"),
    [
        ("/whip/r", None, "r", 401),
        ("/whip/r", "observer", "r", 403),
        ("/whip/r", "cart", "other", 403),
        ("/whip/-r", "cart", "r", 403),
        ("/whep/r", None, "r", 401),
        ("/whep/r", "archivist", "r", 403),
        ("/whep/r/camera", "cart", "other", 403),
        ("/whep/r/xray", "observer", "r", 404),
        ("/whip/r?source=xray", "cart", "r", 404),
        ("/whip/r?source=camera&source=screen", "cart", "r", 400),
    ],
)
def test_refused(site: Open, path: str, role: str | None, room: str, status: int) -> None:
    async def main() -> None:
        async with site() as s:
            headers = SDP | (s.bearer(role, room) if role else {})
            async with s.http.post(s.url + path, data=await offer(), headers=headers) as response:
                assert response.status == status
                assert response.content_type == "application/problem+json"
                assert problem(await response.json(content_type=None), status)
                assert ("WWW-Authenticate" in response.headers) == (status == 401)
                assert response.headers["Access-Control-Allow-Origin"] == "*"
            assert not s.server.rooms

    run(main())


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"v=0", {"Content-Type": "text/plain"}, 415),
        (b"v=0", {}, 415),
        (b"", SDP, 400),
        (b"rubbish", SDP, 400),
        (b"\xff\xfe", SDP, 400),
        (b"x" * 140_000, SDP, 413),
    ],
)
def test_bodies_that_are_no_offer(site: Open, body: bytes, headers: dict[str, str], status: int) -> None:
    async def main() -> None:
        async with site() as s:
            async with s.http.post(f"{s.url}/whip/r", data=body, headers=s.bearer("cart") | headers) as response:
                assert response.status == status, await response.text()
                assert problem(await response.json(content_type=None), status)
                if status == 415:
                    assert response.headers["Accept-Post"] == "application/sdp"
            assert not s.server.rooms, "an offer that is refused leaves nobody behind"

    run(main())


def test_offer_that_can_not_be_served_names_the_line(site: Open) -> None:
    async def main() -> None:
        async with site() as s:
            sdp = re.sub(r"a=ice-pwd:\S+", "a=ice-pwd:short", await offer())
            async with s.http.post(f"{s.url}/whip/r", data=sdp, headers=s.bearer("cart") | SDP) as response:
                body = await response.json(content_type=None)
                assert response.status in (400, 422)
                assert "ice-pwd" in body["line"]

    run(main())


def test_delete(site: Open) -> None:
    async def main() -> None:
        async with site() as s:
            location = s.url + (await create(s)).headers["Location"]
            for headers, status in (({}, 401), (s.bearer("observer"), 403), (s.bearer("cart", "q"), 403)):
                assert (await s.http.delete(location, headers=headers)).status == status
            assert (await s.http.delete(location, headers=s.bearer("cart"))).status == 200
            assert (await s.http.delete(location, headers=s.bearer("cart"))).status == 404
            assert not s.server.rooms

    run(main())


def test_resource_of_the_other_kind_or_room(site: Open) -> None:
    async def main() -> None:
        async with site() as s:
            location = (await create(s)).headers["Location"]
            elsewhere = location.replace("/whip/", "/whep/")
            assert (await s.http.delete(s.url + elsewhere, headers=s.bearer("cart"))).status == 404
            other_room = location.replace("/r/", "/q/")
            assert (await s.http.delete(s.url + other_room, headers=s.bearer("cart", "q"))).status == 404

    run(main())


def test_trickle(site: Open) -> None:
    async def main() -> None:
        async with site() as s:
            created = await create(s)
            location, etag = s.url + created.headers["Location"], created.headers["ETag"]
            candidate = "a=mid:0\r\na=candidate:1 1 UDP 2130706431 192.0.2.9 5000 typ host\r\na=end-of-candidates\r\n"

            async def patch(body: str, **headers: str) -> Any:
                merged = s.bearer("cart") | FRAGMENT | {name.replace("_", "-"): text for name, text in headers.items()}
                return await s.http.patch(location, data=body, headers=merged)

            good = await patch(candidate, If_Match=etag)
            assert good.status == 204
            assert good.headers["ETag"] == etag
            assert (await patch(candidate)).status == 428
            assert (await patch(candidate, If_Match='"stale"')).status == 412
            wrong = await patch(candidate, If_Match=etag, Content_Type="application/sdp")
            assert wrong.status == 415
            assert wrong.headers["Accept-Patch"] == FRAGMENT["Content-Type"]
            for bad in ("rubbish", "a=candidate:1 1 UDP\r\n", "a=b\r\n" * 300):
                assert (await patch(bad, If_Match=etag)).status == 400, bad
            assert (await patch("a=ice-ufrag:abcd\r\na=ice-pwd:" + "p" * 22, If_Match=etag)).status == 400

    run(main())


def test_ice_restart(site: Open) -> None:
    async def main() -> None:
        async with site() as s:
            created = await create(s)
            location, etag = s.url + created.headers["Location"], created.headers["ETag"]
            before = re.search(r"a=ice-ufrag:(\S+)", await created.text())
            fragment = "a=ice-ufrag:abcd\r\na=ice-pwd:" + "p" * 22 + "\r\n"
            headers = s.bearer("cart") | FRAGMENT | {"If-Match": "*"}
            restarted = await s.http.patch(location, data=fragment, headers=headers)
            assert restarted.status == 200
            assert restarted.content_type == FRAGMENT["Content-Type"]
            assert restarted.headers["ETag"] != etag
            text = await restarted.text()
            after = re.search(r"a=ice-ufrag:(\S+)", text)
            assert before is not None
            assert after is not None
            assert after[1] != before[1]
            assert "a=candidate:" in text
            headers["If-Match"] = etag
            assert (await s.http.patch(location, data="", headers=headers)).status == 412

    run(main())


@pytest.mark.parametrize("path", ["/whip/r", "/whep/r", "/whep/r/camera"])
def test_options_of_an_endpoint(site: Open, path: str) -> None:
    async def main() -> None:
        async with site() as s:
            preflight = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}
            async with s.http.options(s.url + path, headers=preflight) as response:
                assert response.status == 204
                assert response.headers["Accept-Post"] == "application/sdp"
                assert response.headers["Access-Control-Allow-Origin"] == "*"
                assert "POST" in response.headers["Access-Control-Allow-Methods"]
                assert "Authorization" in response.headers["Access-Control-Allow-Headers"]
                assert "Location" in response.headers["Access-Control-Expose-Headers"]
            async with s.http.get(s.url + path) as response:
                assert response.status == 405
                assert "POST" in response.headers["Allow"]

    run(main())


def test_cors_for_some_origins_only(site: Open) -> None:
    async def main() -> None:
        settings = HttpSettings(address="127.0.0.1:0", cors_origins=("https://clinic.example",))
        async with site(http=settings) as s:
            for origin, allowed in (("https://clinic.example", "https://clinic.example"), ("https://evil", None)):
                async with s.http.options(f"{s.url}/whip/r", headers={"Origin": origin}) as response:
                    assert response.headers.get("Access-Control-Allow-Origin") == allowed

    run(main())


def test_full(site: Open) -> None:
    async def main() -> None:
        async with site(rooms=RoomSettings(max_rooms=1, max_participants=1)) as s:
            await create(s)
            for path in ("/whip/r", "/whip/q"):
                room = path[-1]
                headers = s.bearer("cart", room) | SDP
                async with s.http.post(s.url + path, data=await offer(), headers=headers) as response:
                    assert response.status == 503
                    assert response.headers["Retry-After"]

    run(main())


def test_viewer_may_come_before_the_publisher(site: Open) -> None:
    async def main() -> None:
        async with site() as s:
            await create(s, "/whep/r", "observer")
            assert [person.hidden for person in s.server.rooms["r"].participants] == [True]
            doctor = await s.doctor()
            assert len(doctor.joined["participants"]) == 1

    run(main())


def test_fragment() -> None:
    fragment = Fragment("a=ice-ufrag:u\r\na=ice-pwd:p\r\nm=audio 9 X 0\r\na=mid:1\r\na=candidate:x y\r\n\r\n")
    assert (fragment.ufrag, fragment.pwd, fragment.candidates) == ("u", "p", [("candidate:x y", "1")])
