"""Takes what participants and applications say to being recorded, and sees that it is kept and carried out.

`Recordings` holds it as `consent`, and gives it what is being recorded; `consent.Consents` decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

import msgspec
import structlog

from mediaserver import protocol
from mediaserver.active import Active, RecordingRefused
from mediaserver.audit import Action, Audit
from mediaserver.auth import ConsentClaim
from mediaserver.connection import frame
from mediaserver.consent import SOURCES, Said, Sayer, TooManyChanges, Whose
from mediaserver.live_room import LiveRoom
from mediaserver.recording.archive import Archive
from mediaserver.recording.manifest import ConsentFact
from mediaserver.rooms import Rooms
from mediaserver.settings import RecordingSettings
from mediaserver.sfu.session.model import Source
from mediaserver.sfu.session.room import RoomError

log = structlog.get_logger("mediaserver.consent")

_SAID: dict[str, Action] = {
    "given": "consent-given",
    "refused": "consent-refused",
    "withdrawn": "consent-withdrawn",
}
ASK_AGAIN_US = 10_000_000


class _Past:
    """What an open room has seen: recordings that have ended, and consents of tokens that were withdrawn since."""

    def __init__(self) -> None:
        self.ended: list[tuple[Active, asyncio.Task[None]]] = []
        self.taken_back: dict[tuple[str, ConsentClaim], frozenset[Source]] = {}
        self.asked: dict[str, int] = {}
        """When others last had a participant asked, µs on the clock of the plane."""


class ConsentDesk:
    """One server's. `active` is by room; `follow(room, now)` brings its recording in line with what was said."""

    def __init__(
        self,
        settings: RecordingSettings,
        rooms: Rooms,
        audit: Audit,
        active: Mapping[str, Active],
        follow: Callable[[LiveRoom, int], None],
    ) -> None:
        self._settings = settings
        self._rooms = rooms
        self._audit = audit
        self._active = active
        self._follow = follow
        self._past: dict[str, _Past] = {}
        self._archive: Archive | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def attach(self, archive: Archive) -> None:
        """Where recordings end up."""
        self._archive = archive

    def say(
        self,
        live: LiveRoom,
        participant: str,
        given: bool,
        *,
        by: Sayer = "application",
        version: str = "",
        witness: str = "",
        at_us: int | None = None,
        sources: Iterable[Source] | None = None,
    ) -> None:
        """A participant agrees to be recorded, or does not, or no longer. It has told this server itself, or an
        application, which names the `version` of its text, who had asked, and when (a Unix time in µs; now).

        A yes is for those `sources` and no others, a no for them alone; None: for all. Nothing that arrives later than
        a no is recorded. Raises `RoomError` when it is not here, and `RecordingRefused` for a yes after too many
        changes; of such a yes, the no to what it leaves out holds.
        """
        now = self._rooms.clock.monotonic_us()
        said = Said(
            participant,
            "given" if given else "refused",
            by,
            version,
            self._rooms.clock.wall_us() if at_us is None else at_us,
            witness,
            SOURCES if sources is None else frozenset(map(Source, sources)),
        )
        late = False
        try:
            changed = live.consents.say(said)
        except KeyError:
            raise RoomError("unknown-participant", f"there is no participant {participant}") from None
        except TooManyChanges as error:
            changed, late = error.kept, True
        for one in changed:
            self._note(live, one)
        if changed:
            self._follow(live, now)
            live.tell_consent(participant, changed)
        if late:
            raise RecordingRefused("this participant has changed its mind too often; no more of it is recorded")

    def ask(self, live: LiveRoom, participant: str, by: str | None = None) -> None:
        """Have a participant asked, or asked again, by another one every 10 s at most. Raises `RoomError` and
        `RecordingRefused`."""
        if live.consents.whose != "consent":
            raise RecordingRefused(f"nobody is asked in this room: its rule is {live.consents.whose}")
        try:
            asked = live.consents.ask(participant)
        except KeyError:
            raise RoomError("unknown-participant", f"there is no participant {participant}") from None
        member = live.members[participant]
        if not asked:
            raise RecordingRefused(f"{participant} has agreed to all already, or publishes nothing")
        if member.via != "websocket":
            raise RecordingRefused(f"{participant} came by {member.via}: its application has to ask")
        if by is not None:
            self._limit_asking(live, participant)
        self._audit.write("consent-asked", room=live.name, participant=participant, by=by or "policy")
        member.send(frame(protocol.encode(protocol.ConsentAsked(terms=self._settings.terms, by=by))))
        if live.consents.state(participant) == "asked":
            live.tell_consent(participant)

    def _limit_asking(self, live: LiveRoom, participant: str) -> None:
        now = self._rooms.clock.monotonic_us()
        asked = self._past.setdefault(live.name, _Past()).asked
        if participant in asked and now - asked[participant] < ASK_AGAIN_US:
            raise RecordingRefused(f"{participant} was asked a moment ago")
        asked[participant] = now

    def decree(self, live: LiveRoom, whose: Whose) -> None:
        """The application says whose tracks may be recorded in the room from now on."""
        if live.consents.decree(whose):
            self._follow(live, self._rooms.clock.monotonic_us())

    def check_publish(self, live: LiveRoom, participant: str, sources: Iterable[Source]) -> None:
        """Raises `RecordingRefused` when it has refused one of these where everybody is recorded."""
        for source in sources:
            if not live.consents.may_publish(participant, source):
                raise RecordingRefused(
                    f"everybody who publishes in this room is recorded, and you have refused that for {source}"
                )

    async def erase(self, recording: str) -> None:
        """Erase what of a recording that is closed has to go; what can't go now goes when the server starts next."""
        assert self._archive is not None
        try:
            self._tell_erased(recording, await self._archive.erase_withdrawn(recording, self._rooms.clock.wall_us()))
        except (OSError, ValueError) as error:
            log.error("what was withdrawn could not be erased", recording=recording, reason=str(error))

    def _tell_erased(self, recording: str, files: list[str]) -> None:
        if files:
            self._audit.write("consent-erased", recording=recording, files=files)

    def _note(self, live: LiveRoom, said: Said) -> None:
        """Into the audit trail, and to the recordings in which the participant is."""
        member = live.members[said.participant]
        active = self._active.get(live.name)
        self._audit.write(
            _SAID[said.state],
            room=live.name,
            participant=said.participant,
            name=member.info.name,
            recording=active.recording.id if active is not None else None,
            by=said.by,
            witness=said.witness or None,
            version=said.version or None,
            sources=said.named,
        )
        if active is not None:
            self.keep(active, said)
        past = self._past.setdefault(live.name, _Past())
        if said.state != "given":
            if member.grant.consent is not None:
                key = member.grant.name, member.grant.consent
                past.taken_back[key] = past.taken_back.get(key, frozenset()) | said.sources
            for ended, end in past.ended:
                if ended.recorded_of(said):
                    self._begin(self._withdraw_later(ended, end, said), f"withdrawal {ended.recording.id}")

    def keep(self, active: Active, said: Said) -> None:
        erase = said.state != "given" and self._settings.withdrawal == "erase" and active.recorded_of(said)
        sources = msgspec.UNSET if said.named is None else list(map(str, said.named))
        active.recording.consent(
            ConsentFact(said.participant, said.state, said.by, said.witness, said.version, said.at_us, erase, sources)
        )
        if erase:
            self._begin(self._mark_later(active), f"withdrawal {active.recording.id}")

    async def _mark_later(self, active: Active) -> None:
        assert self._archive is not None
        try:
            await self._archive.mark_withdrawn(active.recording.id)
        except OSError as error:  # the manifest says it too
            log.error("a withdrawal could not be marked", recording=active.recording.id, reason=str(error))

    async def _withdraw_later(self, ended: Active, end: asyncio.Task[None], said: Said) -> None:
        """The recording may still be on its way to the disk."""
        assert self._archive is not None
        name = ended.recording.id
        await asyncio.wait([end])
        try:
            erased = await self._archive.withdraw(
                name,
                said.participant,
                by=said.witness or said.by,
                at_us=said.at_us,
                note=said.state,
                erase=self._settings.withdrawal == "erase",
                sources=said.named,
            )
            self._tell_erased(name, erased)
        except Exception:
            log.exception("a withdrawal could not be written down", recording=name)

    # From the recordings

    def joined(self, live: LiveRoom, participant: str) -> None:
        """What its token says for it, but for what of that was withdrawn in this room."""
        grant = live.members[participant].grant
        claim = grant.consent
        if claim is None:
            return
        past = self._past.get(live.name)
        sources = SOURCES if claim.sources is None else frozenset(claim.sources)
        if past is not None:
            sources -= past.taken_back.get((grant.name, claim), frozenset())
        if sources:
            at_us = round(claim.at * 1e6)
            witness, version = claim.by, claim.version
            self.say(live, participant, claim.given, version=version, witness=witness, at_us=at_us, sources=sources)

    def ended(self, live: LiveRoom, active: Active, end: asyncio.Task[None]) -> None:
        """A recording of an open room is over; `end` is done when it is in the archive."""
        self._past.setdefault(live.name, _Past()).ended.append((active, end))

    def closed(self, live: LiveRoom) -> None:
        self._past.pop(live.name, None)

    async def settled(self) -> None:
        """Wait until everything that was withdrawn is written down."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
