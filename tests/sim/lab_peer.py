"""A peer of the engine at the end of a line."""

from __future__ import annotations

from mediaserver.sfu.stream.engine import Engine
from mediaserver.sfu.stream.params import Address
from mediaserver.sfu.wire import stun
from mediaserver.sfu.wire.srtp import SrtpError
from tests.sim.network import MS, Link
from tests.sim.peer import KEY_SIZE, ScriptedPeer

CHECK_EVERY = 2_500 * MS
CHECK_AGAIN = 50 * MS
REPLAYED = -3


class LabPeer(ScriptedPeer):
    """Sends by `up` and receives by `down`; its checks measure the round trip. `deadline` says when `tick` is due.
    `wake` is its last answer, which whoever calls `tick` or `receive` keeps up to date. `told`: what the server thought
    of the line to it (time, its estimate, what it gave out of that, both in bit/s). `shakes_hands`: there are no keys
    before a check has passed, as with DTLS."""

    shakes_hands = False

    def __init__(self, engine: Engine, number: int, addr: Address, seed: int, up: Link, down: Link) -> None:
        super().__init__(engine, number, addr, seed)
        self.up, self.down = up, down
        self.round_trip = 0
        self.connected_at = 0
        self.wake = 0
        self.replays = 0
        self.told: list[tuple[int, int, int]] = []
        self._next_check = 0
        self._checked: dict[bytes, int] = {}

    def start(self, now: int) -> None:
        """Make the peer known with its keys, and begin to check."""
        self.engine.add_peer(self.number, self.ufrag, self.pwd)
        if not self.shakes_hands:
            self._agree()
        self._next_check = now
        self.tick(now)

    def _agree(self) -> None:
        inbound, outbound = self.keys
        self.engine.set_keys(
            self.number,
            self.profile,
            inbound[:KEY_SIZE],
            inbound[KEY_SIZE:],
            outbound[:KEY_SIZE],
            outbound[KEY_SIZE:],
        )

    def move(self, addr: Address, now: int) -> None:
        """To another address: a network switch."""
        self.addr = addr
        self._next_check = now

    def post(self, plain: bytes, now: int, roc: int = 0) -> None:
        """A plain RTP packet on its way to the server."""
        self.up.offer(self._to_server.protect(plain, roc), self.addr, now)

    def post_rtcp(self, plain: bytes, now: int) -> None:
        self.up.offer(self._to_server.protect_rtcp(plain), self.addr, now)

    def deadline(self) -> int:
        return self._next_check

    def tick(self, now: int) -> None:
        """Do what is due."""
        if now < self._next_check:
            return
        request = self.check_request(nominate=True)
        self._checked[request[8:20]] = now
        self.up.offer(request, self.addr, now)
        self._next_check = now + (CHECK_EVERY if self.connected_at else CHECK_AGAIN)

    def receive(self, datagram: bytes, now: int) -> None:
        """A datagram from the server at `now`."""
        if 128 <= datagram[0] <= 191:  # RFC 7983
            if 192 <= datagram[1] <= 223:
                self.receive_rtcp(self._from_server.unprotect_rtcp(datagram), now)
            else:
                self._receive_rtp(datagram, now)
        elif datagram[0] <= 3:
            self._receive_stun(datagram, now)

    def _receive_rtp(self, datagram: bytes, now: int) -> None:
        try:
            plain = self._from_server.unprotect(datagram)
        except SrtpError as error:
            if error.code != REPLAYED:
                raise
            self.replays += 1  # sent again byte by byte, and what it stood in for was only late
            return
        self.receive_rtp(plain, now)

    def _receive_stun(self, datagram: bytes, now: int) -> None:
        asked = self._checked.get(datagram[8:20])
        if asked is None or not stun.verify(datagram, self.pwd.encode()):
            return
        round_trip = now - asked
        self._checked.clear()
        self.round_trip = (7 * self.round_trip + round_trip) // 8 if self.round_trip else round_trip
        if not self.connected_at:
            self.connected_at = now
            if self.shakes_hands:
                self._agree()
            self.connected(now)

    def connected(self, now: int) -> None:
        """The first check has been answered."""

    def receive_rtp(self, plain: bytes, now: int) -> None:
        """A plain RTP packet from the server."""

    def receive_rtcp(self, plain: bytes, now: int) -> None:
        """A plain RTCP compound from the server."""
