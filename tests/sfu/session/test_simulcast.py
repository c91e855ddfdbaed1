"""Several encodings of a track: what of an offer is taken, what the data plane is told, what the publisher hears."""

from __future__ import annotations

import pytest

from mediaserver.sfu.session.events import EncodingsWanted
from mediaserver.sfu.session.model import Publication, Source
from mediaserver.sfu.session.room import Room
from mediaserver.sfu.stream.params import EventKind, TrackParams
from mediaserver.sfu.wire.packet import ExtKind
from mediaserver.sfu.wire.sdp import parse
from tests.sfu.session.harness import join, make_room, report
from tests.sfu.session.offers import make_offer, video
from tests.sfu.wire.offers import real_offer

RID = "a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
REPAIRED = "a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"


def publish(room: Room, sdp: str, mid: str = "0") -> tuple[TrackParams, str]:
    answered = room.offer("cart", sdp, publish={mid: Publication(Source.CAMERA)}, subscribe={}, now=0)
    plane = room._books.home.plane
    [(_, _, params)] = plane.named("add_track")  # type: ignore[attr-defined]
    return params, answered.answer


@pytest.fixture
def room() -> Room:
    room, _ = make_room()
    join(room, "cart")
    return room


def offered(*lines: str, **more: object) -> str:
    return make_offer(video(extra="\n".join([RID, REPAIRED, *lines]), **more))


@pytest.mark.parametrize("browser", ["chromium", "firefox"])
def test_real_offers(room: Room, browser: str) -> None:
    sdp = real_offer(f"{browser}-simulcast")
    params, answer = publish(room, sdp, next(media.mid for media in parse(sdp).media if media.kind == "video"))
    assert params.rids == ("q", "h", "f")
    assert params.ssrcs == params.rtx_ssrcs == ()
    assert {ExtKind.EXT_MID, ExtKind.EXT_RID, ExtKind.EXT_RRID} <= {kind for _, kind in params.extensions}
    media = next(media for media in parse(answer).media if media.kind == "video")
    assert media.simulcast == "recv q;h;f"
    assert media.rids == dict.fromkeys("qhf", "recv")
    assert media.direction == "recvonly"


@pytest.mark.parametrize(
    ("lines", "rids"),
    [
        (["a=rid:l send", "a=rid:h send", "a=simulcast:send l;h"], ("l", "h")),
        # The first of alternatives; what begins paused is taken as well; more than three are too many.
        (["a=rid:a send", "a=rid:b send", "a=rid:c send", "a=simulcast:send ~a,b;c"], ("a", "c")),
        ([*(f"a=rid:{n} send" for n in "abcd"), "a=simulcast:send a;b;c;d"], ("a", "b", "c")),
        # By what they are limited to, the lowest first.
        (["a=rid:x send max-width=1280;max-height=720", "a=rid:y send max-width=640;max-height=360",
          "a=simulcast:send x;y"], ("y", "x")),
        (["a=rid:x send max-br=5000000", "a=rid:y send max-br=1000000;max-fps=15", "a=simulcast:send x;y"], ("y", "x")),
        # One alone is none; nor is one that can't carry what is taken, is not described, or is for the other way.
        (["a=rid:x send", "a=simulcast:send x"], ()),
        (["a=rid:x send pt=120", "a=rid:y send pt=96,97", "a=simulcast:send x;y"], ()),
        (["a=rid:x send", "a=simulcast:send x;y"], ()),
        (["a=rid:x recv", "a=rid:y recv", "a=simulcast:recv x;y"], ()),
        (["a=rid:x send", f"a=rid:{'y' * 17} send", f"a=simulcast:send x;{'y' * 17}"], ()),
        (["a=simulcast:send"], ()),
        (["a=simulcast:send ;;;"], ()),
        (["a=rid:x send", "a=rid:y send"], ()),
    ],
)  # fmt: skip
def test_offers(room: Room, lines: list[str], rids: tuple[str, ...]) -> None:
    params, answer = publish(room, offered(*lines))
    assert params.rids == rids
    assert ("a=simulcast" in answer) == bool(rids)
    assert len(parse(answer).media[0].rids) == len(rids)


def test_restrictions_are_answered_as_they_stand(room: Room) -> None:
    _, answer = publish(room, offered("a=rid:x send max-fps=15", "a=rid:y send", "a=simulcast:send x;y"))
    assert "a=rid:x recv max-fps=15\r\na=rid:y recv\r\na=simulcast:recv x;y\r\n" in answer


def test_without_rids_in_the_packets_there_is_one_encoding(room: Room) -> None:
    extra = "a=rid:x send\na=rid:y send\na=simulcast:send x;y"
    params, answer = publish(room, make_offer(video(ssrc=7, extra=extra)))
    assert params.rids == ()
    assert params.ssrcs == (7,)
    assert "simulcast" not in answer


def test_a_track_without_simulcast_knows_no_rids(room: Room) -> None:
    params, answer = publish(room, offered())
    assert params.rids == ()
    assert not {ExtKind.EXT_RID, ExtKind.EXT_RRID} & {kind for _, kind in params.extensions}
    assert "stream-id" not in answer


def test_the_publisher_hears_what_is_wanted(room: Room) -> None:
    publish(room, offered("a=rid:q send", "a=rid:h send", "a=rid:f send", "a=simulcast:send q;h;f"))
    [track] = room.tracks.values()
    for mask, rids in ((0b101, ("q", "f")), (0, ()), (0b111, ("q", "h", "f"))):
        wanted = room.plane_event(report(EventKind.LAYERS_WANTED, track.plane_id, mask), 0)
        assert wanted == [EncodingsWanted(track.id, "cart", rids)]


def test_of_one_encoding_nothing_is_said(room: Room) -> None:
    publish(room, offered())
    [track] = room.tracks.values()
    assert room.plane_event(report(EventKind.LAYERS_WANTED, track.plane_id, 1), 0) == []
