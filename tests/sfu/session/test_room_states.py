"""Any sequence of commands: the room's books balance at every step, and at the end nothing is left."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mediaserver.sfu.session.model import Publication, Role, Source, SubscribeAll
from mediaserver.sfu.session.negotiate import source_fits
from mediaserver.sfu.session.room import OfferError, RoomError
from mediaserver.sfu.stream.engine import Engine
from tests.sfu.session.harness import ALL_RIGHTS, make_room
from tests.sfu.session.offers import H264, OPUS, VP8, Line, make_offer

NAMES = st.sampled_from(["ann", "ben", "cas"])
CODECS = {"video": st.sampled_from([(VP8,), (H264,), (VP8, H264)]), "audio": st.just((OPUS,))}
DIRECTIONS = st.sampled_from(["sendonly", "recvonly", "sendrecv", "inactive"])


@st.composite
def m_lines(draw: st.DrawFn) -> Line:
    kind = draw(st.sampled_from(["video", "audio"]))
    port = 9 if draw(st.integers(0, 5)) else 0
    mid = draw(st.sampled_from(["", "", "x", "y"]))
    return Line(kind, draw(DIRECTIONS), draw(CODECS[kind]), mid, port=port)


class Rooms(RuleBasedStateMachine):
    """Three people do anything in any order, on the real engine."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = Engine(seed=bytes(16))
        self.room, _ = make_room(plane=self.engine)
        self.now = 0

    @rule(name=NAMES)
    def join(self, name: str) -> None:
        if name not in self.room.participants:
            self.room.join(name, role=Role.DOCTOR, rights=ALL_RIGHTS, name=name, now=self.now)

    @rule(name=NAMES)
    def leave(self, name: str) -> None:
        if name in self.room.participants:
            self.room.leave(name, "left", self.now)
            assert all(track.participant != name for track in self.room.tracks.values())

    @rule(
        name=NAMES,
        lines=st.lists(m_lines(), min_size=1, max_size=4),
        ufrag=st.sampled_from(["cafe", "f00d"]),
        session=st.sampled_from([1, 1, 1, 2]),
        sources=st.lists(st.sampled_from(sorted(Source)), min_size=4, max_size=4),
        everything=st.booleans(),
        data=st.data(),
    )
    def offer(
        self,
        name: str,
        lines: list[Line],
        ufrag: str,
        session: int,
        sources: list[Source],
        everything: bool,
        data: st.DataObject,
    ) -> None:
        if name not in self.room.participants:
            return
        mids = [line.mid or str(at) for at, line in enumerate(lines)]
        fit = [
            (mid, source)
            for mid, line, source in zip(mids, lines, sources, strict=False)
            if source_fits(source, line.kind) and line.direction in ("sendonly", "sendrecv")
        ]
        publish = {mid: Publication(source) for mid, source in fit}
        tracks = sorted(self.room.tracks)
        wanted = {mid: data.draw(st.sampled_from(tracks)) for mid in mids if tracks and data.draw(st.booleans())}
        before = (dict(self.room.tracks), self.room.participants[name].transport)
        try:
            text = make_offer(*lines, ufrag=ufrag, session=session)
            subscribe = SubscribeAll() if everything else wanted
            done = self.room.offer(name, text, publish=publish, subscribe=subscribe, now=self.now)
        except OfferError:
            assert before == (self.room.tracks, self.room.participants[name].transport)
            return
        assert set(done.bound.values()) <= set(self.room.tracks)

    @rule(name=NAMES, pick=st.integers(0, 9), act=st.sampled_from(["mute", "subscribe", "unsubscribe", "keyframe"]))
    def act(self, name: str, pick: int, act: str) -> None:
        tracks = sorted(self.room.tracks)
        if not tracks or name not in self.room.participants:
            return
        track = tracks[pick % len(tracks)]
        with suppress(RoomError):
            if act == "mute":
                self.room.mute(name, track, pick > 4, self.now)
            else:
                getattr(self.room, act)(name, track, self.now)

    @rule(us=st.sampled_from([1_000, 1_000_000, 20_000_000]))
    def wait(self, us: int) -> None:
        self.now += us
        self.engine.advance(self.now)
        for event in self.engine.poll_events():
            self.room.plane_event(event, self.now)
        self.room.tick(self.now)

    @invariant()
    def books_balance(self) -> None:
        room = self.room
        held = {}
        for participant in room.participants.values():
            assert participant.transport is not None or not participant.lines or not participant.legs()
            for line in participant.lines.values():
                if line.track is not None:
                    assert room.tracks[line.track.id] is line.track
                    assert line.track.participant == participant.id
                    held[line.track.id] = line.track
                if line.leg is not None:
                    assert line.leg.track.legs[line.leg.plane_id] is line.leg
                    assert (line.leg.participant, line.leg.mid) == (participant.id, line.mid)
                    assert line.leg.params.payloads
        assert held == room.tracks
        legs = {leg.plane_id: leg for track in room.tracks.values() for leg in track.legs.values()}
        assert legs == room._books.by_leg
        assert {track.plane_id for track in room.tracks.values()} == set(room._books.by_track)
        assert all(
            room._books.ids.owner(number) is room
            for number in (*room._books.by_peer, *room._books.by_track, *room._books.by_leg)
        )

    def teardown(self) -> None:
        self.room.close(self.now)
        self.engine.advance(self.now + 1)
        while events := self.engine.poll_events():
            for event in events:
                self.room.plane_event(event, self.now + 1)
        assert len(self.room._books.ids) == 0


Rooms.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestRooms = Rooms.TestCase
