"""The WebSocket at /ws: connections that come and go, and the sessions that outlive them.

A session is a participant; when its connection drops it waits for another one with its resume key, the media going on
meanwhile.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from aiohttp import web

from mediaserver import protocol as p
from mediaserver.active import REFUSED, RecordingRefused
from mediaserver.audit import Audit
from mediaserver.auth import AuthError, Grant, Verifier, clean_name, valid_room
from mediaserver.budgets import Skew, SourceBudget
from mediaserver.clock import Clock
from mediaserver.connection import CLOSE_SECONDS, Connection, frame
from mediaserver.consent import ConsentTerms
from mediaserver.live_room import LiveRoom, Member
from mediaserver.recordings import Recordings
from mediaserver.relays import IceServers
from mediaserver.reports.latency import LatencyBook
from mediaserver.rooms import Overloaded, Rooms
from mediaserver.settings import SignallingSettings
from mediaserver.sfu.session.model import Publication, Right, Source, Wish
from mediaserver.sfu.session.room import OfferError, RoomError
from mediaserver.sfu.stream.params import MEDIA_CLOCK_START_S
from mediaserver.stats import ControlStats

log = structlog.get_logger("mediaserver.signalling")

AGES_EVERY_US = 500_000
"""What a client says of ages sooner than that is left aside."""

STRANGERS_SHARE = 4
"""Of the connections that there may be this part may be such as have not joined."""

_ROOM_ERRORS: Mapping[str, p.ErrorCode] = {
    "unknown-participant": "not-found",
    "unknown-track": "not-found",
    "not-allowed": "forbidden",
    "room-full": "room-full",
    "already-joined": "already-joined",
    "not-negotiated": "not-negotiated",
    "shutting-down": "shutting-down",
}
_AUTH_CLOSE = {"unauthorized": p.CloseCode.UNAUTHORIZED, "forbidden": p.CloseCode.FORBIDDEN}
_GONE: Mapping[str, tuple[int, p.ErrorCode, str]] = {
    "room-closed": (p.CloseCode.GOING_AWAY, "shutting-down", "the room has been closed"),
    "removed": (p.CloseCode.REMOVED, "removed", "an operator has removed this participant"),
    REFUSED: (p.CloseCode.FORBIDDEN, "forbidden", "everybody who publishes in this room is recorded; you refused that"),
    "silent": (p.CloseCode.TIMEOUT, "timeout", "the media connection has gone silent"),
    "refused": (p.CloseCode.GOING_AWAY, "room-full", "the server has no room for another media connection"),
    "never-connected": (p.CloseCode.TIMEOUT, "timeout", "the media connection did not come about"),
}


class Session:
    """A participant that came by WebSocket, with its present connection, if any."""

    def __init__(self, signalling: Signalling, live: LiveRoom) -> None:
        self.live = live
        self.key = secrets.token_urlsafe(24)
        self.member: Member
        self.connection: Connection | None = None
        self.ages_at: int | None = None
        self._signalling = signalling
        self._timer: asyncio.TimerHandle | None = None

    def send(self, frames: bytes) -> None:
        """What is said while no socket is there is lost: a resume brings the whole state."""
        if self.connection is not None:
            self.connection.send(frames)

    def gone(self, reason: str) -> None:
        """The participant is no longer in the room."""
        self._cancel()
        self._signalling.forget(self)
        connection, self.connection = self.connection, None
        if connection is not None and reason != "left":
            connection.session = None
            code, error, text = _GONE.get(reason, _GONE["removed"])
            connection.fail(code, error, text)

    def attach(self, connection: Connection) -> None:
        """Take up the session on a new socket."""
        self._cancel()
        old, self.connection = self.connection, connection
        if old is not None:
            old.session = None
            old.fail(p.CloseCode.REPLACED, "replaced", "the session has gone on over another connection")

    def detach(self, wait_seconds: float) -> None:
        """The socket has dropped: leave the room unless another one comes in time."""
        self.connection = None
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(wait_seconds, self.live.leave, self.member.id, "disconnected")

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Signalling:
    """All connections and sessions of the server."""

    def __init__(
        self,
        settings: SignallingSettings,
        rooms: Rooms,
        verifier: Verifier,
        recordings: Recordings,
        latency: LatencyBook,
        audit: Audit,
        stats: ControlStats,
        clock: Clock,
        budgets: Mapping[Source, SourceBudget],
        skew: Skew,
        terms: ConsentTerms,
    ) -> None:
        self.settings = settings
        self.stats = stats
        self.clock = clock
        self._rooms = rooms
        self._verifier = verifier
        self._recordings = recordings
        self._latency = latency
        self._audit = audit
        self._budgets = dict(budgets)
        self._skew = skew
        self._terms = terms
        self._ice_servers = IceServers(settings.ice_servers, clock)
        self._connections: set[Connection] = set()
        self._strangers: dict[Connection, None] = {}
        """Those that have not joined, by age."""
        self._sessions: dict[str, Session] = {}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """The aiohttp handler of /ws."""
        if len(self._connections) >= self.settings.connections:
            raise web.HTTPServiceUnavailable(text="too many connections", headers={"Retry-After": "5"})
        socket = web.WebSocketResponse(
            heartbeat=self.settings.ping_seconds,
            max_msg_size=self.settings.message_bytes,
            timeout=CLOSE_SECONDS,
            compress=False,
            autoping=False,
        )
        await socket.prepare(request)
        transport = request.transport
        if transport is None:
            return socket  # it has gone already
        address = request.remote or ""
        connection = Connection(socket, transport, address, self.settings, self.stats, self.clock, self.dispatch)
        self._connections.add(connection)
        self._admit_stranger(connection)
        self.stats.sockets = len(self._connections)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)
            self._strangers.pop(connection, None)
            self.stats.sockets = len(self._connections)
            if request.transport is not None and not socket.closed:
                request.transport.abort()
        return socket

    def _admit_stranger(self, connection: Connection) -> None:
        """Who opens connections and never joins takes the place of its own kind, not of participants."""
        if len(self._strangers) >= max(1, self.settings.connections // STRANGERS_SHARE):
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            self.stats.dropped_clients["stranger"] += 1
            oldest.fail(p.CloseCode.TIMEOUT, "timeout", "too many connections wait to join; try again")
        self._strangers[connection] = None

    def close(self) -> None:
        """Tell those that have not joined that the server ends; the others hear it from their rooms."""
        for connection in list(self._connections):
            connection.fail(p.CloseCode.GOING_AWAY, "shutting-down", "the server is shutting down")

    def forget(self, session: Session) -> None:
        self._sessions.pop(session.key, None)

    def dispatch(self, connection: Connection, message: p.ClientMessage) -> None:
        """Carry out a message and answer it."""
        number = getattr(message, "id", None)
        try:
            if isinstance(message, p.Join):
                self._join(connection, message)
            elif isinstance(connection.session, Session):
                _HANDLERS[type(message)](self, connection.session, message)
            else:
                raise _Refused("not-joined", "join a room first")
        except _Refused as error:
            connection.reply(p.Error(code=error.code, message=error.message, id=number))
        except AuthError as error:
            if connection.session is None:
                connection.fail(_AUTH_CLOSE[error.code], error.code, error.message, number)
            else:
                connection.reply(p.Error(code=error.code, message=error.message, id=number))
        except RecordingRefused as error:
            connection.reply(p.Error(code="forbidden", message=str(error), id=number))
        except Overloaded as error:
            text, seconds = error.message, error.retry_seconds
            connection.reply(p.Error(code="overloaded", message=text, id=number, retry_seconds=seconds))
        except RoomError as error:
            code = _ROOM_ERRORS.get(error.code, "internal")
            connection.reply(p.Error(code=code, message=error.message, id=number))
        except OfferError as error:
            self.stats.offers["refused"] += 1
            connection.reply(p.Error(code="bad-offer", message=error.message, line=error.line or None, id=number))
        except Exception:
            log.exception("a message could not be handled", message_type=type(message).__name__)
            connection.reply(p.Error(code="internal", message="the server made a mistake", id=number))

    # Joining

    def _join(self, connection: Connection, message: p.Join) -> None:
        if connection.session is not None:
            raise _Refused("already-joined", "this connection has joined already")
        if message.version != p.VERSION:
            text = f"this server speaks version {p.VERSION}, not {message.version}"
            connection.fail(p.CloseCode.BAD_MESSAGE, "unsupported-version", text, message.id)
            return
        try:
            grant = self._grant(message)
        except AuthError as error:
            self.stats.denials["websocket"] += 1
            self._audit.write(
                "denied", room=message.room[:64], via="websocket", address=connection.address, reason=error.message
            )
            raise
        if message.resume is not None:
            session = self._find(message, grant)
            session.attach(connection)
        else:
            session = self._enter(message, grant)
            session.connection = connection
        connection.session = session
        self._strangers.pop(connection, None)
        connection.reply(self._joined(session, message.id, resumed=message.resume is not None))

    def _grant(self, message: p.Join) -> Grant:
        if not valid_room(message.room):
            raise AuthError("forbidden", "this is no valid name of a room")
        grant = self._verifier.verify(message.token, self.clock.wall())
        if not grant.allows_room(message.room):
            raise AuthError("forbidden", "this token is for another room")
        return grant

    def _find(self, message: p.Join, grant: Grant) -> Session:
        session = self._sessions.get(message.resume or "")
        fits = (
            session is not None
            and session.live.name == message.room
            and session.member.grant.role == grant.role
            and session.member.grant.rights == grant.rights
            and hmac.compare_digest(session.key.encode(), (message.resume or "").encode())
        )
        self.stats.resumes["ok" if fits else "failed"] += 1
        if session is None or not fits:
            raise _Refused("resume-failed", "that session has ended; join anew, without `resume`")
        self._recordings.resumed(session.live, session.member, grant)
        return session

    def _enter(self, message: p.Join, grant: Grant) -> Session:
        live = self._rooms.enter(message.room)
        session = Session(self, live)
        try:
            session.member = live.join(
                grant,
                name=grant.name or clean_name(message.name),
                via="websocket",
                send=session.send,
                gone=session.gone,
            )
        finally:
            self._rooms.leave_if_empty(live)
        self._sessions[session.key] = session
        return session

    def _joined(self, session: Session, number: int, resumed: bool) -> p.Joined:
        member, live = session.member, session.live
        return p.Joined(
            id=number,
            participant=member.id,
            room=live.name,
            name=member.info.name,
            role=member.grant.role,
            rights=sorted(member.grant.rights),
            resume=session.key,
            resumed=resumed,
            resume_seconds=self.settings.resume_seconds,
            participants=live.visible(),
            tracks=live.tracks,
            qualities=live.qualities(member),
            speaker=live.room.speaker,
            recording=live.recording,
            consent=self._terms,
            ice_servers=self._ice_servers.for_client(member.id),
            budgets=self._budgets,
            skew=self._skew,
        )

    # What a participant asks

    def _offer(self, session: Session, message: p.Offer) -> None:
        if message.publish:
            sources = [line.source for line in message.publish]
            self._recordings.consent.check_publish(session.live, session.member.id, sources)
        publish = {line.mid: Publication(line.source, clean_name(line.label)) for line in message.publish}
        subscribe = {line.mid: line.track for line in message.subscribe}
        negotiated = session.live.offer(session.member, message.sdp, publish, subscribe)
        self.stats.offers["ok"] += 1
        bound = [p.Binding(mid=mid, track=track) for mid, track in negotiated.bound.items()]
        refused = [p.Refusal(mid=mid, reason=reason) for mid, reason in negotiated.refused.items()]
        self._reply(session, p.Answer(id=message.id, sdp=negotiated.answer, bound=bound, refused=refused))

    def _candidate(self, session: Session, message: p.Candidate) -> None:
        session.live.candidate(session.member, message.candidate, message.mid)

    def _mute(self, session: Session, message: p.Mute) -> None:
        session.live.mute(session.member, message.track, message.muted)
        self._reply(session, p.Ok(id=message.id))

    def _subscribe(self, session: Session, message: p.Subscribe) -> None:
        session.live.subscribe(session.member, message.track)
        self._reply(session, p.Ok(id=message.id))

    def _unsubscribe(self, session: Session, message: p.Unsubscribe) -> None:
        session.live.unsubscribe(session.member, message.track)
        self._reply(session, p.Ok(id=message.id))

    def _view(self, session: Session, message: p.View) -> None:
        live, member = session.live, session.member
        grants = []
        for asked in message.tracks:
            if asked.track not in live.room.tracks:
                continue  # it has gone while the message was on its way
            before = live.room.participants[member.id].wishes.get(asked.track, Wish())
            wish = Wish(
                rank=before.rank if asked.rank is None else asked.rank,
                height=before.height if asked.height is None else asked.height,
            )
            granted = live.wish(member, asked.track, wish)
            leg = live.room.participants[member.id].leg_of(live.room.tracks[asked.track])
            if asked.paused is not None and leg is not None:
                (live.unsubscribe if asked.paused else live.subscribe)(member, asked.track)
            rank = granted.rank if granted.rank is not None else 0
            paused = leg is not None and leg.paused
            grants.append(p.ViewGrant(track=asked.track, height=granted.height, rank=rank, paused=paused))
        self._reply(session, p.Viewing(id=message.id, tracks=grants))

    def _keyframe(self, session: Session, message: p.Keyframe) -> None:
        session.live.keyframe(session.member, message.track)

    def _ages(self, session: Session, message: p.Ages) -> None:
        now = self.clock.monotonic_us()
        if session.ages_at is not None and now - session.ages_at < AGES_EVERY_US:
            return
        session.ages_at = now
        for track in message.tracks:
            self._latency.note_ages(session.live, session.member.id, track.track, track.ages)

    def _record(self, session: Session, message: p.Record) -> None:
        session.member.grant.require(Right.RECORD)
        self._recordings.switch(session.live, message.on, by=session.member.id)
        self._reply(session, p.Ok(id=message.id))

    def _consent(self, session: Session, message: p.Consent) -> None:
        version, sources = clean_name(message.version), message.sources
        self._recordings.consent.say(
            session.live, session.member.id, message.given, by="participant", version=version, sources=sources
        )
        self._reply(session, p.Ok(id=message.id))

    def _ask_consent(self, session: Session, message: p.AskConsent) -> None:
        session.member.grant.require(Right.RECORD)
        self._recordings.consent.ask(session.live, message.participant, by=session.member.id)
        self._reply(session, p.Ok(id=message.id))

    def _participants(self, session: Session, message: p.ListParticipants) -> None:
        session.live.tell_waiting()
        self._reply(session, p.Participants(id=message.id, participants=session.live.visible()))

    def _leave(self, session: Session, message: p.Leave) -> None:
        self._reply(session, p.Ok(id=message.id))
        connection = session.connection
        if connection is not None:
            connection.session = None
            connection.end(p.CloseCode.LEFT)
        session.live.leave(session.member.id, "left")

    def _ping(self, session: Session, message: p.Ping) -> None:
        time = MEDIA_CLOCK_START_S * 1e3 + self.clock.monotonic_us() / 1e3
        self._reply(session, p.Pong(id=message.id, time=time))

    @staticmethod
    def _reply(session: Session, message: p.ServerMessage) -> None:
        session.send(frame(p.encode(message)))


class _Refused(Exception):
    def __init__(self, code: p.ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


_HANDLERS: Mapping[type, Callable[[Signalling, Session, Any], None]] = {
    p.Offer: Signalling._offer,
    p.Candidate: Signalling._candidate,
    p.Mute: Signalling._mute,
    p.Subscribe: Signalling._subscribe,
    p.Unsubscribe: Signalling._unsubscribe,
    p.View: Signalling._view,
    p.Keyframe: Signalling._keyframe,
    p.Record: Signalling._record,
    p.Consent: Signalling._consent,
    p.AskConsent: Signalling._ask_consent,
    p.Ages: Signalling._ages,
    p.ListParticipants: Signalling._participants,
    p.Leave: Signalling._leave,
    p.Ping: Signalling._ping,
}
