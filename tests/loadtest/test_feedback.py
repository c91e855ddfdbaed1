"""What a viewer of the swarm tells of the packets that come, as the other end reads it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import AsyncIterator

import pytest

from mediaserver.codecs.payload import Codec
from mediaserver.loadtest.connect import connect
from mediaserver.loadtest.dtls import Identity
from mediaserver.loadtest.offer import Answer, Credentials
from mediaserver.loadtest.peers import PeerParams, ReceiverParams
from mediaserver.loadtest.swarm import Swarm
from mediaserver.sfu.wire.packet import ExtKind
from mediaserver.sfu.wire.rtcp_packets import TransportFeedback, read
from mediaserver.sfu.wire.srtp import SrtpSession
from tests.loadtest.answerer import Answerer
from tests.loadtest.running import asynchronous

SOUND = 111
SSRC = 21


class Publisher:
    """Sends packets with transport-wide numbers, and keeps what it is told of them."""

    def __init__(self, bound: socket.socket, tx: SrtpSession, rx: SrtpSession) -> None:
        self._socket, self._tx, self._rx = bound, tx, rx
        self._sequence = 0
        self.told: dict[int, list[bool]] = {}
        """By transport-wide number, whether it had come, as each feedback said."""
        self.feedback: list[TransportFeedback] = []
        self.octets = 0

    def send(self, number: int, size: int = 100) -> None:
        header = struct.pack("!BBHII", 0x90, SOUND, self._sequence, self._sequence * 960, SSRC)
        extension = struct.pack("!HHBHx", 0xBEDE, 1, 0x21, number & 0xFFFF)
        self._socket.send(self._tx.protect(header + extension + bytes(size)))
        self._sequence += 1

    async def listen(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    datagram = await loop.sock_recv(self._socket, 2048)
                    if 192 <= datagram[1] <= 223:
                        self._take(datagram)

    def _take(self, datagram: bytes) -> None:
        for packet in read(self._rx.unprotect_rtcp(datagram)):
            if isinstance(packet, TransportFeedback):
                self.feedback.append(packet)
                self.octets += len(datagram) + 28
                for place, delta in enumerate(packet.deltas):
                    self.told.setdefault((packet.base + place) & 0xFFFF, []).append(delta is not None)


@contextlib.asynccontextmanager
async def publishing() -> AsyncIterator[tuple[Publisher, Swarm]]:
    """Somebody who sends to a viewer of a swarm."""
    identity, credentials, swarm = Identity(), Credentials.make(), Swarm()
    answerer = Answerer(identity)
    there = answerer.credentials
    answer = Answer(there.ufrag, there.password, identity.fingerprint, "passive", (answerer.address,), ())
    connected, (keys, ice) = await asyncio.gather(
        connect(answer, credentials, identity), answerer.accept(credentials, identity.fingerprint)
    )
    receiver = ReceiverParams(0, "a", False, 48_000, SSRC)
    codecs, extensions = ((SOUND, Codec.CODEC_OPUS),), ((2, ExtKind.EXT_TWCC),)
    swarm.start()
    try:
        swarm.add_peer(1, answerer.socket, PeerParams(keys, ice, codecs, extensions, receivers=(receiver,)))
        own = connected.keys
        yield (
            Publisher(
                connected.socket,
                SrtpSession(own.profile, own.tx_key, own.tx_salt),
                SrtpSession(own.profile, own.rx_key, own.rx_salt),
            ),
            swarm,
        )
    finally:
        swarm.close()
        connected.socket.close()


@asynchronous
async def test_what_came_is_told_and_what_did_not_is_too() -> None:
    """Over the end of the sequence numbers, and one that comes after it was called lost is taken back."""
    async with publishing() as (publisher, swarm):
        sent = [number & 0xFFFF for number in range(65500, 65570)]
        for number in sent:
            if number not in (65510, 3):
                publisher.send(number)
        await publisher.listen(0.4)
        assert {number for number, told in publisher.told.items() if told[-1]} == set(sent) - {65510, 3}
        assert publisher.told[65510] == [False]
        publisher.send(3)
        await publisher.listen(0.4)
        assert publisher.told[3][-1] is True
        assert publisher.told[65510] == [False]
        assert [packet.feedback_count for packet in publisher.feedback] == list(range(len(publisher.feedback)))
        totals = swarm.totals()
        assert totals.feedbacks == len(publisher.feedback)
        assert totals.feedback_octets >= publisher.octets


@asynchronous
async def test_arrivals_are_spaced_as_the_packets_were() -> None:
    async with publishing() as (publisher, _):
        began = time.monotonic()
        publisher.send(1)
        await asyncio.sleep(0.03)
        publisher.send(2)
        took = (time.monotonic() - began) * 1e6
        await publisher.listen(0.4)
    deltas = [delta for packet in publisher.feedback for delta in packet.deltas if delta is not None]
    assert len(deltas) == 2
    # Both in one feedback: the second delta is the time between them, in units of 250 us.
    if len(publisher.feedback) == 1:
        assert 29_000 <= deltas[1] * 250 <= took + 5_000


@pytest.mark.parametrize("size", [1000, 60])
@asynchronous
async def test_feedback_is_neither_more_often_nor_more_than_it_may_be(size: int) -> None:
    """400 kbit/s are told of every 50 ms at most, 38 kbit/s so rarely that 5 % are kept to."""
    async with publishing() as (publisher, swarm):
        began = time.monotonic()
        for number in range(50):
            publisher.send(number, size)
            await publisher.listen(0.02)
        count, totals = len(publisher.feedback), swarm.totals()
        assert 2 <= count <= (time.monotonic() - began) / 0.05 + 1
        received = totals.received_octets + 28 * totals.received
        # The first ones go by guesses.
        assert totals.feedback_octets < 0.05 * received + 400
