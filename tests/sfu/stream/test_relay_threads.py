"""Three workers on their threads, each with a publisher, that share packets while everything comes and goes.

What a viewer gets must be what was sent, and in the end every packet must be back where it came from. Under a
sanitizer (`MEDIASERVER_SANITIZE`, see setup.py) it finds what is used after it was given back, and what two threads
touch at once. RELAY_SECONDS says for how long.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from mediaserver.sfu.session.ids import Ids
from mediaserver.sfu.session.planes import RoomPlanes
from mediaserver.sfu.stream.params import EventKind
from mediaserver.sfu.stream.worker import Worker
from mediaserver.sfu.wire import packet, rtcp_packets
from mediaserver.sfu.wire.rtcp_packets import Nack, PictureLoss
from tests.sfu.stream.test_engine import VIDEO, VP8_DELTA, VP8_KEY, leg
from tests.sfu.stream.test_worker import Client

WORKERS = 3
VIEWERS = 4  # of each worker
BURST = 12
SECONDS = float(os.environ.get("RELAY_SECONDS", "2"))


def payload_of(number: int) -> bytes:
    """A key picture now and then; what follows its head can be told from its number."""
    head = VP8_KEY if number % 50 == 0 else VP8_DELTA
    return head[:11] + number.to_bytes(4, "big") * 100


class Publisher(threading.Thread):
    """Sends bursts until it is stopped."""

    def __init__(self, client: Client) -> None:
        super().__init__(daemon=True)
        self.client = client
        self.over = threading.Event()
        self.sent = 0

    def run(self) -> None:
        while not self.over.wait(0.004):
            for _ in range(BURST):
                plain = packet.write_rtp(
                    payload_type=96,
                    marker=True,
                    sequence=self.sent & 0xFFFF,
                    timestamp=self.sent * 3000 & 0xFFFFFFFF,
                    ssrc=1234,
                    payload=payload_of(self.sent),
                )
                with contextlib.suppress(OSError):
                    self.client.socket.send(self.client.peer.protect(plain, self.sent >> 16))
                self.sent += 1

    def stop(self) -> None:
        self.over.set()
        self.join()


class Stress:
    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.ids: Ids[Any] = Ids(self.chance.randbytes)
        self.planes = RoomPlanes(self.ids, self)
        self.workers = [Worker(("127.0.0.1", 0), memory=1 << 26, adapts=False) for _ in range(WORKERS)]
        for worker in self.workers:
            worker.start()
        self.publishers = [Publisher(self.client(worker)) for worker in self.workers]
        self.viewers = [self.client(worker) for worker in self.workers for _ in range(VIEWERS)]
        self.tracks: list[int] = [self.track(number) for number in range(WORKERS)]
        self.legs: dict[int, tuple[int, int, int]] = {}
        """viewer, track and SSRC"""
        self.checked = 0
        self.crossed = 0

    def client(self, worker: Worker) -> Client:
        number = self.ids.claim(self)
        self.planes.place(number, worker)
        made = Client(worker, number, "127.0.0.1")
        made.join()
        made.socket.setblocking(False)
        return made

    def track(self, number: int) -> int:
        claimed = self.ids.claim(self)
        self.planes.add_track(claimed, self.publishers[number].client.peer.number, VIDEO)
        return claimed

    def churn(self, seconds: float) -> None:
        for publisher in self.publishers:
            publisher.start()
        acts = (self.join, self.join, self.join, self.leave, self.ask, self.ask, self.mute, self.again, self.read)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.chance.choice(acts)()
            self.hear()
        for publisher in self.publishers:
            publisher.stop()
        self.read()

    # What happens

    def join(self) -> None:
        if len(self.legs) > 3 * len(self.viewers):
            return
        viewer, track = self.chance.randrange(len(self.viewers)), self.chance.choice(self.tracks)
        number, ssrc = self.ids.claim(self), self.ids.ssrc()
        self.planes.add_leg(number, track, self.viewers[viewer].peer.number, leg(ssrc, self.ids.ssrc()))
        self.legs[number] = (viewer, track, ssrc)

    def leave(self) -> None:
        if self.legs and self.chance.random() < 0.5:
            number = self.chance.choice(list(self.legs))
            del self.legs[number]
            self.planes.remove_leg(number)

    def ask(self) -> None:
        if not self.legs:
            return
        viewer, _, ssrc = self.legs[self.chance.choice(list(self.legs))]
        first = self.chance.randrange(65536)
        lost = Nack(1, ssrc, tuple((first + i) & 0xFFFF for i in range(20)))
        item = self.chance.choice((lost, PictureLoss(1, ssrc)))
        client = self.viewers[viewer]
        with contextlib.suppress(OSError):
            client.socket.send(client.peer._to_server.protect_rtcp(rtcp_packets.write(item)))

    def mute(self) -> None:
        if self.chance.random() < 0.1:
            self.planes.mute_track(self.chance.choice(self.tracks), self.chance.random() < 0.3)

    def again(self) -> None:
        """A track ends, and another one of the same publisher begins."""
        if self.chance.random() < 0.05:
            number = self.chance.randrange(WORKERS)
            track = self.tracks[number]
            for one in [one for one, (_, of, _) in self.legs.items() if of == track]:
                del self.legs[one]
                self.planes.remove_leg(one)
            self.planes.remove_track(track)
            self.tracks[number] = self.track(number)

    def read(self) -> None:
        for client in self.viewers:
            while True:
                try:
                    datagram = client.socket.recv(2048)
                except BlockingIOError:
                    break
                if packet.looks_like_rtcp(datagram):
                    continue
                client.peer.received.clear()
                client.peer.take(datagram)
                for plain in client.peer.received:
                    self.check(plain)

    def check(self, plain: bytes) -> None:
        body = packet.payload_of(plain)
        if packet.parse_rtp(plain).payload_type == 103:  # RTX: the number comes first
            body = body[2:]
        if body:
            assert body == payload_of(int.from_bytes(body[11:15], "big"))
            self.checked += 1

    def hear(self) -> None:
        for worker in self.workers:
            for event in worker.poll_events():
                # A viewer has only so many numbers in its life; here it may come to their end.
                assert event.kind is not EventKind.REFUSED or b"SSRC" in event.data, event
                if event.kind is EventKind.REMOVED:
                    self.ids.release(event.id)
                    self.planes.forget(event.id)

    # The end

    def held(self) -> list[int]:
        return [worker.counters()["packets_held"] for worker in self.workers]

    def end(self) -> None:
        for client in (*self.viewers, *(publisher.client for publisher in self.publishers)):
            self.planes.remove_peer(client.peer.number)
        deadline = time.monotonic() + 20
        while (len(self.ids) or any(self.held())) and time.monotonic() < deadline:
            self.hear()
            time.sleep(0.02)
        assert self.held() == [0] * WORKERS
        assert len(self.ids) == 0

    def close(self) -> None:
        for publisher in self.publishers:
            publisher.over.set()
        for worker in self.chance.sample(self.workers, WORKERS):
            worker.stop()
        for client in (*self.viewers, *(publisher.client for publisher in self.publishers)):
            client.socket.close()


@pytest.fixture
def stress() -> Iterator[Stress]:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    made = Stress(seed)
    yield made
    made.close()


def test_packets_that_three_workers_share(stress: Stress) -> None:
    stress.churn(SECONDS)
    counters = [worker.counters() for worker in stress.workers]
    stress.end()
    assert stress.checked > 100
    assert sum(one["relay_taken"] for one in counters) > 100


def test_workers_end_while_packets_are_on_their_way() -> None:
    """In any order, with rings that nobody reads any more."""
    for seed in range(3):
        stress = Stress(seed)
        for _ in range(20):
            stress.join()
        for publisher in stress.publishers:
            publisher.start()
        time.sleep(0.1)
        stress.close()
        for publisher in stress.publishers:
            publisher.join()
