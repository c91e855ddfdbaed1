"""The generator as a whole: one process or several, each with a swarm of its own, and an eye on the server."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from multiprocessing.connection import Connection

import aiohttp
import msgspec

from mediaserver.loadtest.measure import ProcessSample, scrape
from mediaserver.loadtest.media import Library
from mediaserver.loadtest.outcome import Outcome, Part, Second, ServerSecond, merge_parts, merge_seconds
from mediaserver.loadtest.peers import OPEN_EVERY
from mediaserver.loadtest.run import Conductor, LoadRun, Tell
from mediaserver.loadtest.scenario import Room, Scenario, rooms_of
from mediaserver.loadtest.target import Target, TargetError

BACKLOG_SECONDS = 5.0
"""Between two looks at the server's metrics: each costs the server a few milliseconds."""


class Options(msgspec.Struct, frozen=True):
    """How to play a scenario, whatever it says. `room` is the one room of a token that is good for that room alone. Of
    received packets, and of viewers, one in `open_every` is opened, beside all that has to be."""

    processes: int = 1
    spin: bool = False
    verify: bool = True
    room: str = ""
    open_every: int = OPEN_EVERY


async def play(scenario: Scenario, target: Target, tell: Tell, options: Options) -> Outcome:
    """Play a scenario against a server. Raises `TargetError` when the generator itself fails."""
    rooms = rooms_of(scenario)
    if options.room:
        rooms = [msgspec.structs.replace(room, name=options.room) for room in rooms]
    tell("drawing and encoding what the carts will send")
    library = Library()
    await asyncio.to_thread(library.prepare, scenario)
    watch = _ServerWatch(target, options)
    try:
        if options.processes == 1:
            run = _make_run(scenario, rooms, target, library, tell, watch, options)
            part = await run.run()
        else:
            part = await _play_apart(scenario, rooms, target, tell, watch, options)
    finally:
        await watch.stop()
    return Outcome(
        scenario=scenario,
        part=part,
        before=watch.before,
        after=watch.after,
        counters=watch.counters,
        server=watch.seconds,
        processes=min(options.processes, len(rooms)),
    )


def _make_run(
    scenario: Scenario,
    rooms: list[Room],
    target: Target,
    library: Library,
    tell: Tell,
    conductor: Conductor,
    options: Options,
) -> LoadRun:
    return LoadRun(
        scenario,
        rooms,
        target,
        library,
        tell,
        conductor,
        spin=options.spin,
        verify=options.verify,
        open_every=options.open_every,
    )


class _ServerWatch:
    """Looks at the server's process each second, and at its metrics now and then, from `begin` for as long as the
    measured part goes on."""

    def __init__(self, target: Target, options: Options) -> None:
        self._target = target
        self._verify = options.verify
        self._task: asyncio.Task[None] | None = None
        self._earlier: dict[str, float] = {}
        self._began = time.monotonic()
        self._last: tuple[ProcessSample | None, float] = (None, self._began)
        self.before: ProcessSample | None = None
        self.after: ProcessSample | None = None
        self.counters: dict[str, float] = {}
        self.seconds: list[ServerSecond] = []

    async def begin(self) -> None:
        async with self._http() as http:
            self._earlier = await self._scrape(http)
        self.before = self.after = self._sample()
        self._began = time.monotonic()
        self._last = (self.before, self._began)
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def end(self) -> None:
        """The measured part is over, while everybody is still there."""
        if self._task is None:
            return
        await self.stop()
        self._look(None)
        self.after = self._last[0] or self.after
        async with self._http() as http:
            later = await self._scrape(http)
        self.counters = {name: value - self._earlier.get(name, 0.0) for name, value in later.items()}

    async def _watch(self) -> None:
        looked = self._began
        async with self._http() as http:
            while True:
                await asyncio.sleep(1.0)
                backlog = None
                if time.monotonic() - looked >= BACKLOG_SECONDS:
                    looked = time.monotonic()
                    backlog = (await self._scrape(http)).get("mediaserver_recorder_backlog_packets")
                self._look(backlog)

    def _look(self, backlog: float | None) -> None:
        earlier, earlier_moment = self._last
        sample, moment = self._last = self._sample(), time.monotonic()
        elapsed = moment - self._began
        if sample is not None and earlier is not None:
            cpu = (sample.cpu_seconds - earlier.cpu_seconds) / (moment - earlier_moment)
            mebibytes = sample.resident_bytes / 2**20
            self.seconds.append(ServerSecond(elapsed, cpu, mebibytes, sample.descriptors, backlog))
        elif backlog is not None:
            self.seconds.append(ServerSecond(elapsed, 0.0, 0.0, 0, backlog))

    def _sample(self) -> ProcessSample | None:
        try:
            return self._target.process.sample() if self._target.process else None
        except OSError:
            return None  # it has ended; that it has shows in the packets

    async def _scrape(self, http: aiohttp.ClientSession) -> dict[str, float]:
        if self._target.urls is not None:
            return {}
        return await scrape(http, self._target.url, verify=self._verify)

    @contextlib.asynccontextmanager
    async def _http(self) -> AsyncIterator[aiohttp.ClientSession]:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http:
            yield http


# Several processes


async def _play_apart(
    scenario: Scenario, rooms: list[Room], target: Target, tell: Tell, watch: _ServerWatch, options: Options
) -> Part:
    count = min(options.processes, len(rooms))
    spawn = multiprocessing.get_context("spawn")
    children = []
    tell(f"{count} processes let {len(rooms)} carts in, and their viewers")
    for number in range(count):
        ours, theirs = spawn.Pipe()
        share = msgspec.structs.replace(
            scenario,
            at_once=max(1, scenario.at_once // count),
            decoded_viewers=len(range(number, scenario.decoded_viewers, count)),
            seed=scenario.seed + number,
        )
        job = (theirs, share, rooms[number::count], target, options)
        process = spawn.Process(target=_child, args=job, name=f"generator {number}", daemon=True)
        process.start()
        theirs.close()
        children.append((process, ours))
    chorus = _Chorus([ours for _, ours in children], tell, watch)
    try:
        return await chorus.listen()
    finally:
        for process, ours in children:
            ours.close()
            await asyncio.to_thread(process.join, 10)
            if process.is_alive():
                process.kill()


class _Chorus:
    """What the processes say, put together: they begin to measure at once, and their seconds are told as one."""

    def __init__(self, connections: list[Connection], tell: Tell, watch: _ServerWatch) -> None:
        self._connections = connections
        self._tell = tell
        self._watch = watch
        self._ready = 0
        self._parts: list[Part] = []
        self._seconds: dict[int, list[Second]] = defaultdict(list)

    async def listen(self) -> Part:
        tasks = [asyncio.create_task(self._follow(connection)) for connection in self._connections]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return merge_parts(self._parts)

    async def _follow(self, connection: Connection) -> None:
        heard = 0
        while True:
            try:
                kind, value = await asyncio.to_thread(connection.recv)
            except (EOFError, OSError):
                raise TargetError("a process of the generator has ended without a word") from None
            match kind:
                case "ready":
                    await self._let_begin()
                case "second":
                    self._add(heard, value)
                    heard += 1
                case "measured":
                    await self._watch.end()
                case "part":
                    self._parts.append(value)
                    return
                case "failed":
                    raise TargetError(f"a process of the generator has failed: {value}")

    async def _let_begin(self) -> None:
        self._ready += 1
        if self._ready == len(self._connections):
            await self._watch.begin()
            self._tell("all are ready: measuring")
            for connection in self._connections:
                connection.send("go")

    def _add(self, number: int, second: Second) -> None:
        self._seconds[number].append(second)
        if len(self._seconds[number]) == len(self._connections):
            self._tell(merge_seconds(self._seconds.pop(number)))


class _Echo:
    """A process's word to the one that began it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def begin(self) -> None:
        self._connection.send(("ready", None))
        await asyncio.to_thread(self._connection.recv)

    async def end(self) -> None:
        self._connection.send(("measured", None))


def _child(connection: Connection, scenario: Scenario, rooms: list[Room], target: Target, options: Options) -> None:
    """The whole life of one process."""
    import uvloop

    def tell(news: Second | str) -> None:
        if not isinstance(news, str):
            connection.send(("second", news))

    async def run() -> Part:
        return await _make_run(scenario, rooms, target, Library(), tell, _Echo(connection), options).run()

    try:
        connection.send(("part", uvloop.run(run())))
    except KeyboardInterrupt:
        return
    except (EOFError, BrokenPipeError):
        return  # the parent is gone
    except Exception as error:
        connection.send(("failed", f"{type(error).__name__}: {error}"))
