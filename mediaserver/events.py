"""What happens in the rooms, as an async iterator for an application that embeds the server."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

from mediaserver.live_room import LiveRoom
from mediaserver.room_events import RoomEvent
from mediaserver.rooms import Rooms

EVENT_QUEUE = 10_000


class Happening(NamedTuple):
    """Something that happened in a room."""

    room: LiveRoom
    event: RoomEvent


class EventsLost(Exception):
    """A reader of `MediaServer.events` was so slow that events had to be dropped."""


class EventStream:
    """An async iterator over what happens, with a bounded queue. Raises `EventsLost` when its reader is too slow."""

    def __init__(self, rooms: Rooms, streams: set[EventStream]) -> None:
        self._rooms = rooms
        self._streams = streams
        self._queue: deque[Happening] = deque()
        self._wake = asyncio.Event()
        self._lost = False
        self._closed = False
        streams.add(self)
        rooms.observe(self._put)

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> Happening:
        while not self._queue and not self._closed:
            self._wake.clear()
            await self._wake.wait()
        if self._lost:
            raise EventsLost(f"more than {EVENT_QUEUE} events were waiting")
        if not self._queue:
            raise StopAsyncIteration
        return self._queue.popleft()

    def close(self) -> None:
        """No more events; those that wait can still be read."""
        if not self._closed:
            self._closed = True
            self._rooms.unobserve(self._put)
            self._streams.discard(self)
            self._wake.set()

    def _put(self, live: LiveRoom, event: RoomEvent) -> None:
        if len(self._queue) < EVENT_QUEUE:
            self._queue.append(Happening(live, event))
        else:
            self._lost = True
        self._wake.set()
