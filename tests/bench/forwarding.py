"""One run of one load against the server or the bare loop, with the load test's swarm at both: JSON to standard output.

    python -m tests.bench.forwarding server|bare|patient PROFILE CARTS VIEWERS SECONDS [--library auto|openssl]

The two see the same packets at the same times through the same sockets, and are read by the same polling thread.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from mediaserver.codecs.payload import codec_from_name
from mediaserver.loadtest.generator import Options, play
from mediaserver.loadtest.histogram import HistogramView, merge
from mediaserver.loadtest.measure import Process, ProcessSample
from mediaserver.loadtest.media import Library
from mediaserver.loadtest.offer import CODECS
from mediaserver.loadtest.peers import OPEN_EVERY, IceParams, Keys, PeerParams, ReceiverParams, SenderParams
from mediaserver.loadtest.scenario import SOURCES, Scenario, of_profile
from mediaserver.loadtest.swarm import Swarm
from mediaserver.loadtest.target import own_server
from mediaserver.sfu.wire import gcm
from mediaserver.sfu.wire.packet import ExtKind
from mediaserver.sfu.wire.srtp import PROFILE_AEAD_AES_128_GCM

SETTLE_SECONDS = 1.0
SOCKET_BUFFER = 8 << 20
_DATAGRAMS, _MESSAGES = "mediaserver_plane_datagrams_out_total", "mediaserver_plane_messages_out_total"
_TICKS = os.sysconf("SC_CLK_TCK")
_EXTENSIONS = ((1, int(ExtKind.EXT_MID)), (2, int(ExtKind.EXT_TWCC)), (3, int(ExtKind.EXT_ABS_CAPTURE_TIME)))


class Cpu(msgspec.Struct, frozen=True):
    """CPU of one thread: all to the nanosecond, user and system in clock ticks."""

    seconds: float
    user: float
    system: float


class Run(msgspec.Struct, frozen=True):
    """What one run has shown. CPU is in µs a forwarded packet: of the forwarding thread, and of the whole process with
    its control plane. Latencies are in ms, from when a packet really left the publisher. `generator_lost` datagrams did
    not leave the generator or found no room at its sockets; `refused` participants were not let
    in, the first for the reason `refusal`."""

    kind: str
    library: str
    seconds: float
    packets_in: float
    packets_out: float
    thread_us: float
    user_us: float
    system_us: float
    process_us: float
    latency_ms: dict[str, float]
    lost: int
    sent: int
    generator_late_ms: float
    generator_lost: int = 0
    refused: int = 0
    refusal: str = ""
    resident_mib: float = 0.0
    messages: float = 0.0
    """datagrams of one message to the kernel, on average"""


def thread_cpu(pid: int, tid: int) -> Cpu:
    """Raises OSError when it is gone."""
    task = Path(f"/proc/{pid}/task/{tid}")
    fields = (task / "stat").read_text().rpartition(")")[2].split()
    run_time = int((task / "schedstat").read_text().split()[0])
    return Cpu(run_time / 1e9, int(fields[11]) / _TICKS, int(fields[12]) / _TICKS)


class WatchedSample(ProcessSample, frozen=True):
    """By thread as well."""

    tasks: dict[int, Cpu] = msgspec.field(default_factory=dict)


class WatchedProcess(Process):
    """Keeps what each thread took."""

    def sample(self) -> ProcessSample:
        whole = super().sample()
        tasks = {}
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            with contextlib.suppress(OSError, IndexError):
                tasks[int(task.name)] = thread_cpu(self.pid, int(task.name))
        return WatchedSample(*(getattr(whole, name) for name in ProcessSample.__struct_fields__), tasks)


def busiest(before: dict[int, Cpu], after: dict[int, Cpu]) -> Cpu:
    """What the thread took that took the most."""
    spent = [
        Cpu(cpu.seconds - earlier.seconds, cpu.user - earlier.user, cpu.system - earlier.system)
        for tid, cpu in after.items()
        if (earlier := before.get(tid)) is not None
    ]
    return max(spent, key=lambda cpu: cpu.seconds)


def percentiles(histogram: HistogramView) -> dict[str, float]:
    return {f"p{rank:g}": histogram.percentile(rank) / 1e6 for rank in (50, 99, 99.9)}


def split(cpu: Cpu) -> tuple[float, float]:
    """User and system seconds: the exact sum, divided as the ticks are."""
    ticks = cpu.user + cpu.system
    user = cpu.user / ticks if ticks else 0.5
    return cpu.seconds * user, cpu.seconds * (1 - user)


async def measure_server(scenario: Scenario, library: str, settings: dict[str, str]) -> Run:
    """A server of its own with one worker."""
    environment = {"MEDIASERVER_MEDIA_SRTP_LIBRARY": library, **settings}
    async with own_server(1, scenario.record, environment) as target:
        assert target.process is not None
        watched = msgspec.structs.replace(target, process=WatchedProcess(target.process.pid))
        outcome = await play(scenario, watched, lambda _: None, Options(spin=True))
    before, after, part = outcome.before, outcome.after, outcome.part
    assert isinstance(before, WatchedSample)
    assert isinstance(after, WatchedSample)
    thread = busiest(before.tasks, after.tasks)
    user, system = split(thread)
    packets = max(1, part.totals.received)
    latency = merge(times.latency for times in part.times.values())
    return Run(
        kind="server",
        library=library,
        seconds=part.seconds,
        packets_in=part.totals.sent / part.seconds,
        packets_out=packets / part.seconds,
        thread_us=thread.seconds * 1e6 / packets,
        user_us=user * 1e6 / packets,
        system_us=system * 1e6 / packets,
        process_us=(after.cpu_seconds - before.cpu_seconds) * 1e6 / packets,
        latency_ms=percentiles(latency),
        lost=sum(leg.lost for leg in part.legs),
        sent=packets,
        generator_late_ms=part.totals.sender_lateness.percentile(99) / 1e6,
        generator_lost=part.totals.send_failures + part.totals.dropped,
        refused=len(part.refused),
        refusal=part.refused[0] if part.refused else "",
        resident_mib=after.resident_bytes / 2**20,
        messages=outcome.counters.get(_DATAGRAMS, 0) / max(1, outcome.counters.get(_MESSAGES, 0)),
    )


def open_socket(port: int | None = None) -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for option in (32, 33):  # SO_SNDBUFFORCE, SO_RCVBUFFORCE
        with contextlib.suppress(PermissionError):
            opened.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER)
    opened.setblocking(False)
    opened.bind(("127.0.0.1", 0))
    if port is not None:
        opened.connect(("127.0.0.1", port))
    return opened


class Link:
    """A peer of the bare loop, with the keys of both directions; the loop uses one of them."""

    def __init__(self, port: int) -> None:
        self.socket = open_socket(port)
        self.key, self.salt, self.ssrc = secrets.token_bytes(16), secrets.token_bytes(12), secrets.randbits(32) | 1

    def for_loop(self) -> tuple[int, bytes, bytes, int]:
        return self.socket.getsockname()[1], self.key, self.salt, self.ssrc

    def params(
        self, codec: int, extensions: tuple[tuple[int, int], ...], senders: tuple[Any, ...], receivers: tuple[Any, ...]
    ) -> PeerParams:
        keys = Keys(PROFILE_AEAD_AES_128_GCM, self.key, self.salt, self.key, self.salt)
        ice = IceParams("bare", "bare", "bare")
        return PeerParams(
            keys, ice, ((codec, 0),), extensions, senders=senders, receivers=receivers, open_every=OPEN_EVERY
        )


@contextlib.contextmanager
def bare_loop(scenario: Scenario, swarm: Swarm, library: str, *, patient: bool) -> Iterator[Any]:
    """The loop with everyone of the scenario in the swarm. Each source of a cart is a peer of its own."""
    from tests.bench.build import load

    inside = open_socket()
    port = inside.getsockname()[1]
    clips = Library()
    group = scenario.groups[0]
    viewers = sum(part.count for part in group.viewers)
    rows, players = [], []
    for cart in range(scenario.consultations):
        streams = clips.streams(group)
        for position, stream in enumerate(streams):
            codec, source = CODECS[stream.codec], SOURCES.index(stream.source)
            publisher, watchers = Link(port), [Link(port) for _ in range(viewers)]
            rows.append((publisher.for_loop(), [watcher.for_loop() for watcher in watchers]))
            phase = (cart * 0.618034 + position / len(streams)) % 1.0
            sender = SenderParams(stream.clip, source, "0", publisher.ssrc, codec.payload_type, phase=phase)
            players.append((publisher, codec, stream, (sender,), ()))
            for watcher in watchers:
                receiver = ReceiverParams(source, "0", stream.video, stream.clock_rate, watcher.ssrc, nack=False)
                players.append((watcher, codec, stream, (), (receiver,)))
    gcm.choose(library)
    loop = load("bare").Bare(inside.fileno(), rows, patient)
    gcm.choose("auto")  # the swarm is the same in every run
    loop.start()
    for number, (link, codec, stream, senders, receivers) in enumerate(players, 1):
        # As the server does, the loop sends sound alone without transport-wide numbers, and gets no feedback on it.
        extensions = tuple(one for one in _EXTENSIONS if stream.video or one[1] != ExtKind.EXT_TWCC)
        params = link.params(codec.payload_type, extensions, senders, receivers)
        codecs = ((codec.payload_type, int(codec_from_name(stream.codec))),)
        swarm.add_peer(number, link.socket, msgspec.structs.replace(params, codecs=codecs))
    try:
        yield loop
    finally:
        loop.stop()
        inside.close()


def measure_bare(scenario: Scenario, library: str, *, patient: bool) -> Run:
    swarm = Swarm(spin=True)
    swarm.start()
    try:
        with bare_loop(scenario, swarm, library, patient=patient) as loop:
            time.sleep(SETTLE_SECONDS)
            swarm.restart_counts()
            began, before, counted = time.monotonic(), thread_cpu(os.getpid(), loop.native_id), loop.counts()
            time.sleep(scenario.seconds)
            after, counts, seconds = thread_cpu(os.getpid(), loop.native_id), loop.counts(), time.monotonic() - began
            swarm.halt()
            time.sleep(0.1)
            totals = swarm.totals()
            each = [swarm.times(SOURCES.index(source)) for source in scenario.groups[0].sources]
    finally:
        swarm.close()
    thread = Cpu(after.seconds - before.seconds, after.user - before.user, after.system - before.system)
    user, system = split(thread)
    came, left, messages = (late - early for late, early in zip(counts[:3], counted[:3], strict=True))
    return Run(
        kind="patient" if patient else "bare",
        library=library,
        seconds=seconds,
        packets_in=came / seconds,
        packets_out=left / seconds,
        thread_us=thread.seconds * 1e6 / left,
        user_us=user * 1e6 / left,
        system_us=system * 1e6 / left,
        process_us=thread.seconds * 1e6 / left,
        latency_ms=percentiles(merge(times.latency for times in each)),
        lost=max(0, left - totals.received),
        sent=left,
        generator_late_ms=totals.sender_lateness.percentile(99) / 1e6,
        messages=left / max(1, messages),
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.forwarding", description=__doc__.split("\n")[0])
    parser.add_argument("kind", choices=("server", "bare", "patient"))
    parser.add_argument("profile")
    parser.add_argument("carts", type=int)
    parser.add_argument("viewers", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--library", choices=("auto", "openssl"), default="auto")
    parser.add_argument(
        "--set", action="append", default=[], metavar="VARIABLE=VALUE", help="of the server's environment"
    )
    options = parser.parse_args()
    scenario = of_profile(
        options.profile, options.viewers, consultations=options.carts, seconds=options.seconds, decoded_viewers=0
    )
    if options.kind != "server":
        run = measure_bare(scenario, options.library, patient=options.kind == "patient")
    else:
        settings = dict(setting.split("=", 1) for setting in options.set)
        run = uvloop.run(measure_server(scenario, options.library, settings))
    sys.stdout.buffer.write(msgspec.json.encode(run) + b"\n")


if __name__ == "__main__":
    main()
