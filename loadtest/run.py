"""A load test from the first join to the last: let everyone in, measure, stop the senders, collect, leave."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from typing import Literal, Protocol

import aiohttp

from mediaserver.loadtest.connect import ConnectError, Holds
from mediaserver.loadtest.glass import Glass, Taped
from mediaserver.loadtest.histogram import HistogramView, merge
from mediaserver.loadtest.join import Gate, Joined, JoinError, Place
from mediaserver.loadtest.lines import Lines, LinesError, lines_process
from mediaserver.loadtest.measure import thread_seconds
from mediaserver.loadtest.media import Library, StreamMedia
from mediaserver.loadtest.offer import AnswerError
from mediaserver.loadtest.outcome import Entry, Leg, Part, Second, SkewFigures, Upstream
from mediaserver.loadtest.peers import PeerStats, ReceiverStats, SourceTimes
from mediaserver.loadtest.scenario import SOURCES, Room, Scenario, Viewers, viewers_of
from mediaserver.loadtest.signalling import SignallingError
from mediaserver.loadtest.storm import Storm, StormFigures
from mediaserver.loadtest.swarm import Swarm
from mediaserver.loadtest.target import Target

DRAIN_SECONDS = 0.5
JOIN_SECONDS = 30.0
STORM_SECONDS = 300.0
"""The same for a storm, in which everybody waits for everybody."""
FAILURES = (
    JoinError,
    ConnectError,
    SignallingError,
    AnswerError,
    LinesError,
    aiohttp.ClientError,
    OSError,
    TimeoutError,
)
PAIRS = (("microphone", "camera"), ("ultrasound", "camera"), ("stethoscope", "ultrasound"))
"""Sources whose skew is watched: sound to its picture, picture to picture."""

Tell = Callable[[Second | str], None]


class Conductor(Protocol):
    """Who lets the measured part begin, when all processes of the generator are ready, and hears of its end."""

    async def begin(self) -> None: ...

    async def end(self) -> None: ...


class LoadRun:
    """One run of some rooms against one target. `tell` hears the stages in words, and every second."""

    def __init__(
        self,
        scenario: Scenario,
        rooms: list[Room],
        target: Target,
        library: Library,
        tell: Tell,
        conductor: Conductor,
        *,
        spin: bool = False,
        verify: bool = True,
        open_every: int = 1,
    ) -> None:
        self._scenario = scenario
        self._rooms = rooms
        self._target = target
        self._library = library
        self._tell = tell
        self._conductor = conductor
        self._verify = verify
        self._open_every = open_every
        self._swarm = Swarm(spin=spin)
        self._places = asyncio.Semaphore(scenario.at_once)
        self._lines: Lines | None = None
        self._joined: dict[int, tuple[Room, Joined]] = {}
        self._carts: dict[tuple[str, str], tuple[int, int, str]] = {}
        self._visits: list[asyncio.Task[None]] = []
        self._entries: list[Entry] = []
        self._refused: list[str] = []
        self._left: list[Leg] = []
        self._gone: list[str] = []
        self._storm: Storm | None = None
        self._releases: dict[int, int] = {}
        self._glass = Glass(self._swarm)
        self._taped = _taped_rooms(rooms, scenario.decoded_viewers)

    async def run(self) -> Part:
        scenario = self._scenario
        timeout = aiohttp.ClientTimeout(total=STORM_SECONDS if scenario.storm else JOIN_SECONDS)
        async with contextlib.AsyncExitStack() as stack:
            if scenario.lines:
                self._lines = await stack.enter_async_context(lines_process(scenario.lines))
            http = await stack.enter_async_context(
                aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0))
            )
            self._swarm.watch_skew((SOURCES.index(first), SOURCES.index(second)) for first, second in PAIRS)
            self._swarm.start()
            try:
                gate = Gate(
                    http,
                    self._target.url,
                    self._swarm,
                    verify=self._verify,
                    urls=self._target.urls,
                    open_every=self._open_every,
                )
                await self._let_all_in(gate)
                if self._glass.wanted:
                    self._glass.start()  # now already: a decoder has to wait for a key picture
                await asyncio.sleep(scenario.settle_seconds)
                await self._conductor.begin()
                return await self._measure()
            finally:
                await self._leave_all()
                self._swarm.close()

    # Joining

    async def _let_all_in(self, gate: Gate) -> None:
        scenario, rooms = self._scenario, self._rooms
        if scenario.storm:
            self._tell("a cart joins")
            await self._cart(gate, rooms[0])
            await self._let_in_at_once(gate, rooms[0])
            return
        viewers = sum(len(viewers_of(room.group)) for room in rooms)
        self._tell(f"{len(rooms)} carts join, and {viewers} viewers")
        began = time.monotonic()
        if scenario.ramp_seconds:
            await asyncio.gather(*(self._open(gate, room, began) for room in rooms))
            return
        # All carts first: else late carts, with their handshakes, would fall into the first frames of early viewers.
        await asyncio.gather(*(self._cart(gate, room) for room in rooms))
        await asyncio.gather(*(self._viewers(gate, room) for room in rooms))

    async def _open(self, gate: Gate, room: Room, began: float) -> None:
        """A room at its time on the ramp."""
        share = self._rooms.index(room) / len(self._rooms)
        await asyncio.sleep(began + share * self._scenario.ramp_seconds - time.monotonic())
        await self._cart(gate, room)
        await self._viewers(gate, room)

    async def _cart(self, gate: Gate, room: Room) -> None:
        enter = gate.cart if self._scenario.join == "ws" else gate.whip_cart
        streams, place = self._streams(room), self._place(room.group.cart_line)
        joined = await self._let_in("cart", room, place, lambda token: enter(room.name, token, streams, place))
        for one in joined:
            for position, source in enumerate(one.sources):
                self._carts[room.name, source] = (one.number, position, place.line)

    async def _viewers(self, gate: Gate, room: Room) -> None:
        await asyncio.gather(
            *(self._first_visit(gate, room, viewers, at) for at, viewers in enumerate(viewers_of(room.group)))
        )

    async def _first_visit(self, gate: Gate, room: Room, viewers: Viewers, at: int) -> None:
        taped = at == 0 and room.name in self._taped
        place = self._place(viewers.line, room.group.cart_line, taped=taped)
        here = await self._viewer(gate, room, place)
        if viewers.stay_seconds:
            dice = random.Random(f"{self._scenario.seed} {room.number} {at}")
            self._visits.append(asyncio.create_task(self._come_and_go(gate, room, viewers, place, here, dice)))

    async def _come_and_go(
        self, gate: Gate, room: Room, viewers: Viewers, place: Place, here: list[Joined], dice: random.Random
    ) -> None:
        while True:
            await asyncio.sleep(dice.expovariate(1 / viewers.stay_seconds))
            for joined in here:
                await self._leave_early(joined)
            await asyncio.sleep(dice.expovariate(1 / viewers.away_seconds))
            here = await self._viewer(gate, room, place)

    async def _viewer(self, gate: Gate, room: Room, place: Place) -> list[Joined]:
        enter = gate.viewer if self._scenario.join == "ws" else gate.whep_viewer
        streams = self._streams(room)
        joined = await self._let_in("viewer", room, place, lambda token: enter(room.name, token, streams, None, place))
        if place.taped:
            self._glass.follow(self._tapes(room, joined))
        return joined

    async def _let_in(
        self,
        role: Literal["cart", "viewer"],
        room: Room,
        place: Place,
        enter: Callable[[str], Awaitable[list[Joined]]],
    ) -> list[Joined]:
        async with self._places:
            try:
                async with asyncio.timeout(JOIN_SECONDS):
                    joined = await enter(self._target.token(room.name, "cart" if role == "cart" else "doctor"))
            except FAILURES as error:
                self._refused.append(f"{role} of {room.name}: {error or type(error).__name__}")
                return []
        self._admit(room, joined)
        return joined

    def _admit(self, room: Room, joined: Iterable[Joined]) -> None:
        for one in joined:
            self._joined[one.number] = (room, one)
            self._entries.append(Entry(one.role, room.name, room.group.name, one.line, one.seconds))

    def _streams(self, room: Room) -> list[StreamMedia]:
        return self._library.streams(room.group)

    def _place(self, line: str, further: str = "", *, taped: bool = False) -> Place:
        """Behind `line`; what comes from a cart behind `further` is not the server's latency alone."""
        lines = self._lines
        through = (lambda address: lines.door(line, address)) if line and lines is not None else None
        named = "+".join(dict.fromkeys(name for name in (further, line) if name))
        return Place(named, through, direct=not named, taped=taped)

    def _tapes(self, room: Room, joined: Iterable[Joined]) -> list[Taped]:
        streams = {stream.source: stream for stream in self._streams(room)}
        return [
            Taped(one.number, position, *self._carts[room.name, source][:2], streams[source], one.line)
            for one in joined
            for position, source in enumerate(one.sources)
            if streams[source].video and (room.name, source) in self._carts
        ]

    # A storm

    async def _let_in_at_once(self, gate: Gate, room: Room) -> None:
        if not self._carts:
            return  # no cart has come in
        scenario = self._scenario
        everybody = viewers_of(room.group)
        storm = self._storm = Storm(len(everybody), scenario.at_once, scenario.storm_seconds)
        self._tell(f"{len(everybody)} viewers join")
        cart = next(iter(self._carts.values()))[0]
        watch = asyncio.create_task(storm.watch(lambda: self._swarm.peer(cart).senders[0]))
        enter = gate.viewer if scenario.join == "ws" else gate.whep_viewer
        streams = self._streams(room)

        async def one(viewers: Viewers) -> None:
            place = self._place(viewers.line, room.group.cart_line)
            token = self._target.token(room.name, "doctor")

            def come(holds: Holds) -> Coroutine[None, None, list[Joined]]:
                return enter(room.name, token, streams, holds, place)

            try:
                async with asyncio.timeout(STORM_SECONDS):
                    came, released = await storm.admit(come)
            except FAILURES as error:
                self._refused.append(f"viewer of {room.name}: {error or type(error).__name__}")
                return
            self._admit(room, came)
            self._releases |= dict.fromkeys((joined.number for joined in came), released)

        try:
            await asyncio.gather(*map(one, everybody))
            await storm.settle()
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    def _storm_figures(self, stats: dict[int, PeerStats]) -> StormFigures | None:
        if self._storm is None:
            return None
        return self._storm.figures(
            [
                (self._releases[number], joined.up_ns, stats[number].receivers[0].first_frame)
                for number, (_, joined) in self._joined.items()
                if number in self._releases
            ]
        )

    # Leaving

    async def _leave_early(self, joined: Joined) -> None:
        """Somebody goes while the others stay: what it has seen is kept."""
        room, _ = self._joined[joined.number]
        stats = self._swarm.peer(joined.number)
        self._note_end(joined, stats)
        self._left += self._legs_of(room, joined, stats, time.monotonic_ns(), ended=False)
        del self._joined[joined.number]
        self._glass.forget(joined.number)
        await self._part(joined)

    async def _leave_all(self) -> None:
        for visit in self._visits:
            visit.cancel()
        await asyncio.gather(*self._visits, return_exceptions=True)
        self._glass.stop()
        await asyncio.gather(*(self._part(joined) for _, joined in self._joined.values()))

    async def _part(self, joined: Joined) -> None:
        # The server may be gone by now; the run is over either way.
        async with self._places:
            with contextlib.suppress(*FAILURES):
                async with asyncio.timeout(5):
                    await joined.leave()
        self._swarm.remove_peer(joined.number)

    def _note_end(self, joined: Joined, stats: PeerStats) -> None:
        if stats.end:
            self._gone.append(f"{joined.role} {joined.number} of {joined.room}: {stats.end.name.lower()}")

    # Measuring

    async def _measure(self) -> Part:
        scenario, swarm = self._scenario, self._swarm
        self._tell(f"measuring for {scenario.seconds:g} s")
        swarm.restart_counts()
        self._glass.restart()
        cpu = thread_seconds(swarm.native_id)
        began, began_ns = time.monotonic(), time.monotonic_ns()
        if scenario.outage and self._lines is not None:
            swarm.mark(await self._lines.cut(scenario.outage, began_ns))
        timeline = [second async for second in self._seconds(began)]
        seconds = time.monotonic() - began
        cpu = thread_seconds(swarm.native_id) - cpu
        await self._conductor.end()
        for visit in self._visits:
            visit.cancel()
        await asyncio.gather(*self._visits, return_exceptions=True)
        totals, times, skews = swarm.totals(), self._times(), swarm.skews()
        glass = self._glass.figures()
        swarm.halt()
        halted = time.monotonic_ns()
        await asyncio.sleep(DRAIN_SECONDS)
        here = {number: swarm.peer(number) for number in self._joined}
        for number, (_, joined) in self._joined.items():
            self._note_end(joined, here[number])
        return Part(
            seconds=seconds,
            entries=self._entries,
            refused=self._refused,
            gone=self._gone,
            legs=[*self._left, *self._all_legs(here, halted)],
            upstreams=self._upstreams(here),
            totals=totals,
            times=times,
            skews=[SkewFigures(*pair, *views) for pair, views in zip(PAIRS, skews, strict=True)],
            glass=glass,
            timeline=timeline,
            lines=await self._lines.figures() if self._lines is not None else {},
            cpu_seconds=cpu,
            storm=self._storm_figures(here),
        )

    async def _seconds(self, began: float) -> AsyncIterator[Second]:
        """Tell of each second of the measured part."""
        swarm, count = self._swarm, max(1, round(self._scenario.seconds))
        totals, (latency, intended), moment = swarm.totals(), self._latencies(), began
        for number in range(1, count + 1):
            await asyncio.sleep(began + number * self._scenario.seconds / count - time.monotonic())
            earlier, earlier_latency, earlier_intended = totals, latency, intended
            totals, (latency, intended), moment = swarm.totals(), self._latencies(), time.monotonic()
            second = Second(
                elapsed=moment - began,
                sent=totals.sent - earlier.sent,
                received=totals.received - earlier.received,
                received_octets=totals.received_octets - earlier.received_octets,
                dropped=totals.dropped - earlier.dropped,
                not_sent=totals.send_failures - earlier.send_failures,
                viewers=sum(joined.role == "viewer" for _, joined in self._joined.values()),
                latency=latency.since(earlier_latency),
                intended=intended.since(earlier_intended),
                lateness=totals.sender_lateness.since(earlier.sender_lateness),
            )
            self._tell(second)
            yield second

    def _times(self) -> dict[str, SourceTimes]:
        played = {source for room in self._rooms for source in room.group.sources}
        return {source: self._swarm.times(number) for number, source in enumerate(SOURCES) if source in played}

    def _latencies(self) -> tuple[HistogramView, HistogramView]:
        times = self._times().values()
        return merge(one.latency for one in times), merge(one.intended for one in times)

    # Collecting

    def _all_legs(self, stats: dict[int, PeerStats], halted: int) -> list[Leg]:
        return [
            leg
            for number, (room, joined) in self._joined.items()
            if joined.role == "viewer"
            for leg in self._legs_of(room, joined, stats[number], halted, ended=True)
        ]

    def _legs_of(self, room: Room, joined: Joined, stats: PeerStats, until: int, *, ended: bool) -> list[Leg]:
        streams = {stream.source: stream for stream in self._streams(room)}
        pairs = zip(joined.sources, stats.receivers, strict=True)
        return [self._leg(room, joined, streams[source], receiver, until, ended=ended) for source, receiver in pairs]

    def _leg(
        self, room: Room, joined: Joined, stream: StreamMedia, stats: ReceiverStats, until: int, *, ended: bool
    ) -> Leg:
        source = stream.source
        published = self._carts.get((room.name, source))
        # Of who goes while the cart goes on, what was on its way is not lost.
        unseen = (
            self._swarm.sent_since(*published[:2], stats.last_stamp) if ended and published and stats.stamped else 0
        )
        began = joined.up_ns if self._scenario.storm else joined.began_ns
        playing = (until - stats.first_frame) / 1e9 if stats.first_frame else 0.0
        coming = (until - stats.first_packet) / 1e9 if stats.first_packet else 0.0
        sent = stream.clip.packets / stream.clip.seconds * coming
        return Leg(
            room=room.name,
            group=room.group.name,
            viewer=joined.number,
            source=source,
            line=joined.line,
            received=stats.received,
            share=min(1.0, stats.received / sent) if sent else 0.0,
            missed=stats.missed,
            lost=stats.lost + stats.missing,
            unseen=unseen,
            repaired=stats.repaired,
            duplicates=stats.duplicates,
            refused=stats.refused,
            overtaken=stats.overtaken,
            overtaken_ms=stats.overtaken_by / stats.overtaken / 1e6 if stats.overtaken else 0.0,
            frames=stats.frames,
            frames_per_second=stats.frames / playing if playing > 0 else 0.0,
            first_frame_ms=(stats.first_frame - began) / 1e6 if stats.first_frame else None,
            longest_gap_ms=stats.longest_gap / 1e6,
            freezes=stats.freezes,
            frozen_s=stats.frozen / 1e9,
            watched_s=stats.watched / 1e9,
            under_frames_s=stats.under_frames / 1e9,
            under_bits_s=stats.under_bits / 1e9,
            recovered_ms=stats.recovered / 1e6 if stats.recovered else None,
            latency_ms=percentiles(stats.latency) if stats.stamped else {},
        )

    def _upstreams(self, stats: dict[int, PeerStats]) -> list[Upstream]:
        return [
            Upstream(
                room=room.name,
                group=room.group.name,
                source=source,
                line=joined.line,
                packets=sender.packets,
                asked_again=sender.retransmitted + sender.forgotten,
                reported_lost=max(0, sender.reported_lost),
                keyframes=sender.keyframes,
                keyframe_requests=sender.keyframe_requests,
            )
            for number, (room, joined) in self._joined.items()
            if joined.role == "cart"
            for source, sender in zip(joined.sources, stats[number].senders, strict=True)
        ]


def _taped_rooms(rooms: Iterable[Room], count: int) -> set[str]:
    """The rooms with the most kinds of pictures among those that are viewed: a viewer of each is decoded."""
    viewed = [room for room in rooms if viewers_of(room.group)]
    viewed.sort(key=lambda room: -len({"ultrasound", "camera"} & set(room.group.sources)))
    return {room.name for room in viewed[:count]}


def percentiles(view: HistogramView) -> dict[str, float]:
    """In ms."""
    figures = {f"p{percent:g}": view.percentile(percent) / 1e6 for percent in (50, 99, 99.9)}
    return {**figures, "max": view.greatest / 1e6}
