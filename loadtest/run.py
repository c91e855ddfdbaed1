"""A load test from the first join to the last: let everyone in, measure, stop the senders, collect, leave."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Literal

import aiohttp
import msgspec

from mediaserver.loadtest.connect import ConnectError, Holds
from mediaserver.loadtest.histogram import HistogramView, merge
from mediaserver.loadtest.join import Gate, Joined, JoinError
from mediaserver.loadtest.measure import ProcessSample, scrape
from mediaserver.loadtest.offer import AnswerError
from mediaserver.loadtest.peers import PeerStats, ReceiverStats, SourceTimes, Totals
from mediaserver.loadtest.scenario import SOURCES, LoadSettings, StreamMedia
from mediaserver.loadtest.signalling import SignallingError
from mediaserver.loadtest.storm import Storm, StormFigures
from mediaserver.loadtest.swarm import Swarm
from mediaserver.loadtest.target import Target

DRAIN_SECONDS = 0.5
JOIN_SECONDS = 30.0
STORM_SECONDS = 300.0
"""The same for a storm, in which everybody waits for everybody."""
FAILURES = (JoinError, ConnectError, SignallingError, AnswerError, aiohttp.ClientError, OSError, TimeoutError)

Enter = Callable[[str, str, list[StreamMedia]], Awaitable[list[Joined]]]
StormEnter = Callable[[str, str, list[StreamMedia], Holds], Coroutine[None, None, list[Joined]]]


class Second(msgspec.Struct, frozen=True):
    """What one second of the measured part showed. Times in ns; `server_cpu` in parts of one core."""

    elapsed: float
    sent: int
    received: int
    received_octets: int
    dropped: int
    latency_p50: int
    latency_p99: int
    lateness_p99: int
    server_cpu: float | None


class Leg(msgspec.Struct, frozen=True):
    """One stream at one viewer, from its first packet to the end. `unseen` packets left the cart after the last one
    that arrived; `first_frame_ms` counts from when the viewer began to join (in a storm, from when its transport was
    up), None when no picture came."""

    room: str
    viewer: int
    source: str
    received: int
    lost: int
    unseen: int
    repaired: int
    duplicates: int
    refused: int
    frames: int
    frames_per_second: float
    first_frame_ms: float | None
    longest_gap_ms: float
    mean_latency_ms: float | None
    worst_latency_ms: float | None


class Outcome(msgspec.Struct, frozen=True):
    """All that a run has measured, before anybody judges it. `counters` is what the server's metrics grew by."""

    settings: LoadSettings
    streams: list[StreamMedia]
    seconds: float
    joined: list[Joined]
    refused: list[str]
    gone: list[str]
    legs: list[Leg]
    totals: Totals
    times: dict[str, SourceTimes]
    before: ProcessSample | None
    after: ProcessSample | None
    counters: dict[str, float]
    timeline: list[Second]
    retransmitted: int
    keyframe_requests: int
    storm: StormFigures | None = None


class LoadRun:
    """One run against one target. `tell` hears the stages in words, and every second."""

    def __init__(
        self, settings: LoadSettings, target: Target, streams: list[StreamMedia], tell: Callable[[Second | str], None]
    ) -> None:
        self._settings = settings
        self._target = target
        self._streams = streams
        self._tell = tell
        self._swarm = Swarm(spin=settings.spin)
        self._joined: list[Joined] = []
        self._refused: list[str] = []
        self._storm: Storm | None = None
        self._releases: dict[int, int] = {}

    async def run(self) -> Outcome:
        timeout = aiohttp.ClientTimeout(total=STORM_SECONDS if self._settings.storm else JOIN_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as http:
            self._swarm.start()
            try:
                await self._let_all_in(Gate(http, self._target.url, self._swarm, verify=self._settings.verify))
                await asyncio.sleep(self._settings.settle_seconds)
                return await self._measure(http)
            finally:
                await self._leave()
                self._swarm.close()

    # Joining

    async def _let_all_in(self, gate: Gate) -> None:
        settings = self._settings
        by_socket = settings.join == "ws"
        rooms = [settings.room or f"load-{number}" for number in range(settings.carts)]
        self._tell(f"{settings.carts} carts join")
        await self._let_in(gate.cart if by_socket else gate.whip_cart, "cart", rooms)
        self._tell(f"{settings.viewers} viewers join each cart")
        if settings.storm:
            await self._let_in_at_once(gate.viewer if by_socket else gate.whep_viewer, rooms[0])
        else:
            await self._let_in(gate.viewer if by_socket else gate.whep_viewer, "doctor", rooms * settings.viewers)

    async def _let_in_at_once(self, enter: StormEnter, room: str) -> None:
        settings = self._settings
        if not self._joined:
            return  # no cart has come in
        storm = self._storm = Storm(settings.viewers, settings.at_once, settings.storm_seconds)
        cart = self._joined[0].number
        watch = asyncio.create_task(storm.watch(lambda: self._swarm.peer(cart).senders[0]))

        async def one() -> None:
            token = self._target.token(room, "doctor")
            try:
                async with asyncio.timeout(STORM_SECONDS):
                    came, released = await storm.admit(lambda holds: enter(room, token, self._streams, holds))
            except FAILURES as error:
                self._refused.append(f"doctor of {room}: {error or type(error).__name__}")
                return
            self._joined += came
            self._releases |= dict.fromkeys((joined.number for joined in came), released)

        try:
            await asyncio.gather(*(one() for _ in range(settings.viewers)))
            await storm.settle()
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    async def _let_in(self, enter: Enter, role: Literal["cart", "doctor"], rooms: list[str]) -> None:
        places = asyncio.Semaphore(self._settings.at_once)

        async def one(room: str) -> None:
            async with places:
                try:
                    async with asyncio.timeout(JOIN_SECONDS):
                        self._joined += await enter(room, self._target.token(room, role), self._streams)
                except FAILURES as error:
                    self._refused.append(f"{role} of {room}: {error or type(error).__name__}")

        await asyncio.gather(*map(one, rooms))

    async def _leave(self) -> None:
        places = asyncio.Semaphore(self._settings.at_once)

        async def one(joined: Joined) -> None:
            # The server may be gone by now; the run is over either way.
            async with places:
                with contextlib.suppress(*FAILURES):
                    async with asyncio.timeout(5):
                        await joined.leave()
            self._swarm.remove_peer(joined.number)

        await asyncio.gather(*map(one, self._joined))

    # Measuring

    async def _measure(self, http: aiohttp.ClientSession) -> Outcome:
        settings, target, swarm = self._settings, self._target, self._swarm
        self._tell(f"measuring for {settings.seconds:g} s")
        counters = await scrape(http, target.url, verify=settings.verify)
        before = self._sample()
        swarm.restart_counts()
        began = time.monotonic()
        timeline = [second async for second in self._seconds(began, before)]
        seconds = time.monotonic() - began
        totals, times, after = swarm.totals(), self._times(), self._sample()
        later = await scrape(http, target.url, verify=settings.verify)
        swarm.halt()
        halted = time.monotonic_ns()
        await asyncio.sleep(DRAIN_SECONDS)
        stats = {joined.number: swarm.peer(joined.number) for joined in self._joined}
        senders = [sender for peer in stats.values() for sender in peer.senders]
        return Outcome(
            settings=settings,
            streams=self._streams,
            seconds=seconds,
            joined=self._joined,
            refused=self._refused,
            gone=[_how_gone(joined, stats) for joined in self._joined if stats[joined.number].end],
            legs=self._legs(stats, halted),
            totals=totals,
            times=times,
            before=before,
            after=after,
            counters={name: value - counters.get(name, 0.0) for name, value in later.items()},
            timeline=timeline,
            retransmitted=sum(sender.retransmitted for sender in senders),
            keyframe_requests=sum(sender.keyframe_requests for sender in senders),
            storm=self._storm_figures(stats),
        )

    def _storm_figures(self, stats: dict[int, PeerStats]) -> StormFigures | None:
        if self._storm is None:
            return None
        return self._storm.figures(
            [
                (self._releases[joined.number], joined.up_ns, stats[joined.number].receivers[0].first_frame)
                for joined in self._joined
                if joined.number in self._releases
            ]
        )

    async def _seconds(self, began: float, sample: ProcessSample | None) -> AsyncIterator[Second]:
        """Tell of each second of the measured part."""
        totals, latency = self._swarm.totals(), self._latency()
        moment = began
        for number in range(1, max(1, round(self._settings.seconds)) + 1):
            end = began + number * self._settings.seconds / max(1, round(self._settings.seconds))
            await asyncio.sleep(end - time.monotonic())
            earlier, earlier_latency, earlier_sample, earlier_moment = totals, latency, sample, moment
            totals, latency, sample, moment = self._swarm.totals(), self._latency(), self._sample(), time.monotonic()
            recent = latency.since(earlier_latency)
            cpu = None
            if sample is not None and earlier_sample is not None:
                cpu = (sample.cpu_seconds - earlier_sample.cpu_seconds) / (moment - earlier_moment)
            second = Second(
                elapsed=moment - began,
                sent=totals.sent - earlier.sent,
                received=totals.received - earlier.received,
                received_octets=totals.received_octets - earlier.received_octets,
                dropped=totals.dropped - earlier.dropped,
                latency_p50=recent.percentile(50),
                latency_p99=recent.percentile(99),
                lateness_p99=totals.sender_lateness.since(earlier.sender_lateness).percentile(99),
                server_cpu=cpu,
            )
            self._tell(second)
            yield second

    def _sample(self) -> ProcessSample | None:
        return self._target.process.sample() if self._target.process else None

    def _times(self) -> dict[str, SourceTimes]:
        played = {stream.source for stream in self._streams}
        return {source: self._swarm.times(number) for number, source in enumerate(SOURCES) if source in played}

    def _latency(self) -> HistogramView:
        return merge(times.latency for times in self._times().values())

    def _legs(self, stats: dict[int, PeerStats], halted: int) -> list[Leg]:
        published = {
            (joined.room, source): (joined.number, position)
            for joined in self._joined
            if joined.role == "cart"
            for position, source in enumerate(joined.sources)
        }
        return [
            self._leg(joined, source, receiver, published.get((joined.room, source)), halted)
            for joined in self._joined
            if joined.role == "viewer"
            for source, receiver in zip(joined.sources, stats[joined.number].receivers, strict=True)
        ]

    def _leg(
        self, joined: Joined, source: str, stats: ReceiverStats, published: tuple[int, int] | None, halted: int
    ) -> Leg:
        unseen = self._swarm.sent_since(*published, stats.last_stamp) if published and stats.stamped else 0
        began = joined.up_ns if self._settings.storm else joined.began_ns
        playing = (halted - stats.first_frame) / 1e9 if stats.first_frame else 0.0
        return Leg(
            room=joined.room,
            viewer=joined.number,
            source=source,
            received=stats.received,
            lost=stats.lost + stats.missing,
            unseen=unseen,
            repaired=stats.repaired,
            duplicates=stats.duplicates,
            refused=stats.refused,
            frames=stats.frames,
            frames_per_second=stats.frames / playing if playing > 0 else 0.0,
            first_frame_ms=(stats.first_frame - began) / 1e6 if stats.first_frame else None,
            longest_gap_ms=stats.longest_gap / 1e6,
            mean_latency_ms=stats.mean_latency / 1e6 if stats.stamped else None,
            worst_latency_ms=stats.worst_latency / 1e6 if stats.stamped else None,
        )


def _how_gone(joined: Joined, stats: dict[int, PeerStats]) -> str:
    return f"{joined.role} {joined.number} of {joined.room}: {stats[joined.number].end.name.lower()}"
