"""A scripted peer of the engine: real ICE checks, SRTP and SRTCP, with keys that the test hands to both ends."""

from __future__ import annotations

import random
from collections.abc import Mapping

from mediaserver.sfu.stream.engine import Engine
from mediaserver.sfu.stream.params import Address
from mediaserver.sfu.wire import packet, stun
from mediaserver.sfu.wire.srtp import PROFILE_AEAD_AES_128_GCM, SrtpSession

KEY_SIZE, SALT_SIZE = 16, 12


class ScriptedPeer:
    """One peer at `addr`. `received` and `reports` hold the plain RTP and RTCP that reached it."""

    def __init__(self, engine: Engine, number: int, addr: Address, seed: int = 1) -> None:
        self.engine = engine
        self.number = number
        self.addr = addr
        draw = random.Random(seed * 1000 + number)
        self.ufrag, self.pwd = f"ufrag{number:03d}", f"password-password-{number:06d}"
        self.keys = [draw.randbytes(KEY_SIZE + SALT_SIZE) for _ in range(2)]
        self.profile = PROFILE_AEAD_AES_128_GCM
        self.received: list[bytes] = []
        self.reports: list[bytes] = []
        self.stun: list[stun.Stun] = []
        self.dtls: list[bytes] = []
        self._random = draw
        self._to_server = SrtpSession(self.profile, self.keys[0][:KEY_SIZE], self.keys[0][KEY_SIZE:])
        self._from_server = SrtpSession(self.profile, self.keys[1][:KEY_SIZE], self.keys[1][KEY_SIZE:])

    def join(self, now: int) -> None:
        """Make the peer known, pass a check and set the keys."""
        self.engine.add_peer(self.number, self.ufrag, self.pwd)
        self.check(now, nominate=True)
        self.agree()

    def agree(self, flight: tuple[bytes, ...] = ()) -> None:
        """Set the keys. `flight`: the datagrams that end the handshake."""
        self.engine.set_keys(
            self.number,
            self.profile,
            self.keys[0][:KEY_SIZE],
            self.keys[0][KEY_SIZE:],
            self.keys[1][:KEY_SIZE],
            self.keys[1][KEY_SIZE:],
            flight,
        )

    def check_request(self, *, nominate: bool = False, ufrag: str | None = None, pwd: str | None = None) -> bytes:
        """A binding request as a controlling agent sends it (RFC 8445, section 7.2.2)."""
        return stun.write_request(
            self._random.randbytes(12),
            f"{ufrag or self.ufrag}:remote".encode(),
            (pwd or self.pwd).encode(),
            priority=1853824767,
            role=stun.StunRole.STUN_CONTROLLING,
            tie_breaker=self.number,
            use_candidate=nominate,
        )

    def check(self, now: int, *, nominate: bool = False) -> None:
        self.engine.receive(self.check_request(nominate=nominate), self.addr, now)

    def send(self, plain: bytes, now: int, roc: int = 0) -> None:
        """One plain RTP packet, protected."""
        self.engine.receive(self._to_server.protect(plain, roc), self.addr, now)

    def protect(self, plain: bytes, roc: int = 0) -> bytes:
        return self._to_server.protect(plain, roc)

    def send_rtcp(self, plain: bytes, now: int) -> None:
        self.engine.receive(self._to_server.protect_rtcp(plain), self.addr, now)

    def take(self, datagram: bytes) -> None:
        """A datagram from the server. Every one must verify; a replay raises."""
        kind = packet.classify(datagram)
        if kind == packet.DemuxKind.DEMUX_STUN:
            assert stun.verify(datagram, self.pwd.encode()) or stun.parse(datagram).error_code in (400, 401)
            self.stun.append(stun.parse(datagram))
        elif kind == packet.DemuxKind.DEMUX_DTLS:
            self.dtls.append(datagram)
        elif packet.looks_like_rtcp(datagram):
            self.reports.append(self._from_server.unprotect_rtcp(datagram))
        else:
            self.received.append(self._from_server.unprotect(datagram))


def deliver(engine: Engine, peers: Mapping[Address, ScriptedPeer] | list[ScriptedPeer]) -> None:
    """Hand everything that the engine sends to its peer."""
    if isinstance(peers, list):
        peers = {peer.addr: peer for peer in peers}
    for datagram, addr in engine.transmits():
        if addr in peers:
            peers[addr].take(datagram)
