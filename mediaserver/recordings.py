"""Which rooms are recorded, and when: the recorder beside the rooms.

Policy "on" records a room from its first track, "request" when a participant with the right asks, "off" never. Whose
tracks go in is the room's rule and its participants' word (`consent`): a track is tapped only while they allow it. A
recording whose room has had no track for a while ends; until then a cart that lost its connection can come back
into the same recording.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from mediaserver import protocol
from mediaserver.audit import Action, Audit
from mediaserver.auth import ConsentClaim
from mediaserver.connection import frame
from mediaserver.consent import Said, Sayer, TooManyChanges, Whose
from mediaserver.recording.archive import Archive
from mediaserver.recording.manifest import ConsentFact
from mediaserver.recording.recorder import ParticipantMeta, Recorder, Recording, RecordingState, TrackMeta
from mediaserver.rooms import LiveRoom, RoomClosed, RoomEvent, Rooms
from mediaserver.settings import RecordingSettings
from mediaserver.sfu.session import events as ev
from mediaserver.sfu.session.room import RoomError
from mediaserver.sfu.session.track import Track
from mediaserver.sfu.stream.tap import TapRing

log = structlog.get_logger("mediaserver.recordings")

CHECK_SECONDS = 1.0
"""How often the recorder's disk is looked at."""

_STATES: dict[RecordingState, protocol.RecordingState] = {
    RecordingState.STARTING: "starting",
    RecordingState.ON: "on",
    RecordingState.ALARM: "alarm",
    RecordingState.STOPPED: "off",
}


_SAID: dict[str, Action] = {
    "given": "consent-given",
    "refused": "consent-refused",
    "withdrawn": "consent-withdrawn",
}
REFUSED = "refused-recording"
"""Why a participant left that publishes where everybody is recorded, and has refused."""


class RecordingRefused(Exception):
    """What was asked about recording can't be; the message says why."""


class _Active:
    """A room's recording with its taps: track -> plane id of the tap, which of the tracks are muted, and which are left
    out as their participants have not agreed. `recorded` are the participants of whom something was recorded."""

    def __init__(self, live: LiveRoom, recording: Recording) -> None:
        self.live = live
        self.recording = recording
        self.taps: dict[str, int] = {}
        self.muted: set[str] = set()
        self.withheld: set[str] = set()
        self.recorded: set[str] = set()
        self.whose: Whose | None = None
        self.settle: asyncio.TimerHandle | None = None


class _Past:
    """What an open room has seen: recordings that have ended, and consents of tokens that were withdrawn since."""

    def __init__(self) -> None:
        self.ended: list[_Active] = []
        self.taken_back: set[tuple[str, ConsentClaim]] = set()


class Recordings:
    """Starts and stops recordings as the rooms' events and the participants ask."""

    def __init__(
        self,
        settings: RecordingSettings,
        rooms: Rooms,
        audit: Audit,
        index: Callable[[str], Coroutine[Any, Any, None]],
    ) -> None:
        """`index(recording)` is awaited when a recording is complete."""
        self._settings = settings
        self._rooms = rooms
        self._audit = audit
        self._index = index
        self._recorder: Recorder | None = None
        self._active: dict[str, _Active] = {}
        self._by_recording: dict[str, _Active] = {}
        self._past: dict[str, _Past] = {}
        self._archive: Archive | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._watcher: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        rooms.observe(self._on_event)

    def attach(self, recorder: Recorder, archive: Archive) -> None:
        """The recorder, made with this object's `on_state` and `on_keyframe`, and where its recordings end up. It is
        watched until `close`."""
        self._recorder = recorder
        self._archive = archive
        self._watch(recorder)

    def switch(self, live: LiveRoom, on: bool, by: str) -> None:
        """The wish of the participant `by`. Raises `RecordingRefused`."""
        if self._settings.policy == "off" and on:
            raise RecordingRefused("this server does not record")
        if self._settings.policy == "on" and not on:
            raise RecordingRefused("this server records every consultation; it can't be switched off")
        if on and live.consents.whose == "forbidden":
            raise RecordingRefused("this room must not be recorded: its tokens or the server's settings forbid it")
        if on:
            self._start(live, by)
        else:
            self._stop(live, by)

    # Consent

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
    ) -> None:
        """A participant agrees to be recorded, or does not, or no longer. It has told this server itself, or an
        application, which names the `version` of its text, who had asked, and when (a Unix time in µs; now).

        Nothing that arrives later than a no is recorded. Raises `RoomError` when it is not here, and `RecordingRefused`
        for a yes after too many changes.
        """
        now = self._rooms.clock.monotonic_us()
        said = Said(
            participant,
            "given" if given else "refused",
            by,
            version,
            self._rooms.clock.wall_us() if at_us is None else at_us,
            witness,
        )
        try:
            changed = live.consents.say(said)
        except KeyError:
            raise RoomError("unknown-participant", f"there is no participant {participant}") from None
        except TooManyChanges:
            raise RecordingRefused("this participant has changed its mind too often; it is not recorded") from None
        if changed is not None:
            self._note(live, changed)
            self._follow(live, now)
            live.tell_consent(participant, changed)

    def ask(self, live: LiveRoom, participant: str, by: str | None = None) -> None:
        """Have a participant asked, or asked again. Raises `RoomError` and `RecordingRefused`."""
        if live.consents.whose != "consent":
            raise RecordingRefused(f"nobody is asked in this room: its rule is {live.consents.whose}")
        try:
            asked = live.consents.ask(participant)
        except KeyError:
            raise RoomError("unknown-participant", f"there is no participant {participant}") from None
        member = live.members[participant]
        if not asked:
            raise RecordingRefused(f"{participant} has agreed already, or publishes nothing")
        if member.via != "websocket":
            raise RecordingRefused(f"{participant} came by {member.via}: its application has to ask")
        self._audit.write("consent-asked", room=live.name, participant=participant, by=by or "policy")
        member.send(frame(protocol.encode(protocol.ConsentAsked(terms=self._settings.terms, by=by))))
        live.tell_consent(participant)

    def decree(self, live: LiveRoom, whose: Whose) -> None:
        """The application says whose tracks may be recorded in the room from now on."""
        if live.consents.decree(whose):
            self._follow(live, self._rooms.clock.monotonic_us())

    def check_publish(self, live: LiveRoom, participant: str) -> None:
        """Raises `RecordingRefused` when it has refused where everybody is recorded."""
        if not live.consents.may_publish(participant):
            raise RecordingRefused("everybody who publishes in this room is recorded, and you have refused that")

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
        )
        if active is not None:
            self._keep(active, said)
        past = self._past.setdefault(live.name, _Past())
        if said.state != "given":
            if member.grant.consent is not None:
                past.taken_back.add((member.grant.name, member.grant.consent))
            for ended in past.ended:
                if said.participant in ended.recorded:
                    self._begin(self._withdraw_later(ended, said), f"withdrawal {ended.recording.id}")

    def _keep(self, active: _Active, said: Said) -> None:
        erase = said.state != "given" and self._settings.withdrawal == "erase" and said.participant in active.recorded
        active.recording.consent(
            ConsentFact(said.participant, said.state, said.by, said.witness, said.version, said.at_us, erase)
        )
        if erase:
            self._begin(self._mark_later(active), f"withdrawal {active.recording.id}")

    async def _mark_later(self, active: _Active) -> None:
        assert self._archive is not None
        try:
            await self._archive.mark_withdrawn(active.recording.id)
        except OSError as error:  # the manifest says it too
            log.error("a withdrawal could not be marked", recording=active.recording.id, reason=str(error))

    async def _withdraw_later(self, ended: _Active, said: Said) -> None:
        """The recording may still be on its way to the disk."""
        assert self._archive is not None
        name = ended.recording.id
        await asyncio.gather(*(task for task in self._ending if task.get_name() == f"recording {name}"))
        try:
            erased = await self._archive.withdraw(
                name,
                said.participant,
                by=said.witness or said.by,
                at_us=said.at_us,
                note=said.state,
                erase=self._settings.withdrawal == "erase",
            )
            self._tell_erased(name, erased)
        except Exception:
            log.exception("a withdrawal could not be written down", recording=name)

    def _begin(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = self._loop.create_task(work, name=name)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def on_state(self, recording: Recording, state: RecordingState, detail: str) -> None:
        """From the writer's thread."""
        self._hand_over(self._show, recording.id, state, detail)

    def on_keyframe(self, recording: Recording, track: str) -> None:
        """From the writer's thread: it has lost packets and needs a fresh picture."""
        self._hand_over(self._ask_keyframe, recording.id, track)

    async def close(self) -> None:
        """End all recordings and wait until they are on disk and in the catalog."""
        self._rooms.unobserve(self._on_event)
        if self._watcher is not None:
            self._watcher.cancel()
        for active in list(self._active.values()):
            self._stop(active.live)
        await self.settled()

    async def settled(self) -> None:
        """Wait until all recordings that were switched off are on disk and in the catalog."""
        while self._ending:
            await asyncio.gather(*self._ending, return_exceptions=True)

    def _watch(self, recorder: Recorder) -> None:
        recorder.check()
        self._watcher = self._loop.call_later(CHECK_SECONDS, self._watch, recorder)

    def _hand_over(self, call: Callable[..., None], *arguments: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *arguments)

    # Rooms

    def _on_event(self, live: LiveRoom, event: RoomEvent) -> None:
        active = self._active.get(live.name)
        match event:
            case ev.TrackAdded():
                self._follow(live)
            case ev.TrackChanged() if active is not None:
                self._mute_track(active, event.track.id, event.track.muted)
            case ev.PayloadsChanged() if active is not None:
                self._update_track(active, event.track)
            case ev.TrackRemoved() if active is not None:
                self._remove_track(active, event.track)
            case ev.ParticipantJoined():
                self._joined(live, event.participant.id)
            case RoomClosed():
                self._stop(live)
                self._past.pop(live.name, None)
            case _:
                pass

    def _joined(self, live: LiveRoom, participant: str) -> None:
        if participant in live.members and not live.members[participant].info.hidden:
            active = self._active.get(live.name)
            if active is not None:
                self._add_participant(active, participant)
            grant = live.members[participant].grant
            claim = grant.consent
            past = self._past.get(live.name)
            if claim is not None and not (past is not None and (grant.name, claim) in past.taken_back):
                at_us = round(claim.at * 1e6)
                self.say(live, participant, claim.given, version=claim.version, witness=claim.by, at_us=at_us)
        self._follow(live)

    def _follow(self, live: LiveRoom, now: int | None = None) -> None:
        """Bring taps, questions and what everybody is told in line with the rule and what was said. Consent that ends
        has ended at `now`, µs on the clock of the plane."""
        consents = live.consents
        if live.closed:
            return
        admitted = any(consents.admits(track.info.participant) for track in live.room.tracks.values())
        if admitted and self._settings.policy == "on":
            self._start(live)
        active = self._active.get(live.name)
        if active is not None and consents.whose == "forbidden":
            self._stop(live)
            active = None
        if active is not None or self._settings.policy == "on":
            for participant in consents.to_ask():
                if live.members[participant].via == "websocket":
                    self.ask(live, participant)
        if active is not None:
            self._sort(active, self._rooms.clock.monotonic_us() if now is None else now)
        shown = live.recording
        live.set_recording(shown.state, shown.recording, shown.detail, sorted(active.taps) if active else ())
        for member in list(live.members):
            publishes = any(track.info.participant == member for track in live.room.tracks.values())
            if publishes and not consents.may_publish(member):
                live.leave(member, REFUSED)

    def _sort(self, active: _Active, now: int) -> None:
        """Tap the tracks that may go in, and no others."""
        consents = active.live.consents
        if active.whose != consents.whose:
            terms = self._settings.terms
            text = terms.notice if consents.whose == "required" else terms.text
            active.recording.rule(consents.whose, terms.withdrawal, terms.version, text)
            active.whose = consents.whose
        for name, track in list(active.live.room.tracks.items()):
            if consents.admits(track.info.participant):
                self._add_track(active, track)
            elif name in active.taps:
                active.live.room.planes.remove_tap(active.taps.pop(name))
                active.muted.discard(name)
                active.withheld.add(name)
                active.recording.withdraw_track(name, now)
            elif name not in active.withheld:
                self._unsettle(active)
                active.withheld.add(name)
                active.recording.withhold_track(_meta(track))

    def _start(self, live: LiveRoom, by: str = "") -> None:
        if live.name in self._active or self._recorder is None:
            return
        recording = self._recorder.start(live.name)
        active = self._active[live.name] = _Active(live, recording)
        self._by_recording[recording.id] = active
        live.hold(True)
        live.set_recording("starting", recording.id)
        self._audit.write("recording-started", room=live.name, recording=recording.id, by=by or "policy")
        for member in list(live.members):
            self._add_participant(active, member)
        self._follow(live)
        if live.name in self._active and not active.taps and not active.withheld:
            self._settle(active)

    def _stop(self, live: LiveRoom, by: str = "") -> None:
        active = self._active.pop(live.name, None)
        if active is None:
            return
        if active.settle is not None:
            active.settle.cancel()
        for track in list(active.taps):
            self._untap(active, track)
        self._begin(self._end(active), f"recording {active.recording.id}")
        self._past.setdefault(live.name, _Past()).ended.append(active)
        live.set_recording("off", active.recording.id)
        self._audit.write("recording-stopped", room=live.name, recording=active.recording.id, by=by or "policy")
        if not live.closed:
            live.hold(False)

    async def _end(self, active: _Active) -> None:
        try:
            await asyncio.wrap_future(active.recording.stop())
            await self._index(active.recording.id)
        except Exception:
            log.exception("a recording could not be completed", recording=active.recording.id)
        finally:
            self._by_recording.pop(active.recording.id, None)

    def _settle(self, active: _Active) -> None:
        """No track is left: end the recording after a while."""
        active.settle = self._loop.call_later(self._settings.settle_seconds, self._stop, active.live)

    # Tracks

    def _add_participant(self, active: _Active, participant: str) -> None:
        member = active.live.members.get(participant)
        if member is not None and not member.info.hidden:
            active.recording.add_participant(ParticipantMeta(member.id, member.info.name, str(member.info.role)))
            for said in active.live.consents.said():
                if said.participant == participant:
                    self._keep(active, said)

    def _add_track(self, active: _Active, track: Track) -> None:
        name = track.info.id
        if name in active.taps:
            return
        self._unsettle(active)
        active.withheld.discard(name)
        active.recorded.add(track.info.participant)
        ring = TapRing(self._settings.ring_packets)
        tap = active.taps[name] = self._rooms.claim_tap(active.live)
        active.live.room.planes.add_tap(tap, track.plane_id, ring)
        active.recording.add_track(_meta(track), ring)
        self._mute_track(active, name, track.info.muted)

    @staticmethod
    def _unsettle(active: _Active) -> None:
        if active.settle is not None:
            active.settle.cancel()
            active.settle = None

    def _update_track(self, active: _Active, name: str) -> None:
        track = active.live.room.tracks.get(name)
        if track is not None and name in active.taps:
            active.recording.update_track(name, track.params.payloads)

    def _mute_track(self, active: _Active, name: str, muted: bool) -> None:
        if name in active.taps and muted != (name in active.muted):
            (active.muted.add if muted else active.muted.discard)(name)
            active.recording.mute_track(name, muted)

    def _remove_track(self, active: _Active, name: str) -> None:
        if name in active.taps:
            self._untap(active, name)
        elif name in active.withheld:
            active.withheld.discard(name)
            active.recording.remove_track(name)
        else:
            return
        if not active.taps and not active.withheld:
            self._settle(active)
        self._follow(active.live)

    def _untap(self, active: _Active, name: str) -> None:
        active.live.room.planes.remove_tap(active.taps.pop(name))
        active.muted.discard(name)
        active.recording.remove_track(name)

    # From the writer's thread, on the loop

    def _show(self, recording: str, state: RecordingState, detail: str) -> None:
        active = self._by_recording.get(recording)
        if active is None or self._active.get(active.live.name) is not active:
            return  # it has been switched off meanwhile
        if state is RecordingState.ALARM:
            self._audit.write("recording-alarm", room=active.live.name, recording=recording, reason=detail)
        active.live.set_recording(_STATES[state], recording, detail, sorted(active.taps))

    def _ask_keyframe(self, recording: str, name: str) -> None:
        active = self._by_recording.get(recording)
        track = active.live.room.tracks.get(name) if active is not None else None
        if active is not None and track is not None:
            active.live.room.planes.request_keyframe(track.plane_id)


def _meta(track: Track) -> TrackMeta:
    info = track.info
    return TrackMeta(
        info.id, str(info.source), str(info.kind), track.params.payloads, info.codec, info.label, info.participant
    )
