"""A consultation in virtual time: a room on the real engine, whole clients, and a network with delay and loss.

Nothing is told to both ends by the test: a client learns everything from the answer and from what reaches it, and runs
ICE checks, DTLS and SRTP as a browser does.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from mediaserver.sfu.session.dtls import DtlsSession, State
from mediaserver.sfu.session.events import Event
from mediaserver.sfu.session.ids import Ids
from mediaserver.sfu.session.model import Role
from mediaserver.sfu.session.planes import FixedSite
from mediaserver.sfu.session.room import Negotiated, Room
from mediaserver.sfu.session.settings import RoomPolicy, SessionSettings
from mediaserver.sfu.stream.engine import Engine
from mediaserver.sfu.stream.params import Address
from mediaserver.sfu.wire import packet, stun
from mediaserver.sfu.wire.packet import ExtKind
from mediaserver.sfu.wire.sdp import Media, parse
from mediaserver.sfu.wire.srtp import SrtpSession
from tests.sfu.session.harness import ALL_RIGHTS, CANDIDATES, SECOND, identity
from tests.sfu.session.offers import Line, make_offer

MS = 1000
CHECK_EVERY = 2_500 * MS
VP8_KEY = bytes([0x10, 0x00, 0x00, 0x00, 0x9D, 0x01, 0x2A, 0x80, 0x02, 0xE0, 0x01]) + bytes(200)  # 640x480
VP8_DELTA = bytes([0x10, 0x01, 0x00, 0x00]) + bytes(200)
OPUS_20_MS = bytes([0x78]) + bytes(60)
RTX = (97, 99)  # payload types of retransmissions, see tests.sfu.session.offers


class World:
    """The clock, the network, the engine and the room. `lost(datagram)` drops; `delay` is one way, in µs."""

    def __init__(self, *, seed: int = 1, delay: int = 20 * MS, policy: RoomPolicy | None = None) -> None:
        self.now = 10 * SECOND
        self.rng = random.Random(seed)
        self.engine = Engine(seed=self.rng.randbytes(16))
        self.ids: Ids[Any] = Ids(self.rng.randbytes)
        settings = SessionSettings(identity=identity(), candidates=CANDIDATES)
        self.room = Room("room", FixedSite(self.engine, settings), self.ids, policy or RoomPolicy())
        self.delay = delay
        self.lost: Callable[[bytes], bool] = lambda datagram: False
        self.clients: dict[str, Client] = {}
        self.events: list[Event] = []
        self._way: list[tuple[int, int, Callable[[], None]]] = []
        self._number = 0

    def loss(self, share: float) -> None:
        """From now on lose this share of all datagrams."""
        self.lost = lambda datagram: self.rng.random() < share

    def client(self, name: str, *, role: Role = Role.DOCTOR, certificate: int = 1) -> Client:
        """Somebody joins."""
        self.engine.advance(self.now)
        self.events += self.room.join(name, role=role, rights=ALL_RIGHTS, name=name, now=self.now)
        self.clients[name] = Client(self, name, ("198.51.100.1", 1024 + self._next()), certificate)
        return self.clients[name]

    def leave(self, name: str) -> None:
        self.events += self.room.leave(name, "left", self.now)
        del self.clients[name]
        self.turn()

    def run(self, us: int, until: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass, at most `us`; whether `until` came to hold."""
        end = self.now + us
        self.turn()
        while not until():
            times = [self.engine.deadline(), self.room.deadline(), self._way[0][0] if self._way else None]
            times += [client.deadline() for client in self.clients.values()]
            next_time = min((time for time in times if time is not None), default=end)
            if next_time >= end:
                self.now = end
                self.turn()
                return until()
            self.now = max(self.now + 1, next_time)
            self.turn()
        return True

    def turn(self) -> None:
        """Everything that is due now."""
        while self._way and self._way[0][0] <= self.now:
            heapq.heappop(self._way)[2]()
        self.engine.advance(self.now)
        self.events += self.room.tick(self.now)
        for client in list(self.clients.values()):
            client.tick()
        self.settle()

    def settle(self) -> None:
        """What the engine reports goes to the room, what it sends on its way, until there is nothing more."""
        while reports := self.engine.poll_events():
            for report in reports:
                assert self.ids.owner(report.id) is self.room
                self.events += self.room.plane_event(report, self.now)
            self.engine.advance(self.now)
        for datagram, address in self.engine.transmits():
            self._post(datagram, lambda datagram=datagram, address=address: self._arrive(datagram, address))

    def send(self, datagram: bytes, source: Address) -> None:
        """From a client to the server."""
        self._post(datagram, lambda: self.engine.receive(datagram, source, self.now))

    def _arrive(self, datagram: bytes, address: Address) -> None:
        for client in list(self.clients.values()):
            if client.address == address:
                client.take(datagram)

    def _post(self, datagram: bytes, arrive: Callable[[], None]) -> None:
        if not self.lost(datagram):
            heapq.heappush(self._way, (self.now + self.delay, self._next(), arrive))

    def _next(self) -> int:
        self._number += 1
        return self._number


class Client:
    """A peer connection. `received`: ssrc -> plain packets. It sends while `sending`, 50 packets of sound and 25
    pictures a second on each line."""

    def __init__(self, world: World, name: str, address: Address, certificate: int) -> None:
        self.world, self.name, self.address = world, name, address
        self.certificate = certificate
        self.ufrag = f"u{world._next():06d}"
        self.session = world._next()
        self.lines: list[Line] = []
        self.sending = True
        self.received: dict[int, list[bytes]] = {}
        self.counts: Counter[int] = Counter()
        self.replayed = 0
        self.answer: list[Media] = []
        self.dtls: DtlsSession | None = None
        self.checked = False
        self._credentials = ("", "")
        self._next_check: int | None = None
        self._next_packet: int | None = None
        self._sequences: Counter[int] = Counter()
        self._ticks = 0
        self._keyframe = True

    # Signalling

    def offer(self, *lines: Line, publish: Any = None, subscribe: Any = None) -> Negotiated:
        """Offer these m-lines (or the same again) and take the answer."""
        self.lines = list(lines) or self.lines
        text = make_offer(*self.lines, ufrag=self.ufrag, session=self.session, client=self.certificate)
        now = self.world.now
        done = self.world.room.offer(self.name, text, publish=publish or {}, subscribe=subscribe or {}, now=now)
        self.world.events += done.events
        self.answer = parse(done.answer).media
        transport = self.answer[0].transport
        if self._credentials != (transport.ufrag, transport.pwd):
            self._credentials = (transport.ufrag, transport.pwd)
            self._next_check = now
        if self.dtls is None:
            self.dtls = DtlsSession(identity(self.certificate), transport.fingerprints, client=True)
        self.world.settle()
        return done

    def restart_ice(self) -> Negotiated:
        self.ufrag = f"r{self.world._next():06d}"
        return self.offer()

    @property
    def connected(self) -> bool:
        return self.dtls is not None and self.dtls.state is State.ESTABLISHED

    # Datagrams

    def take(self, datagram: bytes) -> None:
        assert self.dtls is not None
        kind = packet.classify(datagram)
        if kind == packet.DemuxKind.DEMUX_STUN:
            if stun.verify(datagram, self._credentials[1].encode()) and not self.checked:
                self.checked = True
                self._send(self.dtls.start(self.world.now))
        elif kind == packet.DemuxKind.DEMUX_DTLS:
            self._send(self.dtls.receive(datagram, self.world.now))
            self._start_media()
        elif self.connected and packet.looks_like_rtcp(datagram):
            plain = self._inbound.unprotect_rtcp(datagram)
            self._keyframe |= plain[1] in (192, 206) or b"\x81\xce" in plain
        elif self.connected:
            self._receive(self._inbound.unprotect(datagram))

    def _receive(self, plain: bytes) -> None:
        header = packet.parse_rtp(plain)
        if header.payload_type in RTX:
            return
        self.counts[header.ssrc] += 1
        kept = self.received.setdefault(header.ssrc, [])
        kept.append(plain)
        del kept[:-500]

    def _start_media(self) -> None:
        assert self.dtls is not None
        keys = self.dtls.keys
        if keys is not None and self._next_packet is None:
            self._outbound = SrtpSession(keys.profile, keys.tx_key, keys.tx_salt)
            self._inbound = SrtpSession(keys.profile, keys.rx_key, keys.rx_salt)
            self._next_packet = self.world.now

    def _send(self, datagrams: list[bytes]) -> None:
        for datagram in datagrams:
            self.world.send(datagram, self.address)

    # Time

    def deadline(self) -> int | None:
        times = [self._next_check, self.dtls.deadline if self.dtls is not None else None]
        times.append(self._next_packet if self.sending else None)
        return min((time for time in times if time is not None), default=None)

    def tick(self) -> None:
        now = self.world.now
        if self.dtls is None:
            return
        if self._next_check is not None and now >= self._next_check:
            self._check()
            self._next_check = now + (CHECK_EVERY if self.checked else 50 * MS)
        self._send(self.dtls.tick(now))
        if self.sending and self._next_packet is not None and now >= self._next_packet:
            self._next_packet = now + 20 * MS
            self._publish()

    def _check(self) -> None:
        ufrag, pwd = self._credentials
        request = stun.write_request(
            self.world.rng.randbytes(12),
            f"{ufrag}:{self.ufrag}".encode(),
            pwd.encode(),
            priority=1853824767,
            role=stun.StunRole.STUN_CONTROLLING,
            tie_breaker=1,
            use_candidate=True,
        )
        self.world.send(request, self.address)

    def _publish(self) -> None:
        self._ticks += 1
        for line, media in zip(self.lines, self.answer, strict=True):
            if not media.receives or not media.formats:
                continue
            if line.kind == "audio":
                self._rtp(line, media, OPUS_20_MS, self._ticks * 960)
            elif self._ticks % 2 == 0:
                self._rtp(line, media, VP8_KEY if self._keyframe else VP8_DELTA, self._ticks * 1800)
        if self._ticks % 2 == 0:
            self._keyframe = False

    def _rtp(self, line: Line, media: Media, payload: bytes, timestamp: int) -> None:
        ids: Mapping[int, int] = {
            one.id: packet.EXT_URIS[one.uri] for one in media.extensions if one.uri in packet.EXT_URIS
        }
        ids = {id_: kind for id_, kind in ids.items() if kind == ExtKind.EXT_MID}
        plain = packet.write_rtp(
            payload_type=next(iter(media.formats)),
            marker=True,
            sequence=self._sequences[line.ssrc] & 0xFFFF,
            timestamp=timestamp & 0xFFFFFFFF,
            ssrc=line.ssrc,
            extensions=packet.write_extensions({ExtKind.EXT_MID: media.mid.encode()}, ids),
            payload=payload,
        )
        self.world.send(self._outbound.protect(plain, self._sequences[line.ssrc] >> 16), self.address)
        self._sequences[line.ssrc] += 1
