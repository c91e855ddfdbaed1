"""The data planes of one room as one: each peer is on a worker, and a track goes to those on others by a copy there.

A viewer has one peer connection, so a peer is on one worker as a whole, and so are the tracks that it publishes and the
legs that it gets. Where a leg's peer and its track are on different workers the leg hangs on a copy of the track
(`Plane.add_mirror`), one for all legs of that worker; it goes with the last of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from mediaserver.sfu.session.ids import Ids
from mediaserver.sfu.session.settings import SessionSettings
from mediaserver.sfu.stream.params import LegParams, Plane, PlaneEvent, TrackParams
from mediaserver.sfu.stream.tap import TapRing


class Site(Protocol):
    """A worker as a room sees it."""

    @property
    def plane(self) -> Plane: ...

    @property
    def settings(self) -> SessionSettings:
        """How it is reached, as of now."""


class FixedSite(NamedTuple):
    """A worker that is reached as it always was."""

    plane: Plane
    settings: SessionSettings


Places = Callable[[str], Site]
"""The worker of a participant, by its id."""


class _Mirror:
    def __init__(self, number: int, plane: Plane) -> None:
        self.number = number
        self.plane = plane
        self.legs: set[int] = set()


class _Track:
    def __init__(self, peer: int, plane: Plane, params: TrackParams) -> None:
        self.peer = peer
        self.plane = plane
        self.params = params
        self.muted = False
        self.gone = False
        self.mirrors: dict[int, _Mirror] = {}
        """by the `id` of their plane"""
        self.past: Mapping[str, Any] | None = None
        """What mirrors that are gone have served, a Spread."""


class _Leg(NamedTuple):
    plane: Plane
    track: int
    mirrored: bool


class RoomPlanes:
    """A `Plane` that hands each command to the worker that it is for. It forgets an id when `forget` is called, after
    REMOVED was told of it: what was counted can be read until then."""

    def __init__(self, ids: Ids[Any], owner: object) -> None:
        self._ids = ids
        self._owner = owner
        self._peers: dict[int, Plane] = {}
        self._tracks: dict[int, _Track] = {}
        self._legs: dict[int, _Leg] = {}
        self._taps: dict[int, Plane] = {}

    def place(self, peer: int, plane: Plane) -> None:
        """The worker of a peer that is about to be added."""
        self._peers[peer] = plane

    def forget(self, number: int) -> None:
        """The data plane has nothing more of that id."""
        self._peers.pop(number, None)
        self._tracks.pop(number, None)
        self._legs.pop(number, None)
        self._taps.pop(number, None)

    @property
    def mirrors(self) -> int:
        """Copies of tracks on other workers."""
        return sum(len(track.mirrors) for track in self._tracks.values())

    # Peers

    def add_peer(self, peer: int, ufrag: str, pwd: str) -> None:
        self._peers[peer].add_peer(peer, ufrag, pwd)

    def restart_peer(self, peer: int, ufrag: str, pwd: str) -> None:
        if plane := self._peers.get(peer):
            plane.restart_peer(peer, ufrag, pwd)

    def set_remote(self, peer: int, ufrag: str, pwd: str) -> None:
        if plane := self._peers.get(peer):
            plane.set_remote(peer, ufrag, pwd)

    def set_keys(
        self,
        peer: int,
        profile: int,
        rx_key: bytes,
        rx_salt: bytes,
        tx_key: bytes,
        tx_salt: bytes,
        flight: Sequence[bytes] = (),
    ) -> None:
        if plane := self._peers.get(peer):
            plane.set_keys(peer, profile, rx_key, rx_salt, tx_key, tx_salt, flight)

    def send_dtls(self, peer: int, datagram: bytes) -> None:
        if plane := self._peers.get(peer):
            plane.send_dtls(peer, datagram)

    def remove_peer(self, peer: int) -> None:
        for track in self._tracks.values():
            if track.peer == peer:
                self._end_mirrors(track)
        if plane := self._peers.get(peer):
            plane.remove_peer(peer)

    # Tracks

    def add_track(self, track: int, peer: int, params: TrackParams) -> None:
        plane = self._peers[peer]
        self._tracks[track] = _Track(peer, plane, params)
        plane.add_track(track, peer, params)

    def add_mirror(self, mirror: int, track: int, home: Plane, params: TrackParams) -> None:
        raise TypeError("a room makes the copies of its tracks by itself")

    def update_track(self, track: int, params: TrackParams) -> None:
        if known := self._tracks.get(track):
            known.params = params
            known.plane.update_track(track, params)
            for mirror in known.mirrors.values():
                mirror.plane.update_track(mirror.number, params)

    def mute_track(self, track: int, muted: bool) -> None:
        if known := self._tracks.get(track):
            known.muted = muted
            known.plane.mute_track(track, muted)
            for mirror in known.mirrors.values():
                mirror.plane.mute_track(mirror.number, muted)

    def remove_track(self, track: int) -> None:
        if known := self._tracks.get(track):
            self._end_mirrors(known)
            known.plane.remove_track(track)

    def request_keyframe(self, track: int) -> None:
        if known := self._tracks.get(track):
            known.plane.request_keyframe(track)
            for mirror in known.mirrors.values():
                mirror.plane.request_keyframe(mirror.number)

    # Legs

    def add_leg(self, leg: int, track: int, peer: int, params: LegParams) -> None:
        plane = self._peers[peer]
        known = self._tracks.get(track)
        mirrored = known is not None and known.plane is not plane and not known.gone
        self._legs[leg] = _Leg(plane, track, mirrored)
        if known is None or not mirrored:
            plane.add_leg(leg, track, peer, params)
            return
        mirror = known.mirrors.get(id(plane)) or self._mirror(track, known, plane)
        mirror.legs.add(leg)
        plane.add_leg(leg, mirror.number, peer, params)

    def update_leg(self, leg: int, params: LegParams) -> None:
        if known := self._legs.get(leg):
            known.plane.update_leg(leg, params)

    def pause_leg(self, leg: int, paused: bool) -> None:
        if known := self._legs.get(leg):
            known.plane.pause_leg(leg, paused)

    def remove_leg(self, leg: int) -> None:
        known = self._legs.get(leg)
        if known is None:
            return
        known.plane.remove_leg(leg)
        track = self._tracks.get(known.track)
        mirror = track.mirrors.get(id(known.plane)) if track is not None and known.mirrored else None
        if track is None or mirror is None:
            return
        mirror.legs.discard(leg)
        if not mirror.legs:
            self._end_mirror(track, mirror)

    # Taps

    def add_tap(self, tap: int, track: int, ring: TapRing, *, from_now: bool = True) -> None:
        """At home: nobody is nearer to the publisher."""
        plane = self._taps[tap] = self._tracks[track].plane
        plane.add_tap(tap, track, ring, from_now=from_now)

    def remove_tap(self, tap: int) -> None:
        if plane := self._taps.get(tap):
            plane.remove_tap(tap)

    # What is heard back

    def poll_events(self) -> list[PlaneEvent]:
        raise TypeError("the events of a worker are of many rooms")

    def counters(self) -> Mapping[str, int]:
        raise TypeError("the counters of a worker are of many rooms")

    def track_stats(self, track: int) -> Mapping[str, Any]:
        """`served` is of all workers."""
        known = self._tracks.get(track)
        if known is None:
            return {}
        stats = dict(known.plane.track_stats(track))
        if stats:
            others = (mirror.plane.track_stats(mirror.number).get("served") for mirror in known.mirrors.values())
            for served in (known.past, *others):
                stats["served"] = _added(stats["served"], served)
        return stats

    def leg_stats(self, leg: int) -> Mapping[str, Any]:
        known = self._legs.get(leg)
        return known.plane.leg_stats(leg) if known is not None else {}

    def peer_stats(self, peer: int) -> Mapping[str, int]:
        plane = self._peers.get(peer)
        return plane.peer_stats(peer) if plane is not None else {}

    # Copies

    def _mirror(self, number: int, track: _Track, plane: Plane) -> _Mirror:
        mirror = track.mirrors[id(plane)] = _Mirror(self._ids.claim(self._owner), plane)
        plane.add_mirror(mirror.number, number, track.plane, track.params)
        if track.muted:
            plane.mute_track(mirror.number, True)
        return mirror

    def _end_mirror(self, track: _Track, mirror: _Mirror) -> None:
        track.past = _added(track.past, mirror.plane.track_stats(mirror.number).get("served"))
        del track.mirrors[id(mirror.plane)]
        mirror.plane.remove_track(mirror.number)

    def _end_mirrors(self, track: _Track) -> None:
        track.gone = True
        for mirror in list(track.mirrors.values()):
            self._end_mirror(track, mirror)


def _added(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Two spreads as one."""
    if one is None or other is None:
        return one or other
    return {
        "sum": one["sum"] + other["sum"],
        "most": max(one["most"], other["most"]),
        "counts": [a + b for a, b in zip(one["counts"], other["counts"], strict=True)],
    }
