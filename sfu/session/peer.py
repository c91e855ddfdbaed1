"""One participant: who it is, its transport, and its m-lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mediaserver.sfu.session.dtls import DtlsSession, State
from mediaserver.sfu.session.handshake import Handshake, Outcome
from mediaserver.sfu.session.ice import Credentials
from mediaserver.sfu.session.model import Kind, ParticipantInfo, Right, Role, SubscribeAll, TransportState, Wish
from mediaserver.sfu.session.negotiate import Agreed, AgreedExtension
from mediaserver.sfu.session.planes import Site
from mediaserver.sfu.session.track import Leg, Track
from mediaserver.sfu.stream.params import Plane


@dataclass(slots=True)
class Line:
    """An m-line as it was last agreed: what the participant sends on it and what it gets.

    `slot` says that the server fills it with what the room has (WHEP); `agreed` is what the viewer can take;
    `named` that it tells of packets by their own numbers (RFC 8888).
    """

    mid: str
    kind: Kind
    agreed: Sequence[Agreed] = ()
    extensions: Sequence[AgreedExtension] = ()
    slot: bool = False
    named: bool = False
    track: Track | None = None
    leg: Leg | None = None


class Remote(NamedTuple):
    """The transport that the offer describes. `session`: the sess-id of its origin line, one for the life of a peer
    connection (RFC 9429, section 5.2.1). `passive`: the peer waits for our ClientHello."""

    session: str
    credentials: Credentials
    fingerprints: tuple[tuple[str, str], ...]
    passive: bool

    def continues(self, before: Remote) -> bool:
        """Whether this is the peer connection of `before`, perhaps after an ICE restart; else it is another one."""
        same = self.session == before.session and self.fingerprints == before.fingerprints
        return same or self.credentials == before.credentials


class Transport:
    """The peer connection: ICE credentials of both sides, DTLS, and what the data plane is told of them."""

    def __init__(self, plane_id: int, plane: Plane, local: Credentials, described: Remote, dtls: DtlsSession) -> None:
        self.plane_id = plane_id
        self.local = local
        self.described = described
        self.dtls = dtls
        self.state = TransportState.NEW
        self._plane = plane
        self._keys_given = False
        plane.add_peer(plane_id, local.ufrag, local.pwd)
        plane.set_remote(plane_id, *described.credentials)

    @property
    def remote(self) -> Credentials:
        """The peer's ICE credentials."""
        return self.described.credentials

    def restart(self, local: Credentials, remote: Credentials) -> None:
        """ICE restart (RFC 8445, section 9)."""
        self.local = local
        self.described = self.described._replace(credentials=remote)
        self._plane.restart_peer(self.plane_id, local.ufrag, local.pwd)
        self._plane.set_remote(self.plane_id, *remote)

    def connected(self, now: int) -> bool:
        """The path carries. True when that is news."""
        news = self.state is TransportState.NEW
        if news:
            self.state = TransportState.CONNECTING
        self._send(self.dtls.start(now))
        return news

    def receive(self, datagram: bytes, now: int) -> bool:
        """A DTLS datagram. True when the state has changed."""
        return self._settle(self.dtls.receive(datagram, now))

    def finish(self, engine: Handshake, outcome: Outcome, now: int) -> bool:
        """The desk has carried out a step of the handshake. True when the state has changed."""
        return self._settle(self.dtls.finish(engine, outcome, now))

    def tick(self, now: int) -> bool:
        """Handshake timers. True when the state has changed."""
        return self._settle(self.dtls.tick(now))

    def close(self) -> None:
        self._send(self.dtls.close())
        self.state = TransportState.CLOSED
        self._plane.remove_peer(self.plane_id)

    def _send(self, datagrams: Sequence[bytes]) -> None:
        for datagram in datagrams:
            self._plane.send_dtls(self.plane_id, datagram)

    def _settle(self, datagrams: Sequence[bytes]) -> bool:
        before = self.state
        if self.dtls.keys is not None and not self._keys_given:
            # With the last flight: whoever gets it may send at once, and can open nothing before.
            self._keys_given = True
            self._plane.set_keys(self.plane_id, *self.dtls.keys, tuple(datagrams))
            self.state = TransportState.CONNECTED
        else:
            self._send(datagrams)
        if self.dtls.state in (State.CLOSED, State.FAILED):
            self.state = TransportState.CLOSED
        return self.state is not before


@dataclass(slots=True)
class Participant:
    """Somebody in the room. `joined` and `offered` (the first offer of the present peer connection) are µs; `offered`
    is None before it. `began` is `joined`, but for later peer connections their offer. `media_only`: leaves with its
    peer connection."""

    id: str
    name: str
    role: Role
    rights: frozenset[Right]
    hidden: bool
    joined: int
    offered: int | None = None
    session_id: int = 0
    version: int = 0
    media_only: bool = False
    began: int = field(init=False)
    transport: Transport | None = None
    site: Site | None = None
    """where its present peer connection is, or its last"""
    subscribe_all: SubscribeAll | None = None
    lines: dict[str, Line] = field(default_factory=dict)
    wishes: dict[str, Wish] = field(default_factory=dict)
    """by track; they outlive the leg"""

    def __post_init__(self) -> None:
        self.began = self.joined

    @property
    def info(self) -> ParticipantInfo:
        return ParticipantInfo(self.id, self.name, self.role, self.hidden)

    @property
    def state(self) -> TransportState:
        return self.transport.state if self.transport is not None else TransportState.NEW

    def tracks(self) -> list[Track]:
        """What it publishes."""
        return [line.track for line in self.lines.values() if line.track is not None]

    def legs(self) -> list[Leg]:
        """What it gets."""
        return [line.leg for line in self.lines.values() if line.leg is not None]

    def leg_of(self, track: Track) -> Leg | None:
        return next((leg for leg in self.legs() if leg.track is track), None)
