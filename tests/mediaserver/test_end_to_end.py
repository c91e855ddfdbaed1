"""A picture and a sound from an aiortc publisher through the server to aiortc viewers, by every way in."""

from __future__ import annotations

import asyncio
from typing import Any

from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, MediaStreamTrack, VideoStreamTrack

from mediaserver.protocol import CloseCode
from mediaserver.settings import MediaSettings
from tests.mediaserver.conftest import Client, Open, Site, run

SDP = {"Content-Type": "application/sdp"}


def new_peer() -> RTCPeerConnection:
    return RTCPeerConnection(RTCConfiguration(iceServers=[]))


async def describe(peer: RTCPeerConnection) -> str:
    await peer.setLocalDescription(await peer.createOffer())
    return peer.localDescription.sdp


async def publish(client: Client, sources: dict[str, MediaStreamTrack]) -> tuple[RTCPeerConnection, dict[str, str]]:
    """A peer connection that sends, and source -> track id."""
    peer = new_peer()
    lines = [(source, peer.addTransceiver(track, direction="sendonly")) for source, track in sources.items()]
    sdp = await describe(peer)
    wish = [{"mid": line.mid, "source": source} for source, line in lines]
    answer = await client.ask("offer", sdp=sdp, publish=wish)
    assert answer["type"] == "answer", answer
    await peer.setRemoteDescription(RTCSessionDescription(answer["sdp"], "answer"))
    bound = {line["mid"]: line["track"] for line in answer["bound"]}
    return peer, {source: bound[line.mid] for source, line in lines}


def received(peer: RTCPeerConnection) -> list[MediaStreamTrack]:
    tracks: list[MediaStreamTrack] = []
    peer.on("track", tracks.append)
    return tracks


async def view(client: Client, tracks: list[dict[str, Any]]) -> tuple[RTCPeerConnection, list[MediaStreamTrack]]:
    peer = new_peer()
    arrived = received(peer)
    lines = [(track, peer.addTransceiver(track["kind"], direction="recvonly")) for track in tracks]
    sdp = await describe(peer)
    wish = [{"mid": line.mid, "track": track["id"]} for track, line in lines]
    answer = await client.ask("offer", sdp=sdp, subscribe=wish)
    assert answer["type"] == "answer", answer
    assert answer["refused"] == []
    await peer.setRemoteDescription(RTCSessionDescription(answer["sdp"], "answer"))
    return peer, arrived


async def frames(tracks: list[MediaStreamTrack], count: int) -> None:
    """Decode that many frames of each track."""

    async def of_one(track: MediaStreamTrack) -> None:
        for _ in range(count):
            await track.recv()

    await asyncio.gather(*(of_one(track) for track in tracks))


async def by_whip(site: Site, path: str, role: str, peer: RTCPeerConnection) -> str:
    """Publish or view; the resource's address."""
    sdp = await describe(peer)
    async with site.http.post(site.url + path, data=sdp, headers=site.bearer(role) | SDP) as response:
        assert response.status == 201, await response.text()
        assert response.content_type == "application/sdp"
        location = response.headers["Location"]
        await peer.setRemoteDescription(RTCSessionDescription(await response.text(), "answer"))
    return site.url + location


def test_websocket_publisher_and_viewer(site: Open) -> None:
    async def main() -> None:
        async with site() as s:
            cart, doctor = await s.doctor("Cart", "cart"), await s.doctor("Doctor")
            sender, ids = await publish(cart, {"camera": VideoStreamTrack(), "microphone": AudioStreamTrack()})
            added = [(await doctor.until("track-added"))["track"] for _ in range(2)]
            assert {track["id"]: track["source"] for track in added} == {track: source for source, track in ids.items()}
            receiver, tracks = await view(doctor, added)
            await frames(tracks, 5)
            live = await doctor.until(lambda m: m["type"] == "track-changed" and m["track"]["width"] > 0)
            assert (live["track"]["width"], live["track"]["height"]) == (640, 480)
            await doctor.until(lambda m: m == {"type": "transport", "state": "connected"})
            text = s.server.metrics.text().decode()
            assert 'mediaserver_participants{via="websocket"} 2.0' in text
            assert 'mediaserver_tracks{source="camera"} 1.0' in text
            assert "mediaserver_first_frame_seconds_count 2.0" in text
            await receiver.close()
            await sender.close()

    run(main())


def test_whip_publisher_and_whep_viewers(site: Open) -> None:
    async def main() -> None:
        async with site() as s:
            watcher = await s.doctor("Doctor")
            sender = new_peer()
            sender.addTrack(VideoStreamTrack())
            sender.addTrack(AudioStreamTrack())
            published = await by_whip(s, "/whip/r?source=ultrasound&label=probe", "cart", sender)
            added = [(await watcher.until("track-added"))["track"] for _ in range(2)]
            assert {(track["source"], track["label"]) for track in added} == {
                ("ultrasound", "probe"),
                ("microphone", "probe"),
            }
            everything, one = new_peer(), new_peer()
            all_tracks, one_track = received(everything), received(one)
            everything.addTransceiver("video", direction="recvonly")
            everything.addTransceiver("audio", direction="recvonly")
            one.addTransceiver("video", direction="recvonly")
            await by_whip(s, "/whep/r", "observer", everything)
            viewed = await by_whip(s, "/whep/r/ultrasound", "observer", one)
            await frames(all_tracks + one_track, 5)
            assert s.server.whip.count == {"whip": 1, "whep": 2}
            people = await watcher.ask("participants")
            assert len(people["participants"]) == 2, "viewers by WHEP are not shown"
            for resource, role in ((viewed, "observer"), (published, "cart")):
                async with s.http.delete(resource, headers=s.bearer(role)) as response:
                    assert response.status == 200
                async with s.http.delete(resource, headers=s.bearer(role)) as response:
                    assert response.status == 404
            left = {(await watcher.until("track-removed"))["track"] for _ in range(2)}
            assert left == {track["id"] for track in added}
            assert (await watcher.until("participant-left"))["reason"] == "left"
            for peer in (sender, everything, one):
                await peer.close()

    run(main())


def test_media_goes_on_while_signalling_is_away(site: Open) -> None:
    async def main() -> None:
        async with site() as s:
            cart, doctor = await s.doctor("Cart", "cart"), await s.doctor("Doctor")
            sender, _ = await publish(cart, {"camera": VideoStreamTrack()})
            receiver, tracks = await view(doctor, [(await doctor.until("track-added"))["track"]])
            await frames(tracks, 2)
            await cart.socket.close()
            await doctor.socket.close()
            await frames(tracks, 10)
            again = await s.connect()
            joined = await again.join(s.token("cart"), resume=cart.joined["resume"])
            assert joined["resumed"]
            assert joined["participant"] == cart.joined["participant"]
            assert [track["participant"] for track in joined["tracks"]] == [joined["participant"]]
            await frames(tracks, 5)
            await receiver.close()
            await sender.close()

    run(main())


def test_unsubscribe_stops_the_bytes_and_subscribe_brings_them_back(site: Open) -> None:
    async def main() -> None:
        async with site() as s:
            cart, doctor = await s.doctor("Cart", "cart"), await s.doctor("Doctor")
            sender, ids = await publish(cart, {"camera": VideoStreamTrack()})
            receiver, tracks = await view(doctor, [(await doctor.until("track-added"))["track"]])
            await frames(tracks, 2)
            assert (await doctor.ask("unsubscribe", track=ids["camera"]))["type"] == "ok"
            assert (await doctor.ask("subscribe", track=ids["camera"]))["type"] == "ok"
            await doctor.send("keyframe", track=ids["camera"])
            await frames(tracks, 5)
            await receiver.close()
            await sender.close()

    run(main())


async def go_silent(peer: RTCPeerConnection) -> None:
    """What a pulled cable looks like: no more packets, no goodbye."""
    for transport in {sender.transport.transport for sender in peer.getSenders()}:
        await transport.stop()


def test_who_falls_silent_is_removed(site: Open) -> None:
    async def main() -> None:
        media = MediaSettings(udp=":0", workers=1, consent_seconds=0.5)
        async with site(media=media) as s:
            watcher = await s.doctor("Doctor")
            cart = await s.doctor("Cart", "cart")
            by_socket, ids = await publish(cart, {"camera": VideoStreamTrack()})
            whip = new_peer()
            whip.addTrack(VideoStreamTrack())
            resource = await by_whip(s, "/whip/r?source=screen", "cart", whip)
            await cart.until(lambda m: m["type"] == "track-changed" and m["track"]["live"])
            assert len(s.server.rooms["r"].members) == 3
            await go_silent(by_socket)
            await go_silent(whip)
            left = [await watcher.until("participant-left") for _ in range(2)]
            assert {message["reason"] for message in left} == {"silent"}
            assert ids["camera"] in {message["track"] for message in watcher.news if message["type"] == "track-removed"}
            assert await cart.closed() == CloseCode.TIMEOUT
            assert (await s.http.delete(resource, headers=s.bearer("cart"))).status == 404
            assert [person.name for person in s.server.rooms["r"].participants] == ["Doctor"]
            assert 'mediaserver_leaves_total{reason="silent"} 2.0' in s.server.metrics.text().decode()
            await by_socket.close()
            await whip.close()

    run(main())


def test_who_never_connects_is_removed(site: Open) -> None:
    async def main() -> None:
        media = MediaSettings(udp=":0", workers=1, connect_seconds=0.2)
        async with site(media=media) as s:
            watcher = await s.doctor("Doctor")
            peer = new_peer()
            peer.addTrack(VideoStreamTrack())
            sdp = await describe(peer)
            async with s.http.post(f"{s.url}/whip/r", data=sdp, headers=s.bearer("cart") | SDP) as response:
                assert response.status == 201
            assert (await watcher.until("participant-left"))["reason"] == "never-connected"
            assert s.server.whip.count == {"whip": 0, "whep": 0}
            assert (await watcher.ask("ping"))["type"] == "pong", "who has not offered media may wait for some"
            await peer.close()

    run(main())


def test_coming_and_going_leaves_nothing_behind(site: Open) -> None:
    async def main() -> None:
        async with site() as s:
            stays = await s.doctor("Stays")
            peer = new_peer()
            peer.addTrack(VideoStreamTrack())
            sdp = await describe(peer)
            before = len(s.server.rooms.ids)
            for _ in range(100):
                doctor = await s.doctor("Comes and goes")
                assert (await doctor.ask("leave"))["type"] == "ok"
                await doctor.closed()
                async with s.http.post(f"{s.url}/whip/r", data=sdp, headers=s.bearer("cart") | SDP) as response:
                    location = response.headers["Location"]
                assert (await s.http.delete(s.url + location, headers=s.bearer("cart"))).status == 200
            stays.news.clear()
            assert (await stays.ask("ping"))["type"] == "pong"
            while len(s.server.rooms.ids) > before:
                assert (await stays.ask("ping"))["type"] == "pong"
            assert len(s.server.rooms["r"].members) == 1
            assert s.server.stats.sockets == 1
            assert s.server.whip.count == {"whip": 0, "whep": 0}
            assert len(s.server.signalling._sessions) == 1
            counters = next(iter(s.server.rooms.workers)).worker.counters()
            assert counters["packets_held"] == 0
            await peer.close()

    run(main())


def test_another_peer_connection_on_the_same_socket(site: Open) -> None:
    async def main() -> None:
        async with site() as s:
            cart, doctor = await s.doctor("Cart", "cart"), await s.doctor("Doctor")
            first, ids = await publish(cart, {"camera": VideoStreamTrack()})
            await doctor.until(lambda m: m["type"] == "track-changed" and m["track"]["live"])
            await first.close()
            assert (await doctor.until("track-removed"))["track"] == ids["camera"]
            await cart.until(lambda m: m == {"type": "transport", "state": "closed"})
            second, ids = await publish(cart, {"camera": VideoStreamTrack()})
            added = [(await doctor.until("track-added"))["track"] for _ in range(2)][-1]
            assert added["id"] == ids["camera"]
            receiver, tracks = await view(doctor, [added])
            await frames(tracks, 3)
            assert len((await doctor.ask("participants"))["participants"]) == 2
            await receiver.close()
            await second.close()

    run(main())


def test_a_publisher_by_whip_goes_with_its_peer_connection(site: Open) -> None:
    async def main() -> None:
        async with site() as s:
            doctor = await s.doctor("Doctor")
            sender = new_peer()
            sender.addTrack(VideoStreamTrack())
            resource = await by_whip(s, "/whip/r?source=camera", "cart", sender)
            await doctor.until(lambda m: m["type"] == "track-changed" and m["track"]["live"])
            await sender.close()
            assert (await doctor.until("participant-left"))["reason"] == "transport-closed"
            async with s.http.delete(resource, headers=s.bearer("cart")) as response:
                assert response.status == 404

    run(main())
