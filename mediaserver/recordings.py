"""Which rooms are recorded, and when: the recorder beside the rooms.

Policy "on" records a room from its first track, "request" when a participant with the right asks, "off" never. Whose
tracks go in is the room's rule and its participants' word (`consent`): a track is tapped only while they allow it. A
recording whose room has had no track for a while ends; until then a cart that lost its connection can come back
into the same recording.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from mediaserver import protocol
from mediaserver.active import REFUSED, Active, RecordingRefused
from mediaserver.audit import Audit
from mediaserver.auth import Grant
from mediaserver.consent_desk import ConsentDesk
from mediaserver.live_room import LiveRoom, Member
from mediaserver.recording.archive import Archive
from mediaserver.recording.recorder import ParticipantMeta, Recorder, Recording, RecordingState, TrackMeta
from mediaserver.room_events import RoomClosed, RoomEvent
from mediaserver.rooms import Rooms
from mediaserver.settings import RecordingSettings
from mediaserver.sfu.session import events as ev
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
        self._active: dict[str, Active] = {}
        self._by_recording: dict[str, Active] = {}
        self.consent = ConsentDesk(settings, rooms, audit, self._active, self._follow)
        """What participants and the application say to being recorded."""
        self._ending: set[asyncio.Task[None]] = set()
        self._watcher: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        rooms.observe(self._on_event)

    def attach(self, recorder: Recorder, archive: Archive) -> None:
        """The recorder, made with this object's `on_state` and `on_keyframe`, and where its recordings end up. It is
        watched until `close`."""
        self._recorder = recorder
        self.consent.attach(archive)
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

    def resumed(self, live: LiveRoom, member: Member, grant: Grant) -> None:
        """A participant goes on with another token than before: what that says of recording holds from now on."""
        before, member.grant = member.grant, grant
        if (grant.recording, grant.consent) == (before.recording, before.consent):
            return
        live.consents.claim(grant.recording)
        if grant.consent != before.consent:
            with contextlib.suppress(RecordingRefused):  # after too many changes: its no has been taken
                self.consent.joined(live, member.id)
        self._follow(live)

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
        await self.consent.settled()

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
                self.consent.closed(live)
            case _:
                pass

    def _joined(self, live: LiveRoom, participant: str) -> None:
        if participant in live.members and not live.members[participant].info.hidden:
            active = self._active.get(live.name)
            if active is not None:
                self._add_participant(active, participant)
            self.consent.joined(live, participant)
        self._follow(live)

    def _follow(self, live: LiveRoom, now: int | None = None) -> None:
        """Bring taps, questions and what everybody is told in line with the rule and what was said. Consent that ends
        has ended at `now`, µs on the clock of the plane."""
        consents = live.consents
        if live.closed:
            return
        tracks = [track.info for track in live.room.tracks.values()]
        admitted = any(consents.admits(track.participant, track.source) for track in tracks)
        if admitted and self._settings.policy == "on":
            self._start(live)
        active = self._active.get(live.name)
        if active is not None and consents.whose == "forbidden":
            self._stop(live)
            active = None
        if active is not None or self._settings.policy == "on":
            for participant in consents.to_ask():
                if live.members[participant].via == "websocket":
                    self.consent.ask(live, participant)
        if active is not None:
            self._sort(active, self._rooms.clock.monotonic_us() if now is None else now)
        shown = live.recording
        tapped = sorted(active.taps) if active is not None else []
        if (shown.whose, shown.tracks) != (consents.whose, tapped):
            live.set_recording(shown.state, shown.recording, shown.detail, tapped)
        for track in tracks:
            if not consents.may_publish(track.participant, track.source):
                live.leave(track.participant, REFUSED)

    def _sort(self, active: Active, now: int) -> None:
        """Tap the tracks that may go in, and no others."""
        consents = active.live.consents
        if active.whose != consents.whose:
            terms = self._settings.terms
            text = terms.notice if consents.whose == "required" else terms.text
            active.recording.rule(consents.whose, terms.withdrawal, terms.version, text)
            active.whose = consents.whose
        for name, track in list(active.live.room.tracks.items()):
            if consents.admits(track.info.participant, track.info.source):
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
        active = self._active[live.name] = Active(live, recording)
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
        task = self._loop.create_task(self._end(active), name=f"recording {active.recording.id}")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        self.consent.ended(live, active, task)
        live.set_recording("off", active.recording.id)
        self._audit.write("recording-stopped", room=live.name, recording=active.recording.id, by=by or "policy")
        if not live.closed:
            live.hold(False)

    async def _end(self, active: Active) -> None:
        try:
            await asyncio.wrap_future(active.recording.stop())
            await self._index(active.recording.id)
        except Exception:
            log.exception("a recording could not be completed", recording=active.recording.id)
        finally:
            self._by_recording.pop(active.recording.id, None)

    def _settle(self, active: Active) -> None:
        """No track is left: end the recording after a while."""
        active.settle = self._loop.call_later(self._settings.settle_seconds, self._stop, active.live)

    # Tracks

    def _add_participant(self, active: Active, participant: str) -> None:
        member = active.live.members.get(participant)
        if member is not None and not member.info.hidden:
            active.recording.add_participant(ParticipantMeta(member.id, member.info.name, str(member.info.role)))
            for said in active.live.consents.said():
                if said.participant == participant:
                    self.consent.keep(active, said)

    def _add_track(self, active: Active, track: Track) -> None:
        name = track.info.id
        if name in active.taps:
            return
        self._unsettle(active)
        active.withheld.discard(name)
        active.recorded.add((track.info.participant, track.info.source))
        ring = TapRing(self._settings.ring_packets)
        tap = active.taps[name] = self._rooms.claim_tap(active.live)
        info = track.info
        from_now = active.live.consents.reserved(info.participant, info.source)
        active.live.room.planes.add_tap(tap, track.plane_id, ring, from_now=from_now)
        active.recording.add_track(_meta(track), ring)
        self._mute_track(active, name, track.info.muted)

    @staticmethod
    def _unsettle(active: Active) -> None:
        if active.settle is not None:
            active.settle.cancel()
            active.settle = None

    def _update_track(self, active: Active, name: str) -> None:
        track = active.live.room.tracks.get(name)
        if track is not None and name in active.taps:
            active.recording.update_track(name, track.params.payloads)

    def _mute_track(self, active: Active, name: str, muted: bool) -> None:
        if name in active.taps and muted != (name in active.muted):
            (active.muted.add if muted else active.muted.discard)(name)
            active.recording.mute_track(name, muted)

    def _remove_track(self, active: Active, name: str) -> None:
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

    def _untap(self, active: Active, name: str) -> None:
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
