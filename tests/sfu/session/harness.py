"""What the tests of sessions share: a data plane that keeps what it was told, seeded ids, a room, and clients."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

from mediaserver.sfu.session.dtls import DtlsSession, Identity, State
from mediaserver.sfu.session.ids import Ids
from mediaserver.sfu.session.model import Right, Role
from mediaserver.sfu.session.planes import FixedSite
from mediaserver.sfu.session.room import Room
from mediaserver.sfu.session.settings import RoomPolicy, SessionSettings
from mediaserver.sfu.stream.params import EventKind, PlaneEvent

SECOND = 1_000_000
ALL_RIGHTS = frozenset({Right.PUBLISH, Right.SUBSCRIBE})
CANDIDATES = (("192.0.2.1", 40000), ("2001:db8::1", 40000))


@cache
def identity(number: int = 0) -> Identity:
    """A certificate for tests; each number has its own."""
    return Identity.generate(datetime(2026, 11, 1, tzinfo=UTC))


class RecordingPlane:
    """Takes every command of `Plane` and keeps it as (name, *arguments)."""

    def __init__(self) -> None:
        self.commands: list[tuple[Any, ...]] = []
        self.stats: dict[int, Mapping[str, int]] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *arguments: self.commands.append((name, *arguments))

    def take(self) -> list[tuple[Any, ...]]:
        """What came since the last call."""
        commands, self.commands = self.commands, []
        return commands

    def named(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of the commands of one name."""
        return [command[1:] for command in self.commands if command[0] == name]

    def poll_events(self) -> Sequence[PlaneEvent]:
        return ()

    def counters(self) -> Mapping[str, int]:
        return {}

    def leg_stats(self, leg: int) -> Mapping[str, Any]:
        return self.stats.get(leg, {})


def make_room(seed: int = 1, policy: RoomPolicy | None = None, plane: Any = None) -> tuple[Room, Any]:
    """A room on a recording plane, its randomness from the seed."""
    plane = plane if plane is not None else RecordingPlane()
    settings = SessionSettings(identity=identity(), candidates=CANDIDATES)
    ids: Ids[Room] = Ids(random.Random(seed).randbytes)
    return Room("room", FixedSite(plane, settings), ids, policy or RoomPolicy()), plane


def join(room: Room, *names: str, role: Role = Role.DOCTOR, now: int = 0, media_only: bool = False) -> None:
    for name in names:
        room.join(name, role=role, rights=ALL_RIGHTS, name=name.title(), now=now, media_only=media_only)


def report(kind: EventKind, id_: int, value: int = 0, data: bytes = b"", time: int = 0) -> PlaneEvent:
    return PlaneEvent(kind, id_, value, data, time)


def dtls_sent(commands: list[tuple[Any, ...]]) -> list[bytes]:
    """The DTLS datagrams of these commands; the last flight goes with the keys."""
    sent: list[bytes] = []
    for name, *arguments in commands:
        if name == "send_dtls":
            sent.append(arguments[1])
        elif name == "set_keys":
            sent += arguments[-1]
    return sent


_clients: WeakKeyDictionary[DtlsSession, DtlsSession] = WeakKeyDictionary()


def connect(room: Room, plane: RecordingPlane, name: str, client_identity: Identity, now: int = 0) -> list[Any]:
    """Let the participant's ICE pass and shake hands in DTLS; the events of it. The offer must have carried the
    fingerprint of `client_identity` and setup:actpass or active."""
    transport = room.participants[name].transport
    assert transport is not None
    client = DtlsSession(client_identity, [("sha-256", identity().fingerprint)], client=True)
    _clients[transport.dtls] = client
    events = list(room.plane_event(report(EventKind.CONNECTED, transport.plane_id), now))
    out = client.start(now)
    while out:
        before = len(plane.commands)
        for datagram in out:
            events += room.plane_event(report(EventKind.DTLS, transport.plane_id, 0, datagram), now)
        sent = dtls_sent(plane.commands[before:])
        out = [answer for datagram in sent for answer in client.receive(datagram, now)]
    assert client.state is State.ESTABLISHED
    return events


def close_notify(server: DtlsSession) -> bytes:
    """What the client of `connect` sends to end this session."""
    [datagram] = _clients[server].close()
    return datagram


def with_fingerprint(sdp: str, fingerprint: str) -> str:
    """The offer with another certificate's fingerprint."""
    lines = sdp.split("\r\n")
    return "\r\n".join(
        f"a=fingerprint:sha-256 {fingerprint}" if line.startswith("a=fingerprint:") else line for line in lines
    )
