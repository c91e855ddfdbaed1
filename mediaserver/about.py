"""Whom and what a consultation is about, as the app says that makes the tokens: it goes to the room's recordings.

A token may carry the claims `identifiers` (the fields of `sidecars.Identifiers`) and `retention` (a class). What the
first token of a room says counts for the room until it closes; later ones add what was left open. One that contradicts
it is not taken over: two patients must not be mixed. Nothing of it goes to participants, logs, metrics or the audit
trail; it lies in the recording's own files, which are encrypted and erased apart.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import structlog

from mediaserver.audit import Audit
from mediaserver.clock import Clock
from mediaserver.live_room import LiveRoom
from mediaserver.recording.archive import Archive, UnknownRecording
from mediaserver.recording.sidecars import Identifiers, contradicts, filled
from mediaserver.room_events import RecordingChanged, RoomClosed, RoomEvent
from mediaserver.sfu.session import events as ev

log = structlog.get_logger("mediaserver.about")

BY = "token"


class Said(NamedTuple):
    """What a room's tokens have said."""

    identifiers: Identifiers = Identifiers()
    retention: str = ""


class About:
    """Observes the rooms, and writes into the archive."""

    def __init__(self, archive: Archive, audit: Audit, clock: Clock) -> None:
        self._archive = archive
        self._audit = audit
        self._clock = clock
        self._rooms: dict[str, Said] = {}
        self._written: dict[str, Said] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()

    def on_event(self, live: LiveRoom, event: RoomEvent) -> None:
        match event:
            case ev.ParticipantJoined(participant=info):
                self._hear(live, info.id)
            case RecordingChanged(recording=str() as recording):
                self._write(live, recording)
                if event.state == "off":
                    self._written.pop(recording, None)
            case RoomClosed():
                self._rooms.pop(live.name, None)
            case _:
                pass

    async def close(self) -> None:
        """Wait for what is being written."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _hear(self, live: LiveRoom, participant: str) -> None:
        member = live.members.get(participant)
        if member is None:
            return
        grant, said = member.grant, self._rooms.get(live.name, Said())
        given = grant.identifiers or Identifiers()
        if contradicts(given, said.identifiers) or (grant.retention and said.retention not in ("", grant.retention)):
            log.warning("a token says something else than the room's first one; it is not kept", room=live.name)
            self._audit.write("identifiers-refused", room=live.name, participant=participant, by=BY)
            return
        said = Said(filled(said.identifiers, given), said.retention or grant.retention)
        if said != Said():
            self._rooms[live.name] = said
            if live.recording.recording is not None and live.recording.state != "off":
                self._write(live, live.recording.recording)

    def _write(self, live: LiveRoom, recording: str) -> None:
        said = self._rooms.get(live.name)
        if said is None or self._written.get(recording) == said:
            return
        self._written[recording] = said
        task = asyncio.get_running_loop().create_task(self._keep(live.name, recording, said), name="identifiers")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep(self, room: str, recording: str, said: Said) -> None:
        try:
            async with self._turn:  # in the order in which it was said
                if said.identifiers != Identifiers():
                    self._audit.write("archive-identify", recording=recording, room=room, by=BY)
                    await self._archive.fill_identifiers(recording, said.identifiers)
                if said.retention:
                    await self._retain(room, recording, said.retention)
        except (OSError, ValueError, UnknownRecording) as error:
            self._written.pop(recording, None)  # once more at the recording's next change
            log.error("what a token says of a recording could not be kept", recording=recording, reason=str(error))

    async def _retain(self, room: str, recording: str, into: str) -> None:
        if self._archive.disposals.policy.find(into) is None:
            log.error("a token names a class of retention that there is not", room=room, retention=into)
            return
        facts = {"class": into}
        self._audit.write("archive-retention", recording=recording, room=room, by=BY, **facts)
        await self._archive.set_retention(recording, into=into, by=BY, reason="", at_us=self._clock.wall_us())
