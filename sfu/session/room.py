"""A room: participants, what they publish, and who gets it. Commands in, events out; no clock, no I/O."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from mediaserver.sfu.session.events import Event
from mediaserver.sfu.session.ids import Ids
from mediaserver.sfu.session.model import PublishMap, Right, Role, SubscribeMap
from mediaserver.sfu.session.peer import Participant
from mediaserver.sfu.session.settings import RoomPolicy, SessionSettings
from mediaserver.sfu.session.track import Track
from mediaserver.sfu.stream.params import Plane, PlaneEvent
from mediaserver.sfu.wire.sdp import OfferError

__all__ = ["Negotiated", "OfferError", "Room", "RoomError"]


class RoomError(Exception):
    """A command that cannot be carried out. `code`: unknown-participant, unknown-track, not-allowed, room-full,
    already-joined, not-negotiated."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Negotiated(msgspec.Struct, frozen=True):
    """The answer to an offer. `bound`: mid -> track id, of published and of received tracks alike.
    `refused`: mid -> a sentence, for each m-line that was asked for and is not carried."""

    answer: str
    bound: Mapping[str, str]
    events: list[Event]
    refused: Mapping[str, str] = {}


class Room:
    """Times are µs of one monotonic clock. Every method that names a participant or a track raises `RoomError`
    when there is none."""

    participants: Mapping[str, Participant]
    tracks: Mapping[str, Track]

    def __init__(
        self, name: str, plane: Plane, settings: SessionSettings, ids: Ids[Room], policy: RoomPolicy
    ) -> None: ...

    def join(
        self, participant: str, *, role: Role, rights: frozenset[Right], name: str, now: int, hidden: bool = False
    ) -> list[Event]: ...

    def offer(
        self, participant: str, sdp: str, *, publish: PublishMap, subscribe: SubscribeMap, now: int
    ) -> Negotiated: ...

    def candidate(self, participant: str, candidate: str, mid: str, now: int) -> None: ...

    def restart(self, participant: str, ufrag: str, pwd: str, now: int) -> tuple[str, str]: ...

    def mute(self, participant: str, track: str, muted: bool, now: int) -> list[Event]: ...

    def subscribe(self, participant: str, track: str, now: int) -> list[Event]: ...

    def unsubscribe(self, participant: str, track: str, now: int) -> list[Event]: ...

    def keyframe(self, participant: str, track: str, now: int) -> None: ...

    def leave(self, participant: str, reason: str, now: int) -> list[Event]: ...

    def plane_event(self, event: PlaneEvent, now: int) -> list[Event]: ...

    def tick(self, now: int) -> list[Event]: ...

    def deadline(self) -> int | None: ...

    def close(self, now: int) -> list[Event]: ...
