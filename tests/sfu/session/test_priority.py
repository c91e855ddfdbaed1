"""What tracks are worth to viewers: the room's policy, their wishes within it, and what they are told they get."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from mediaserver.sfu.session.events import LegEnded, LegQuality
from mediaserver.sfu.session.model import (
    Publication,
    Quality,
    QualityCause,
    QualityState,
    Source,
    SubscribeAll,
    Wish,
)
from mediaserver.sfu.session.room import Room, RoomError
from mediaserver.sfu.session.settings import Priority, RoomPolicy, SourcePolicy
from mediaserver.sfu.stream.params import EventKind, LegPolicy, QualityReason
from tests.sfu.session.harness import RecordingPlane, join, make_room, report
from tests.sfu.session.offers import audio, make_offer, video

SOURCES: Mapping[Source, SourcePolicy] = {
    Source.ULTRASOUND: SourcePolicy(
        priority=Priority(2, 2, 2, 1_000_000, 15, 480, frames_first=True, sized=False),
    ),
    Source.CAMERA: SourcePolicy(priority=Priority(4, 3, 9, 400_000, 15, 360)),
    Source.MICROPHONE: SourcePolicy(priority=Priority(0, 0, 0, 16_000)),
}


class Viewing:
    """A cart with three tracks and a doctor who gets them all."""

    def __init__(self) -> None:
        self.plane: RecordingPlane
        self.room: Room
        self.room, self.plane = make_room(policy=RoomPolicy(sources=SOURCES))
        join(self.room, "cart", "doctor")
        publish = {
            "0": Publication(Source.CAMERA),
            "1": Publication(Source.ULTRASOUND),
            "2": Publication(Source.MICROPHONE),
        }
        lines = [video(ssrc=10), video(ssrc=20), audio(ssrc=30)]
        self.room.offer("cart", make_offer(*lines), publish=publish, subscribe={}, now=0)
        self.ids = {track.source: track.id for track in self.room.tracks.values()}

    def subscribe(self) -> None:
        wanted = [video("recvonly"), video("recvonly"), audio("recvonly")]
        offer = make_offer(*wanted, client=2)
        self.room.offer("doctor", offer, publish={}, subscribe=SubscribeAll(), now=0)

    def leg(self, source: Source) -> int:
        [leg] = self.room.tracks[self.ids[source]].legs
        return leg

    def policy(self, source: Source) -> LegPolicy:
        return self.room.tracks[self.ids[source]].legs[self.leg(source)].params.policy

    def told(self, source: Source, reason: QualityReason, spatial: int = -1, temporal: int = -1) -> list[object]:
        value = reason << 16 | (spatial + 1) << 8 | (temporal + 1)
        return list(self.room.plane_event(report(EventKind.LEG_QUALITY, self.leg(source), value), 0))


@pytest.fixture
def at() -> Viewing:
    viewing = Viewing()
    viewing.subscribe()
    viewing.plane.take()
    return viewing


def test_legs_are_worth_what_the_room_says(at: Viewing) -> None:
    assert at.policy(Source.ULTRASOUND) == LegPolicy(2, 1_000_000, 15, 480, frames_first=True)
    assert at.policy(Source.CAMERA) == LegPolicy(4, 400_000, 15, 360)
    assert at.policy(Source.MICROPHONE) == LegPolicy(0, 16_000)


def test_a_wish_reaches_the_data_plane_once(at: Viewing) -> None:
    camera = at.ids[Source.CAMERA]
    assert at.room.wish("doctor", camera, Wish(height=240), 0) == Wish(4, 240)
    [(leg, params)] = at.plane.named("update_leg")
    assert leg == at.leg(Source.CAMERA)
    assert params.policy == LegPolicy(4, 400_000, 15, 360, desired_height=240)
    at.room.wish("doctor", camera, Wish(height=240), 0)
    assert len(at.plane.named("update_leg")) == 1


@pytest.mark.parametrize(
    ("source", "wish", "comes_to"),
    [
        (Source.CAMERA, Wish(0, 100), Wish(3, 100)),  # never before the examination
        (Source.CAMERA, Wish(200, 0), Wish(9, 0)),
        (Source.ULTRASOUND, Wish(9, 100), Wish(2, 0)),  # neither less important nor smaller than its source
        (Source.MICROPHONE, Wish(5, 100), Wish(0, 0)),
    ],
)
def test_the_room_bounds_what_a_viewer_may_wish(at: Viewing, source: Source, wish: Wish, comes_to: Wish) -> None:
    assert at.room.wish("doctor", at.ids[source], wish, 0) == comes_to
    assert at.policy(source).rank == comes_to.rank


def test_a_wish_may_come_before_the_track_is_received_and_goes_with_it() -> None:
    at = Viewing()
    camera = at.ids[Source.CAMERA]
    at.room.wish("doctor", camera, Wish(5, 180), 0)
    at.subscribe()
    assert at.policy(Source.CAMERA) == LegPolicy(5, 400_000, 15, 360, desired_height=180)
    at.room.leave("cart", "left", 0)
    assert at.room.participants["doctor"].wishes == {}
    with pytest.raises(RoomError, match="no track"):
        at.room.wish("doctor", camera, Wish(), 0)


def test_a_viewer_is_told_what_it_gets(at: Viewing) -> None:
    camera = at.ids[Source.CAMERA]
    at.plane.stats[at.leg(Source.CAMERA)] = {"frames": 15, "width": 320, "height": 180}
    [event] = at.told(Source.CAMERA, QualityReason.BELOW_FLOOR, 0, 1)
    below = Quality(QualityState.BELOW_FLOOR, QualityCause.LINE, 0, 1, 15, 320, 180)
    assert event == LegQuality("doctor", camera, below)
    assert at.room.qualities("doctor")[camera] == below
    [event] = at.told(Source.CAMERA, QualityReason.PAUSED_BY_LINE)
    assert event == LegQuality("doctor", camera, Quality(QualityState.PAUSED, QualityCause.LINE))
    [event] = at.told(Source.ULTRASOUND, QualityReason.NO_SOURCE)
    assert event == LegQuality("doctor", at.ids[Source.ULTRASOUND], Quality(QualityState.WAITING, QualityCause.SOURCE))


def test_without_layers_the_picture_is_the_publishers(at: Viewing) -> None:
    track = at.room.tracks[at.ids[Source.ULTRASOUND]]
    at.room.plane_event(report(EventKind.PICTURE, track.plane_id, 1280 << 16 | 720), 0)
    [event] = at.told(Source.ULTRASOUND, QualityReason.OK)
    assert event == LegQuality("doctor", track.id, Quality(width=1280, height=720))


def test_a_pause_of_the_viewers_own_goes_before_what_the_line_does(at: Viewing) -> None:
    camera = at.ids[Source.CAMERA]
    own = LegQuality("doctor", camera, Quality(QualityState.PAUSED, QualityCause.VIEWER))
    assert at.room.unsubscribe("doctor", camera, 0) == [own]
    assert at.room.unsubscribe("doctor", camera, 0) == []
    assert at.told(Source.CAMERA, QualityReason.BELOW_FLOOR, 0, 0) == []
    [back] = at.room.subscribe("doctor", camera, 0)
    assert back == LegQuality("doctor", camera, Quality(QualityState.BELOW_FLOOR, QualityCause.LINE, 0, 0))


def test_what_a_later_offer_drops_has_ended(at: Viewing) -> None:
    wanted = [video("recvonly"), video("inactive"), audio("recvonly")]
    before = {leg.track.id for leg in at.room.participants["doctor"].legs()}
    offer = make_offer(*wanted, client=2)
    negotiated = at.room.offer("doctor", offer, publish={}, subscribe=SubscribeAll(), now=0)
    [dropped] = before - {leg.track.id for leg in at.room.participants["doctor"].legs()}
    assert LegEnded("doctor", dropped) in negotiated.events
