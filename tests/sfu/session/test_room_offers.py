"""Offers to a room: what is agreed, what the data plane is told, and that a bad one leaves everything as it was."""

from __future__ import annotations

from typing import Any

import pytest

from mediaserver.codecs.payload import Codec
from mediaserver.sfu.session.events import PayloadsChanged, TrackAdded, TrackChanged, TrackRemoved, TransportChanged
from mediaserver.sfu.session.model import (
    Kind,
    Publication,
    PublishAll,
    Right,
    Role,
    Source,
    SubscribeAll,
    TransportState,
)
from mediaserver.sfu.session.planes import FixedSite
from mediaserver.sfu.session.room import Negotiated, OfferError, Room, RoomError
from mediaserver.sfu.session.settings import RoomPolicy, SessionSettings
from mediaserver.sfu.wire.packet import ExtKind
from mediaserver.sfu.wire.sdp import Description, parse
from tests.sfu.session.harness import CANDIDATES, RecordingPlane, identity, join, make_room
from tests.sfu.session.offers import H264, OPUS, VP8, Line, audio, make_offer, video

CAMERA = Publication(Source.CAMERA)
ULTRASOUND = Publication(Source.ULTRASOUND, "probe 1")
MICROPHONE = Publication(Source.MICROPHONE)


@pytest.fixture
def room() -> Room:
    return make_room()[0]


@pytest.fixture
def plane(room: Room) -> RecordingPlane:
    join(room, "cart", "doctor", "nurse")
    plane = room._books.home.plane
    assert isinstance(plane, RecordingPlane)
    return plane


def offer(room: Room, name: str, sdp: str, **roles: Any) -> Negotiated:
    return room.offer(name, sdp, **{"publish": {}, "subscribe": {}, "now": 0} | roles)


def cart(room: Room, *lines: Line, publish: Any = None, **more: Any) -> Negotiated:
    publish = publish or {"0": CAMERA, "1": ULTRASOUND, "2": MICROPHONE}
    lines = lines or (video(ssrc=10), video(ssrc=20), audio(ssrc=30))
    return offer(room, "cart", make_offer(*lines, **more), publish=publish)


def answered(negotiated: Negotiated) -> Description:
    return parse(negotiated.answer)


# Publishing


def test_a_cart_publishes(room: Room, plane: RecordingPlane) -> None:
    done = cart(room)
    camera, ultrasound, microphone = (room.tracks[done.bound[mid]] for mid in "012")
    assert [event.track for event in done.events if isinstance(event, TrackAdded)] == [
        camera.info,
        ultrasound.info,
        microphone.info,
    ]
    assert (ultrasound.source, ultrasound.kind, ultrasound.codec) == (Source.ULTRASOUND, Kind.VIDEO, "H264")
    assert ultrasound.info.label == "probe 1"
    assert not ultrasound.info.live

    [(peer, ufrag, pwd)] = plane.named("add_peer")
    assert peer == room.participants["cart"].transport.plane_id  # type: ignore[union-attr]
    tracks = plane.named("add_track")
    assert [track[:2] for track in tracks] == [(t.plane_id, peer) for t in (camera, ultrasound, microphone)]
    params = tracks[1][2]
    assert (params.mid, params.video, params.ssrcs, params.rtx_ssrcs) == ("1", True, (20,), (0,))
    [payload] = params.payloads
    assert (payload.payload_type, payload.codec, payload.rtx_type) == (98, Codec.CODEC_H264, 99)
    assert params.extensions == ((4, ExtKind.EXT_MID), (5, ExtKind.EXT_TWCC))

    text = answered(done)
    assert text.ice_lite
    assert text.bundle == ("0", "1", "2")
    for media in text.media:
        assert (media.direction, media.rtcp_mux, media.transport.setup) == ("recvonly", True, "passive")
        assert (media.transport.ufrag, media.transport.pwd) == (ufrag, pwd)
        assert media.transport.fingerprints == [("sha-256", identity().fingerprint)]
        assert [(c.address, c.port) for c in media.candidates] == list(CANDIDATES)
        assert media.candidates[0].priority > media.candidates[1].priority
    assert list(text.media[1].formats) == [98, 99]
    assert list(text.media[0].formats) == [96, 97]


def test_a_line_without_a_source_is_not_received(room: Room, plane: RecordingPlane) -> None:
    done = cart(room, publish={"1": ULTRASOUND})
    assert set(done.bound) == {"1"}
    assert [media.direction for media in answered(done).media] == ["inactive", "recvonly", "inactive"]
    assert set(done.refused) == {"0", "2"}


def test_whip_names_sources_by_kind(room: Room, plane: RecordingPlane) -> None:
    done = cart(room, video(ssrc=1), audio(ssrc=2), publish=PublishAll(video=Source.ULTRASOUND, audio=None, label="x"))
    [track] = room.tracks.values()
    assert (track.source, track.publication.label) == (Source.ULTRASOUND, "x")
    assert [media.direction for media in answered(done).media] == ["recvonly", "inactive"]


def test_what_is_no_medium_or_no_codec_of_ours_is_rejected(room: Room, plane: RecordingPlane) -> None:
    data = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:2\r\na=sctp-port:5000\r\n"
    text = make_offer(video(), audio("sendonly", "PCMA/8000")).replace("BUNDLE 0 1", "BUNDLE 0 1 2") + data
    done = offer(room, "cart", text, publish={"0": CAMERA, "1": MICROPHONE})
    assert [media.port for media in answered(done).media] == [40000, 0, 0]
    assert answered(done).bundle == ("0",)
    assert "m=application 0 UDP/DTLS/SCTP webrtc-datachannel" in done.answer
    assert done.refused == {"1": "none of the offered codecs is carried"}


def test_a_line_outside_the_bundle_is_rejected(room: Room, plane: RecordingPlane) -> None:
    text = make_offer(video(), video()).replace("BUNDLE 0 1", "BUNDLE 1")
    done = offer(room, "cart", text, publish={"0": CAMERA, "1": ULTRASOUND})
    assert set(done.bound) == {"1"}
    assert done.refused == {"0": "not in the BUNDLE group"}
    assert answered(done).media[1].candidates


def test_one_line_needs_neither_bundle_nor_mid(room: Room, plane: RecordingPlane) -> None:
    text = make_offer(video(ssrc=7)).replace("a=group:BUNDLE 0\r\n", "").replace("a=mid:0\r\n", "")
    done = offer(room, "cart", text, publish=PublishAll())
    assert len(done.bound) == 1
    assert "a=mid" not in done.answer
    assert "BUNDLE" not in done.answer
    assert answered(done).media[0].direction == "recvonly"


def test_a_client_that_waits_for_our_hello(room: Room, plane: RecordingPlane) -> None:
    """FFmpeg's whip muxer, unless told otherwise, is the DTLS server."""
    done = cart(room, setup="passive")
    assert answered(done).media[0].transport.setup == "active"


# Receiving


def receive(room: Room, name: str, *lines: Line, **roles: Any) -> Negotiated:
    return offer(room, name, make_offer(*lines), **roles)


def test_a_doctor_receives(room: Room, plane: RecordingPlane) -> None:
    bound = cart(room).bound
    plane.take()
    wanted = {"0": bound["1"], "1": bound["2"]}
    done = receive(room, "doctor", video("recvonly", VP8, VP8, H264), audio("recvonly"), subscribe=wanted)
    assert done.bound == wanted
    picture, sound = plane.named("add_leg")
    transport = room.participants["doctor"].transport
    assert transport is not None
    assert picture[1:3] == (room.tracks[bound["1"]].plane_id, transport.plane_id)
    params = picture[3]
    assert [(p.incoming, p.outgoing, p.rtx_type) for p in params.payloads] == [(98, 100, 101)]
    assert (params.mid, params.cname, params.playout_delay) == ("0", "cart", (0, 0))
    assert params.rtx_ssrc not in (0, params.ssrc)
    assert sound[3].rtx_ssrc == 0
    assert sound[3].playout_delay is None

    video_line, audio_line = answered(done).media
    assert video_line.direction == "sendonly"
    assert list(video_line.formats) == [100, 101]
    assert video_line.msids == [f"cart {bound['1']}"]
    assert video_line.primary_ssrcs() == [params.ssrc]
    assert video_line.rtx_ssrc(params.ssrc) == params.rtx_ssrc
    assert video_line.ssrcs[params.ssrc] == {"cname": "cart", "msid": f"cart {bound['1']}"}
    assert audio_line.primary_ssrcs() == [sound[3].ssrc]


def test_a_track_whose_codec_is_not_offered_is_told(room: Room, plane: RecordingPlane) -> None:
    bound = cart(room).bound
    done = receive(room, "doctor", video("recvonly", VP8), subscribe={"0": bound["1"]})
    assert done.bound == {}
    assert done.refused == {"0": "the track is H264, which is not offered here"}
    assert answered(done).media[0].direction == "inactive"


@pytest.mark.parametrize(
    ("mid", "track", "reason"), [("0", "t-none", "no such track"), ("1", None, "the track is video")]
)
def test_a_track_that_does_not_fit_is_told(
    room: Room, plane: RecordingPlane, mid: str, track: str | None, reason: str
) -> None:
    bound = cart(room).bound
    wanted = {mid: track or bound["0"]}
    done = receive(room, "doctor", video("recvonly"), audio("recvonly"), subscribe=wanted)
    assert reason in done.refused[mid]


def test_sending_and_receiving_on_one_line(room: Room, plane: RecordingPlane) -> None:
    bound = cart(room).bound
    done = receive(room, "doctor", video("sendrecv"), publish={"0": CAMERA}, subscribe={"0": bound["1"]})
    [media] = answered(done).media
    assert media.direction == "sendrecv"
    assert list(media.formats) == [96, 97, 98, 99]  # first what the doctor is to send


def test_a_viewer_of_everything(room: Room, plane: RecordingPlane) -> None:
    bound = cart(room).bound
    lines = [video("recvonly"), audio("recvonly"), video("recvonly"), video("recvonly")]
    done = receive(room, "doctor", *lines, subscribe=SubscribeAll())
    assert done.bound == {"0": bound["1"], "1": bound["2"], "2": bound["0"]}  # the examination first
    assert [media.direction for media in answered(done).media] == ["sendonly"] * 4
    assert all(not media.ssrcs for media in answered(done).media)  # known by their mid, whatever they carry

    added = offer(room, "nurse", make_offer(video(ssrc=5)), publish={"0": Publication(Source.SCREEN)})
    assert room.participants["doctor"].lines["3"].leg.track.id == added.bound["0"]  # type: ignore[union-attr]
    room.leave("nurse", "left", 1)
    assert room.participants["doctor"].lines["3"].leg is None


def test_a_viewer_without_the_mid_extension_is_told_the_sources(room: Room, plane: RecordingPlane) -> None:
    cart(room)
    text = without(make_offer(video("recvonly"), audio("recvonly")), "a=extmap:4")
    done = offer(room, "doctor", text, subscribe=SubscribeAll())
    legs = room.participants["doctor"].legs()
    assert [media.primary_ssrcs() for media in answered(done).media] == [[leg.params.ssrc] for leg in legs]


def test_a_viewer_of_everything_never_gets_its_own(room: Room, plane: RecordingPlane) -> None:
    cart(room)
    lines = [video("sendonly", ssrc=9), *[video("recvonly")] * 3]
    done = receive(room, "doctor", *lines, publish={"0": CAMERA}, subscribe=SubscribeAll())
    assert len(set(done.bound.values())) == 3
    tracks = {leg.track.participant for leg in room.participants["doctor"].legs()}
    assert tracks == {"cart"}


def test_a_viewer_of_one_source(room: Room, plane: RecordingPlane) -> None:
    bound = cart(room).bound
    wanted = SubscribeAll(frozenset({Source.CAMERA}))
    done = receive(room, "doctor", video("recvonly"), video("recvonly"), audio("recvonly"), subscribe=wanted)
    assert done.bound == {"0": bound["0"]}
    assert [media.direction for media in answered(done).media] == ["sendonly", "sendonly", "inactive"]


def test_a_cart_that_comes_back_fills_the_same_slots(room: Room, plane: RecordingPlane) -> None:
    cart(room)
    receive(room, "doctor", video("recvonly"), audio("recvonly"), subscribe=SubscribeAll())
    before = {line.mid: line.leg.params.ssrc for line in room.participants["doctor"].lines.values() if line.leg}
    room.leave("cart", "left", 1)
    assert room.participants["doctor"].legs() == []
    join(room, "cart", now=2)
    cart(room, session=2, ufrag="beef")
    after = {line.mid: line.leg.params.ssrc for line in room.participants["doctor"].lines.values() if line.leg}
    assert set(after) == set(before) == {"0", "1"}
    assert not set(after.values()) & set(before.values())  # never the same source again under one key


# Later offers


def test_what_a_later_offer_does_not_name_goes_on(room: Room, plane: RecordingPlane) -> None:
    bound = cart(room).bound
    plane.take()
    done = offer(room, "cart", make_offer(video(ssrc=10), video(ssrc=20), audio(ssrc=30)))
    assert done.bound == bound
    assert done.events == []
    assert plane.take() == []
    assert done.answer.split("\r\n")[1] == cart_origin(room, 1)


def cart_origin(room: Room, version: int) -> str:
    return f"o=- {room.participants['cart'].session_id} {version} IN IP4 127.0.0.1"


def test_tracks_are_added_and_removed(room: Room, plane: RecordingPlane) -> None:
    bound = cart(room).bound
    lines = [video("inactive", ssrc=10), video(ssrc=20), audio(ssrc=30), video(ssrc=40)]
    done = offer(room, "cart", make_offer(*lines), publish={"3": Publication(Source.SCREEN)})
    assert TrackRemoved(bound["0"], "cart") in done.events
    assert [event.track.source for event in done.events if isinstance(event, TrackAdded)] == [Source.SCREEN]
    assert {mid: done.bound[mid] for mid in "12"} == {mid: bound[mid] for mid in "12"}
    assert [media.direction for media in answered(done).media] == ["inactive", "recvonly", "recvonly", "recvonly"]

    stopped = [Line(port=0, direction="inactive"), *lines[1:]]
    done = offer(room, "cart", make_offer(*stopped))
    assert answered(done).media[0].port == 0
    assert answered(done).bundle == ("1", "2", "3")

    recycled = [video(ssrc=50, mid="4"), *lines[1:]]
    text = make_offer(*recycled)
    done = offer(room, "cart", text, publish={"4": CAMERA})
    assert set(done.bound) == {"1", "2", "3", "4"}
    assert done.bound["4"] != bound["0"]
    assert answered(done).media[0].mid == "4"


def test_a_source_that_moves_to_another_line_stays_the_same_track(room: Room, plane: RecordingPlane) -> None:
    bound = cart(room).bound
    receive(room, "doctor", video("recvonly"), subscribe={"0": bound["0"]})
    plane.take()
    lines = [Line(port=0, direction="inactive"), video(ssrc=20), audio(ssrc=30), video("sendonly", VP8, ssrc=99)]
    done = offer(room, "cart", make_offer(*lines), publish={"3": CAMERA})
    assert done.bound["3"] == bound["0"]
    assert done.events == []
    [(track, params)] = plane.named("update_track")
    assert (track, params.mid, params.ssrcs) == (room.tracks[bound["0"]].plane_id, "3", (99,))
    assert plane.named("remove_leg") == []


def test_a_change_of_codec_maps_the_legs_anew(room: Room, plane: RecordingPlane) -> None:
    bound = cart(room).bound
    receive(room, "doctor", video("recvonly", VP8, H264), subscribe={"0": bound["0"]})
    receive(room, "nurse", video("recvonly", VP8), subscribe={"0": bound["0"]})
    plane.take()
    lines = [video("sendonly", H264, ssrc=10), video(ssrc=20), audio(ssrc=30)]
    done = offer(room, "cart", make_offer(*lines))
    assert done.events == [PayloadsChanged(bound["0"]), TrackChanged(room.tracks[bound["0"]].info)]
    [(_, params)] = plane.named("update_leg")
    assert [(p.incoming, p.outgoing) for p in params.payloads] == [(96, 98)]
    assert len(plane.named("remove_leg")) == 1  # the nurse's browser cannot show it any more
    assert room.participants["nurse"].legs() == []


def test_another_source_on_a_line_is_another_track(room: Room, plane: RecordingPlane) -> None:
    bound = cart(room).bound
    lines = [video(ssrc=10), video(ssrc=20), audio(ssrc=30)]
    done = offer(room, "cart", make_offer(*lines), publish={"0": Publication(Source.DERMATOSCOPE)})
    assert done.bound["0"] != bound["0"]
    assert TrackRemoved(bound["0"], "cart") in done.events


def test_another_track_on_a_viewer_s_line_gets_a_source_of_its_own(room: Room, plane: RecordingPlane) -> None:
    bound = cart(room).bound
    receive(room, "doctor", video("recvonly"), subscribe={"0": bound["0"]})
    first = plane.named("add_leg")[0][3].ssrc
    plane.take()
    done = receive(room, "doctor", video("recvonly"), subscribe={"0": bound["1"]})
    assert len(plane.named("remove_leg")) == 1
    [leg] = plane.named("add_leg")
    assert leg[3].ssrc != first
    assert answered(done).media[0].primary_ssrcs() == [leg[3].ssrc]


def test_a_line_that_stops_receiving_ends_its_leg(room: Room, plane: RecordingPlane) -> None:
    bound = cart(room).bound
    receive(room, "doctor", video("recvonly"), subscribe={"0": bound["0"]})
    done = receive(room, "doctor", video("inactive"))
    assert done.bound == {}
    assert len(plane.named("remove_leg")) == 1


def test_an_ice_restart(room: Room, plane: RecordingPlane) -> None:
    bound = cart(room).bound
    [(peer, ufrag, _)] = plane.named("add_peer")
    plane.take()
    done = cart(room, ufrag="f00d")
    assert done.bound == bound
    [(restarted, fresh, pwd)] = plane.named("restart_peer")
    assert restarted == peer
    assert fresh != ufrag
    assert (answered(done).media[0].transport.ufrag, answered(done).media[0].transport.pwd) == (fresh, pwd)
    assert plane.named("set_remote")[-1][:2] == (peer, "f00d")
    assert [command[0] for command in plane.take()] == ["restart_peer", "set_remote"]


def test_an_ice_restart_without_an_offer(room: Room, plane: RecordingPlane) -> None:
    with pytest.raises(RoomError, match="no transport"):
        room.restart("cart", "abcd", "0123456789abcdefghijkl", 0)
    cart(room)
    credentials = room.restart("cart", "abcd", "0123456789abcdefghijkl", 0)
    assert plane.named("restart_peer")[0][1:] == tuple(credentials)
    assert room.participants["cart"].transport.remote.ufrag == "abcd"  # type: ignore[union-attr]


@pytest.mark.parametrize("change", [{"client": 2}, {"session": 2}])
def test_another_peer_connection_of_the_same_participant(
    room: Room, plane: RecordingPlane, change: dict[str, int]
) -> None:
    """A page that was loaded again: what it sent and got is gone, and a new transport begins."""
    bound = cart(room).bound
    receive(room, "doctor", video("recvonly"), subscribe={"0": bound["0"]})
    [(old, *_), _] = plane.named("add_peer")
    plane.take()
    done = cart(room, ufrag="f00d", **change)
    assert set(done.bound.values()).isdisjoint(bound.values())
    assert [event for event in done.events if isinstance(event, TransportChanged)] == [
        TransportChanged("cart", TransportState.CLOSED)
    ]
    assert plane.named("remove_peer") == [(old,)]
    assert len(plane.named("add_peer")) == 1
    assert len(plane.named("remove_track")) == len(plane.named("add_track")) == 3
    assert room.participants["doctor"].legs() == []


def test_everything_stopped_ends_the_transport_and_not_the_participant(room: Room, plane: RecordingPlane) -> None:
    cart(room)
    plane.take()
    done = offer(room, "cart", make_offer(*[Line(port=0, direction="inactive")] * 3))
    assert TransportChanged("cart", TransportState.CLOSED) in done.events
    assert room.tracks == {}
    assert [media.port for media in answered(done).media] == [0, 0, 0]
    assert len(plane.named("remove_peer")) == 1
    again = cart(room, ufrag="f00d")
    assert len(again.bound) == 3
    assert len(plane.named("add_peer")) == 1


# Offers that cannot be served


def without(text: str, start: str) -> str:
    return "\r\n".join(line for line in text.split("\r\n") if not line.startswith(start))


TWO = make_offer(video(), audio())


@pytest.mark.parametrize(
    ("text", "code", "message", "line"),
    [
        ("", "bad-sdp", "empty", ""),
        ("v=0\r\n", "unsupported", "no m-line", ""),
        (without(TWO, "a=rtcp-mux"), "unsupported", "rtcp-mux", "line 10: m=video 9 UDP/TLS/RTP/SAVPF 96 97 98 99"),
        (without(TWO, "a=ice-ufrag"), "bad-sdp", "ice-ufrag", "line 9: m=video 9 UDP/TLS/RTP/SAVPF 96 97 98 99"),
        (without(TWO, "a=fingerprint"), "unsupported", "a=fingerprint", "line 9: m=video"),
        (TWO.replace("sha-256", "md5"), "unsupported", "a=fingerprint", "line 10: m=video"),
        (TWO.replace("actpass", "holdconn"), "unsupported", "holdconn", "line 10: m=video"),
        (without(TWO, "a=group"), "unsupported", "BUNDLE", "line 29: m=audio 9 UDP/TLS/RTP/SAVPF 111"),
        (TWO.replace("t=0 0", "t=0 0\r\na=ice-lite"), "unsupported", "ICE-lite", "a=ice-lite"),
        (make_offer(Line(port=0), Line(port=0)), "unsupported", "every m-line is rejected", "line 10: m=video 0"),
        (make_offer(video(ssrc=5), audio(ssrc=5)), "bad-sdp", "SSRC", "line 31: m=audio"),
        (make_offer(video("recvonly"), audio()), "bad-sdp", "recvonly", "line 10: m=video"),
        (make_offer(audio(), audio()), "unsupported", "camera cannot be audio", "line 10: m=audio"),
        (make_offer(video()), "unknown-mid", "'1'", ""),
    ],
)
def test_an_offer_that_cannot_be_served_changes_nothing(
    room: Room, plane: RecordingPlane, text: str, code: str, message: str, line: str
) -> None:
    with pytest.raises(OfferError, match=message) as caught:
        offer(room, "cart", text, publish={"0": CAMERA, "1": MICROPHONE})
    assert caught.value.code == code
    assert caught.value.line.startswith(line)
    assert bool(caught.value.line) == bool(line)
    assert plane.take() == []
    assert room.tracks == {}
    assert room.participants["cart"].transport is None
    assert len(cart(room).bound) == 3


def test_rights_are_asked_for(room: Room) -> None:
    room.join("guest", role=Role.OBSERVER, rights=frozenset({Right.SUBSCRIBE}), name="", now=0)
    room.join("sensor", role=Role.CART, rights=frozenset({Right.PUBLISH}), name="", now=0)
    with pytest.raises(OfferError, match="no right to publish") as caught:
        offer(room, "guest", make_offer(video()), publish={"0": CAMERA})
    assert caught.value.code == "not-allowed"
    for subscribe in ({"0": "t-any"}, SubscribeAll()):
        with pytest.raises(OfferError, match="no right to subscribe"):
            offer(room, "sensor", make_offer(video("recvonly")), subscribe=subscribe)


def test_the_number_of_tracks_is_bounded() -> None:
    room, _ = make_room(policy=RoomPolicy(max_tracks=3, max_tracks_per_participant=2))
    join(room, "cart", "doctor")
    three = {"0": CAMERA, "1": ULTRASOUND, "2": MICROPHONE}
    with pytest.raises(OfferError, match="more than 2 published tracks"):
        offer(room, "cart", make_offer(video(), video(), audio()), publish=three)
    two = {"0": CAMERA, "1": ULTRASOUND}
    offer(room, "cart", make_offer(video(), video()), publish=two)
    with pytest.raises(OfferError, match="the room holds 3 tracks"):
        offer(room, "doctor", make_offer(video(), video()), publish=two)
    offer(room, "cart", make_offer(video(), video()), publish=two)  # the same ones again


def test_an_answer_names_the_addresses_of_its_time(room: Room, plane: RecordingPlane) -> None:
    cart(room)
    elsewhere = (("198.51.100.5", 7000),)
    settings = SessionSettings(identity=identity(), candidates=elsewhere, tcp_candidates=elsewhere)
    room.participants["cart"].site = FixedSite(plane, settings)
    for media in answered(cart(room)).media:
        assert [(c.transport, c.address, c.port) for c in media.candidates] == [
            ("udp", *elsewhere[0]),
            ("tcp", *elsewhere[0]),
        ]


def test_candidates_are_looked_at(room: Room, plane: RecordingPlane) -> None:
    room.candidate("cart", "candidate:1 1 udp 2130706431 192.0.2.9 5000 typ host", "0", 0)
    room.candidate("cart", "", "0", 0)
    with pytest.raises(OfferError, match="a candidate has"):
        room.candidate("cart", "candidate:nonsense", "0", 0)
    with pytest.raises(RoomError, match="no nobody"):
        room.candidate("nobody", "", "0", 0)


def test_a_publisher_s_red_is_answered_in_its_place_and_a_viewer_s_answer_has_room_for_it(
    room: Room, plane: RecordingPlane
) -> None:
    red = ("red/48000/2 112/112", OPUS)
    done = cart(room, audio("sendonly", *red, ssrc=30), publish={"0": MICROPHONE})
    track = room.tracks[done.bound["0"]]
    assert track.codec == "OPUS"
    [sent] = answered(done).media
    assert list(sent.formats) == [111, 112]
    assert sent.formats[111].fmtp == "112/112"
    assert [one.codec for one in plane.named("add_track")[0][2].payloads] == [Codec.CODEC_RED, Codec.CODEC_OPUS]
    for name, codecs, got in (("doctor", red, [(111, 111, False), (112, 112, False)]),
                              ("nurse", (OPUS,), [(111, 111, True), (112, 111, False)])):  # fmt: skip
        heard = offer(room, name, make_offer(audio("recvonly", *codecs)), subscribe={"0": track.id})
        assert set(answered(heard).media[0].formats) == ({111, 112} if len(codecs) == 2 else {111})
        payloads = plane.named("add_leg")[-1][3].payloads
        assert [(one.incoming, one.outgoing, one.unwrap) for one in payloads] == got


CCFB = "a=rtcp-fb:* ack ccfb"
TWCC_URI = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"


def test_who_only_watches_may_tell_of_packets_by_their_own_numbers(room: Room, plane: RecordingPlane) -> None:
    done = cart(room, video("sendonly", VP8, ssrc=10, extra=CCFB), publish={"0": CAMERA})
    [sent] = answered(done).media
    assert "ack ccfb" not in sent.formats[96].feedback
    lines = (video("recvonly", VP8, extra=CCFB), audio("recvonly", OPUS, extra=CCFB))
    seen = offer(room, "doctor", make_offer(*lines), subscribe={"0": done.bound["0"]})
    for medium in answered(seen).media:
        assert {"ack ccfb"} <= {name for one in medium.formats.values() for name in one.feedback}
        assert "transport-cc" not in {name for one in medium.formats.values() for name in one.feedback}
        assert TWCC_URI not in {one.uri for one in medium.extensions}
    params = plane.named("add_leg")[-1][3]
    assert params.named
    assert ExtKind.EXT_TWCC not in {kind for _, kind in params.extensions}


def test_own_numbers_are_for_all_m_lines_or_none(room: Room, plane: RecordingPlane) -> None:
    done = cart(room, video("sendonly", VP8, ssrc=10), publish={"0": CAMERA})
    lines = (video("recvonly", VP8, extra=CCFB), audio("recvonly", OPUS))
    seen = offer(room, "doctor", make_offer(*lines), subscribe={"0": done.bound["0"]})
    assert CCFB not in seen.answer
    assert not plane.named("add_leg")[-1][3].named
