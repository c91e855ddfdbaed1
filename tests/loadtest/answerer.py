"""The other end for tests of the swarm: it answers checks, shakes hands as DTLS server and hands over its socket."""

from __future__ import annotations

import asyncio
import socket

from aioice import stun

from mediaserver.loadtest.connect import make_room
from mediaserver.loadtest.dtls import Handshake, Identity
from mediaserver.loadtest.offer import Credentials
from mediaserver.loadtest.peers import IceParams, Keys


class Answerer:
    """One socket on loopback that takes the first client that knows its password."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.credentials = Credentials.make()
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        make_room(self.socket)
        self.socket.bind(("127.0.0.1", 0))
        self.address: tuple[str, int] = self.socket.getsockname()

    async def accept(self, client: Credentials, fingerprint: str) -> tuple[Keys, IceParams]:
        """Serve one client until its handshake is done; the socket is then connected to it."""
        loop = asyncio.get_running_loop()
        password = self.credentials.password.encode()
        handshake = Handshake(self.identity, server=True)
        peer: tuple[str, int] | None = None
        while not handshake.done:
            datagram, sender = await loop.sock_recvfrom(self.socket, 4096)
            if datagram[0] <= 3:
                request = stun.parse_message(datagram)
                assert request.check_message_integrity(password)
                reply = stun.Message(
                    message_method=stun.Method.BINDING,
                    message_class=stun.Class.RESPONSE,
                    transaction_id=request.transaction_id,
                )
                reply.attributes["XOR-MAPPED-ADDRESS"] = sender
                reply.add_message_integrity(password)
                self.socket.sendto(bytes(reply), sender)
                peer = sender
            elif sender == peer:
                handshake.feed(datagram)
                for answer in handshake.flights():
                    self.socket.sendto(answer, sender)
        assert peer is not None
        self.socket.connect(peer)
        ice = IceParams(f"{client.ufrag}:{self.credentials.ufrag}", client.password, self.credentials.password)
        return handshake.keys(fingerprint), ice
