"""A room's life but for its offers: coming and going, commands on tracks, reports of the data plane, time."""

from __future__ import annotations

import pytest

from mediaserver.codecs.payload import Codec
from mediaserver.sfu.session.events import (
    Event,
    LegLive,
    ParticipantJoined,
    ParticipantLeft,
    PictureChanged,
    TrackChanged,
    TrackLive,
    TrackRemoved,
    TransportChanged,
)
from mediaserver.sfu.session.model import (
    ParticipantInfo,
    Publication,
    Right,
    Role,
    Source,
    SubscribeAll,
    TransportState,
)
from mediaserver.sfu.session.room import RoomError
from mediaserver.sfu.session.settings import RoomPolicy
from mediaserver.sfu.session.track import Track
from mediaserver.sfu.stream.params import EventKind
from tests.sfu.session.harness import (
    ALL_RIGHTS,
    SECOND,
    close_notify,
    connect,
    identity,
    join,
    make_room,
    report,
)
from tests.sfu.session.offers import audio, make_offer, video

CART = {"0": Publication(Source.CAMERA), "1": Publication(Source.ULTRASOUND), "2": Publication(Source.MICROPHONE)}


class Consultation:
    """A cart that publishes three tracks and a doctor who gets them all, both connected."""

    def __init__(self, media_only: bool = False) -> None:
        self.room, self.plane = make_room()
        join(self.room, "cart", "doctor", media_only=media_only)
        lines = [video(ssrc=10), video(ssrc=20), audio(ssrc=30)]
        self.room.offer("cart", make_offer(*lines), publish=CART, subscribe={}, now=0)
        wanted = [video("recvonly"), video("recvonly"), audio("recvonly")]
        self.room.offer("doctor", make_offer(*wanted, client=2), publish={}, subscribe=SubscribeAll(), now=0)
        connect(self.room, self.plane, "cart", identity(1))
        self.doctor = connect(self.room, self.plane, "doctor", identity(2))
        self.plane.take()

    def track(self, source: Source) -> Track:
        return next(track for track in self.room.tracks.values() if track.source is source)

    def peer(self, name: str) -> int:
        transport = self.room.participants[name].transport
        assert transport is not None
        return transport.plane_id


@pytest.fixture
def at() -> Consultation:
    return Consultation()


# Coming and going


def test_joining() -> None:
    room, _ = make_room()
    rights = frozenset({Right.SUBSCRIBE})
    events = room.join("p-1", role=Role.OBSERVER, rights=rights, name="Dr Who", now=7, hidden=True)
    assert events == [ParticipantJoined(ParticipantInfo("p-1", "Dr Who", Role.OBSERVER, True))]
    assert room.participants["p-1"].joined == 7
    assert room.participants["p-1"].state is TransportState.NEW
    assert room.leave("p-1", "left", 8) == [ParticipantLeft("p-1", "left", True)]
    assert room.participants == {}


@pytest.mark.parametrize(
    ("name", "code"), [("cart", "already-joined"), ("third", "room-full"), ("", "bad-name"), ("a b", "bad-name")]
)
def test_who_cannot_come_in(name: str, code: str) -> None:
    room, _ = make_room(policy=RoomPolicy(max_participants=2))
    join(room, "cart", "doctor")
    with pytest.raises(RoomError) as caught:
        join(room, name)
    assert caught.value.code == code
    room.close(0)
    with pytest.raises(RoomError, match="closed"):
        join(room, "late")


def test_a_publisher_leaves(at: Consultation) -> None:
    tracks = list(at.room.tracks)
    events = at.room.leave("cart", "left", 5)
    assert events == [
        *(TrackRemoved(track, "cart") for track in tracks),
        TransportChanged("cart", TransportState.CLOSED),
        ParticipantLeft("cart", "left"),
    ]
    names = [command[0] for command in at.plane.take()]
    assert sorted(names[:6]) == ["remove_leg"] * 3 + ["remove_track"] * 3
    assert names[6:] == ["send_dtls", "remove_peer"]  # close_notify goes first
    assert at.room.participants["doctor"].legs() == []
    assert at.room.participants["doctor"].state is TransportState.CONNECTED


def test_a_viewer_leaves(at: Consultation) -> None:
    events = at.room.leave("doctor", "left", 5)
    assert events == [TransportChanged("doctor", TransportState.CLOSED), ParticipantLeft("doctor", "left")]
    assert [command[0] for command in at.plane.take()] == ["remove_leg"] * 3 + ["send_dtls", "remove_peer"]
    assert all(not track.legs for track in at.room.tracks.values())


def test_closing_takes_everybody_out_and_releases_every_id(at: Consultation) -> None:
    events = at.room.close(5)
    assert [event.participant for event in events if isinstance(event, ParticipantLeft)] == ["cart", "doctor"]
    assert at.room.participants == {}
    assert at.room.tracks == {}
    ids = at.room._books.ids
    assert len(ids) == 2 + 3 + 3
    for number in range(1, 9):
        assert ids.owner(number) is at.room
        at.room.plane_event(report(EventKind.REMOVED, number), 6)
    assert len(ids) == 0
    assert at.room.plane_event(report(EventKind.CONNECTED, 1), 6) == []  # late reports do no harm


# Commands on tracks


def test_muting(at: Consultation) -> None:
    track = at.track(Source.CAMERA)
    assert at.room.mute("cart", track.id, True, 0) == [TrackChanged(track.info)]
    assert track.info.muted
    assert at.room.mute("cart", track.id, True, 0) == []
    with pytest.raises(RoomError, match="only its publisher"):
        at.room.mute("doctor", track.id, False, 0)
    at.room.join("chief", role=Role.OPERATOR, rights=ALL_RIGHTS | {Right.ADMIN}, name="", now=0)
    at.room.mute("chief", track.id, False, 0)
    assert at.plane.named("mute_track") == [(track.plane_id, True), (track.plane_id, False)]


def test_pausing_and_resuming(at: Consultation) -> None:
    track = at.track(Source.ULTRASOUND)
    [leg] = track.legs
    at.room.unsubscribe("doctor", track.id, 0)
    assert at.room.unsubscribe("doctor", track.id, 0) == []
    at.room.subscribe("doctor", track.id, 0)
    assert at.plane.take() == [("pause_leg", leg, True), ("pause_leg", leg, False)]


def test_asking_for_a_keyframe(at: Consultation) -> None:
    track = at.track(Source.ULTRASOUND)
    at.room.keyframe("doctor", track.id, 0)
    assert at.plane.take() == [("request_keyframe", track.plane_id)]


def test_commands_on_what_is_not_there(at: Consultation) -> None:
    track = at.track(Source.CAMERA).id
    for act in (at.room.subscribe, at.room.unsubscribe, at.room.keyframe):
        for arguments, code in (
            (("nobody", track), "unknown-participant"),
            (("doctor", "t-none"), "unknown-track"),
            (("cart", track), "not-negotiated"),
        ):
            with pytest.raises(RoomError) as caught:
                act(*arguments, 0)
            assert caught.value.code == code


# Reports of the data plane


def test_connecting() -> None:
    room, plane = make_room()
    join(room, "cart")
    room.offer("cart", make_offer(video()), publish={"0": CART["0"]}, subscribe={}, now=0)
    events = connect(room, plane, "cart", identity(1))
    assert [event.state for event in events] == [TransportState.CONNECTING, TransportState.CONNECTED]
    [(peer, profile, *keys, flight)] = plane.named("set_keys")
    transport = room.participants["cart"].transport
    assert transport is not None
    assert peer == transport.plane_id
    assert (profile, [len(key) for key in keys]) == (0x0007, [16, 12, 16, 12])
    assert transport.dtls.keys is not None
    assert tuple(keys) == transport.dtls.keys[1:]
    assert flight  # with the keys, never before them
    assert plane.commands[-1][0] == "set_keys"


def test_another_certificate_than_the_offer_s() -> None:
    room, plane = make_room()
    join(room, "cart")
    room.offer("cart", make_offer(video(), client=2), publish={"0": CART["0"]}, subscribe={}, now=0)
    with pytest.raises(AssertionError):
        connect(room, plane, "cart", identity(1))
    assert plane.named("set_keys") == []
    assert room.participants["cart"].state is TransportState.CONNECTING


def test_tracks_come_alive(at: Consultation) -> None:
    track = at.track(Source.ULTRASOUND)
    live = report(EventKind.TRACK_LIVE, track.plane_id, 20, bytes([98]), time=123)
    assert at.room.plane_event(live, 124) == [
        TrackLive(track.id, Codec.CODEC_H264, 20, 98, 90000, 123),
        TrackChanged(track.info),
    ]
    assert track.info.live
    assert at.room.plane_event(report(EventKind.TRACK_LIVE, track.plane_id, 20, bytes([1])), 0) == []
    size = report(EventKind.PICTURE, track.plane_id, 1280 << 16 | 720)
    assert at.room.plane_event(size, 0) == [PictureChanged(track.id, 1280, 720), TrackChanged(track.info)]
    assert (track.info.width, track.info.height) == (1280, 720)
    assert at.room.plane_event(report(EventKind.TRACK_BYE, track.plane_id, 20), 0) == [TrackChanged(track.info)]
    assert not track.info.live


def test_legs_come_alive(at: Consultation) -> None:
    track = at.track(Source.MICROPHONE)
    [leg] = track.legs
    assert at.room.plane_event(report(EventKind.LEG_LIVE, leg, 5, time=250_000), 0) == [
        LegLive("doctor", track.id, 250_000)
    ]


def test_the_time_to_the_first_packet_counts_from_when_it_could_come(at: Consultation) -> None:
    lines = [video(ssrc=10), video(ssrc=20), audio(ssrc=30), video(ssrc=40)]
    publish = {"3": Publication(Source.SCREEN)}
    bound = at.room.offer("cart", make_offer(*lines), publish=publish, subscribe={}, now=60 * SECOND).bound
    again = make_offer(video("recvonly"), audio("recvonly"), client=4, session=7, ufrag="again")
    wanted = {"0": bound["3"], "1": bound["2"]}
    for name, now, since in (("late", 90 * SECOND, SECOND), ("doctor", 80 * SECOND, 11 * SECOND)):
        if name == "late":
            join(at.room, name, now=now)
        at.room.offer(name, again, publish={}, subscribe=wanted, now=now)
        for leg in at.room.participants[name].legs():
            live = report(EventKind.LEG_LIVE, leg.plane_id, 5, time=91 * SECOND)
            assert at.room.plane_event(live, 0) == [LegLive(name, leg.track.id, since)]
    early = make_offer(*[video("recvonly")] * 2, client=4, session=8, ufrag="early")
    join(at.room, "early", now=50 * SECOND)
    at.room.offer("early", early, publish={}, subscribe={"0": bound["3"], "1": bound["0"]}, now=51 * SECOND)
    first, second = at.room.participants["early"].legs()
    assert [
        at.room.plane_event(report(EventKind.LEG_LIVE, leg.plane_id, 5, time=61 * SECOND), 0) for leg in (first, second)
    ] == [[LegLive("early", bound["3"], SECOND)], [LegLive("early", bound["0"], 11 * SECOND)]]


def test_who_falls_silent_is_removed(at: Consultation) -> None:
    events = at.room.plane_event(report(EventKind.SILENT, at.peer("doctor")), 0)
    assert events[-1] == ParticipantLeft("doctor", "silent")
    assert list(at.room.participants) == ["cart"]


def goodbye(at: Consultation, name: str) -> list[Event]:
    """The participant closes its peer connection."""
    transport = at.room.participants[name].transport
    assert transport is not None
    return at.room.plane_event(report(EventKind.DTLS, at.peer(name), 0, close_notify(transport.dtls)), 0)


def test_who_closes_its_peer_connection_stays_without_media() -> None:
    at = Consultation()
    tracks = list(at.room.tracks)
    assert goodbye(at, "cart") == [
        *(TrackRemoved(track, "cart") for track in tracks),
        TransportChanged("cart", TransportState.CLOSED),
    ]
    names = [command[0] for command in at.plane.take()]
    assert sorted(names[:6]) == ["remove_leg"] * 3 + ["remove_track"] * 3
    assert names[6:] == ["remove_peer"]
    assert list(at.room.participants) == ["cart", "doctor"]
    assert at.room.participants["cart"].state is TransportState.NEW
    assert at.room.deadline() is None
    assert goodbye(at, "doctor") == [TransportChanged("doctor", TransportState.CLOSED)]

    # Another peer connection, with another certificate, on the same participant.
    offer = make_offer(video(ssrc=11), client=3, session=9, ufrag="again")
    done = at.room.offer("cart", offer, publish={"0": Publication(Source.CAMERA)}, subscribe={}, now=SECOND)
    connect(at.room, at.plane, "cart", identity(3))
    assert at.room.participants["cart"].state is TransportState.CONNECTED
    assert list(at.room.tracks) == [done.bound["0"]]


def test_who_is_nothing_but_media_goes_with_its_peer_connection() -> None:
    at = Consultation(media_only=True)
    assert goodbye(at, "doctor")[-1] == ParticipantLeft("doctor", "transport-closed")
    assert goodbye(at, "cart")[-1] == ParticipantLeft("cart", "transport-closed")
    assert at.room.participants == {}


def test_what_the_data_plane_refuses_is_taken_back(at: Consultation) -> None:
    track = at.track(Source.CAMERA)
    [leg] = track.legs
    assert at.room.plane_event(report(EventKind.REFUSED, leg, 0, b"no room"), 0) == []
    assert track.legs == {}
    assert at.room.plane_event(report(EventKind.REFUSED, track.plane_id, 0, b"no room"), 0) == [
        TrackRemoved(track.id, "cart")
    ]
    events = at.room.plane_event(report(EventKind.REFUSED, at.peer("cart"), 0, b"no room"), 0)
    assert events[-1] == ParticipantLeft("cart", "refused")


def test_moving_to_another_address_is_no_news(at: Consultation) -> None:
    assert at.room.plane_event(report(EventKind.MOVED, at.peer("cart"), 0, b""), 0) == []
    assert at.room.plane_event(report(EventKind.CONNECTED, at.peer("cart"), 0, b""), 0) == []


# Time


def test_who_never_connects_is_removed() -> None:
    room, _ = make_room()
    join(room, "cart", now=3)
    assert room.deadline() is None  # before it offers it is the business of the signalling
    room.offer("cart", make_offer(video()), publish={"0": CART["0"]}, subscribe={}, now=5 * SECOND)
    assert room.deadline() == 35 * SECOND
    assert room.tick(35 * SECOND - 1) == []
    events = room.tick(35 * SECOND)
    assert events[-1] == ParticipantLeft("cart", "never-connected")
    assert room.deadline() is None


def test_who_is_connected_is_not_timed(at: Consultation) -> None:
    assert at.room.deadline() is None
    assert at.room.tick(10**12) == []
    assert len(at.room.participants) == 2


def test_a_client_that_waits_for_our_hello_gets_it_again_and_again() -> None:
    room, plane = make_room()
    join(room, "encoder")
    offer = make_offer(video(), setup="passive")
    room.offer("encoder", offer, publish={"0": CART["0"]}, subscribe={}, now=0)
    assert plane.named("send_dtls") == []
    transport = room.participants["encoder"].transport
    assert transport is not None
    room.plane_event(report(EventKind.CONNECTED, transport.plane_id), SECOND)
    [(_, hello)] = plane.named("send_dtls")
    assert room.deadline() == SECOND + 500_000
    room.tick(SECOND + 500_000)
    assert plane.named("send_dtls") == [(transport.plane_id, hello)] * 2
