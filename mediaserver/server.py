"""The composition root: makes every part, hands each what it needs, and takes them down again in order."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import secrets
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, cast

import structlog
from aiohttp import web

from mediaserver import auth, config
from mediaserver.about import About
from mediaserver.archive_schedule import DisposalSchedule
from mediaserver.archive_storage import Sending, bring_logs_back, make_storage
from mediaserver.audit import Audit
from mediaserver.clock import Clock
from mediaserver.config import ConfigError
from mediaserver.consent import Whose
from mediaserver.desk.access import ArchiveAccess
from mediaserver.desk.api import ArchiveApi
from mediaserver.desk.break_glass import BreakGlass
from mediaserver.events import EventStream
from mediaserver.evidence import audit_limits, open_keys, time_stamps
from mediaserver.http import tls
from mediaserver.http.app import WebApp
from mediaserver.http.door import IDLE_SECONDS, Door
from mediaserver.http.exchange import token_of
from mediaserver.live_room import LiveRoom
from mediaserver.metrics import Metrics
from mediaserver.net import BACKLOG, AddressWatch, StartError, listen, machine_addresses
from mediaserver.operations import OPERATIONS
from mediaserver.policy import source_policies
from mediaserver.reach import find_addresses, open_worker
from mediaserver.recording import trail
from mediaserver.recording.archive import Archive, ArchiveInUse, ArchiveUnusable
from mediaserver.recording.catalog import CatalogError
from mediaserver.recording.evidence import Evidence
from mediaserver.recording.recorder import Recorder, RecordingSettings
from mediaserver.recording.register import Register
from mediaserver.recording.sidecars import Identifiers
from mediaserver.recordings import Recordings
from mediaserver.relays import IceServers
from mediaserver.reports.latency import LatencyBook
from mediaserver.reports.loss import LossBook
from mediaserver.reports.session import SessionReports
from mediaserver.reports.spells import SpellBook
from mediaserver.room_events import RoomEvent
from mediaserver.rooms import Rooms
from mediaserver.settings import Config, Endpoint
from mediaserver.sfu.session import events as ev
from mediaserver.sfu.session.dtls import Identity
from mediaserver.sfu.session.model import Right, Role
from mediaserver.sfu.session.settings import RoomPolicy, SessionSettings
from mediaserver.sfu.wire import gcm
from mediaserver.signalling import Signalling
from mediaserver.stats import ControlStats
from mediaserver.whip import Whip

if TYPE_CHECKING:
    from mediaserver.recording.storage.remote import S3Storage

log = structlog.get_logger("mediaserver.server")

SHUTDOWN_SECONDS = 3.0
"""How long open HTTP requests and sockets may take to end."""
DRAIN_SECONDS = 1.0
"""How long the workers may take to say goodbye to the peers."""


class MediaServer:
    """A whole server inside an asyncio application::

        async with MediaServer(Config()) as server:
            token = server.token(room="ward-3", role=Role.DOCTOR)
            async for room, event in server.events():
                ...

    Its loop may be uvloop's or asyncio's own. Raises `ConfigError` for settings that can't be used, `StartError`
    when a port can't be had.
    """

    def __init__(self, settings: Config | None = None, *, clock: Clock | None = None) -> None:
        self.config = settings or Config()
        self.clock = clock or Clock()
        self.random_secret = not self.config.auth.secret and not self.config.auth.public_keys
        """Nothing was configured: the tokens of this run are good for this run only."""
        self._secret = secrets.token_urlsafe(32) if self.random_secret else self.config.auth.secret
        self._streams: set[EventStream] = set()
        self._stack = contextlib.AsyncExitStack()
        self._ready = False
        self._ports: tuple[Endpoint, ...] = ()

    # What an application uses

    @property
    def rooms(self) -> Rooms:
        """The open rooms by name."""
        return self._rooms

    @property
    def url(self) -> str:
        """Where the pages are, as seen from this machine."""
        scheme = "https" if self.secure else "http"
        host = self._ports[0].host if self.config.http.endpoint.host else "127.0.0.1"
        return f"{scheme}://{Endpoint(host, self._ports[0].port)}"

    @property
    def secure(self) -> bool:
        return bool(self.config.http.certificate) or self.config.http.tls != "off"

    @property
    def http_ports(self) -> tuple[Endpoint, ...]:
        """The addresses that it listens on."""
        return self._ports

    @property
    def media_ports(self) -> tuple[int, ...]:
        """The workers' UDP ports."""
        return tuple(slot.worker.port for slot in self._rooms.workers)

    @property
    def tcp_ports(self) -> tuple[int, ...]:
        """The workers' TCP ports; none where TCP is off."""
        ports = (slot.worker.tcp_port for slot in self._rooms.workers)
        return tuple(port for port in ports if port is not None)

    def token(
        self,
        *,
        room: str,
        role: Role | str,
        rights: Iterable[Right | str] | None = None,
        name: str = "",
        ttl: float = auth.DEFAULT_TTL,
        identifiers: Identifiers | None = None,
        retention: str = "",
        recording: Whose | None = None,
        consent: auth.ConsentClaim | None = None,
    ) -> str:
        """A token signed with this server's secret; with `identifiers` and `retention` for what is recorded in the
        room (`about`). `recording` says whose tracks may be recorded there, `consent` what its holder has said to that
        already. Raises `ValueError` when it has public keys only."""
        wanted = None if rights is None else [Right(right) for right in rights]
        now = self.clock.wall()
        return auth.mint(
            self._secret, room=room, role=Role(role), now=now, rights=wanted, name=name, ttl=ttl,
            identifiers=identifiers, retention=retention, recording=recording, consent=consent,
        )  # fmt: skip

    def subscribe(self, callback: Callable[[LiveRoom, RoomEvent], None]) -> Callable[[], None]:
        """Call back for every event, on the loop, in order. Returns what ends it."""
        self._rooms.observe(callback)
        return lambda: self._rooms.unobserve(callback)

    def events(self) -> EventStream:
        """Every event from now on, until the server ends or the stream is closed."""
        return EventStream(self._rooms, self._streams)

    # Life

    async def __aenter__(self) -> MediaServer:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ready = False
        await self._stack.aclose()

    async def _start(self) -> None:
        """Each part registers its end as it starts; they are carried out in the opposite order."""
        settings = self.config
        self.verifier = self._make_verifier()
        data = Path(settings.data.dir)
        self._keys = open_keys(settings.evidence, self._open_data(data))
        self.storage = make_storage(self.config, self.clock)
        await bring_logs_back(self.storage, data)
        self.audit = self._open_audit(data)
        self._stack.callback(self.audit.close)
        self.stats = ControlStats()
        rooms = settings.rooms
        policy = RoomPolicy(
            sources=source_policies(settings.policy.sources),
            max_participants=rooms.max_participants,
            max_tracks=rooms.max_tracks,
        )
        packets = settings.media.memory_mb << 20
        consents = settings.recording.consents
        self._rooms = Rooms(self.clock, policy, rooms.max_rooms, settings.limits, packets, consents)
        self._rooms.open()
        self._stack.callback(self._rooms.close)
        self._start_workers()
        self.reports = SessionReports(data / "reports", settings.data.reports, self.clock)
        self._stack.callback(self.reports.close)
        self.latency = LatencyBook({name: one.glass_to_glass_ms for name, one in settings.policy.sources.items()})
        self.spells = SpellBook(self.clock)
        self.loss = LossBook()
        self.reports.add_section("latency", self.latency.collect)
        self.reports.add_section("loss", self.loss.collect)
        self.reports.add_section("freshness", self.spells.freshness)
        self.reports.add_section("sound", self.spells.sound)
        self.metrics = Metrics(self._rooms, self.stats, self.audit, self.reports, self.latency, self.spells)
        await self._start_archive(data / "archive")
        # The reports come first: at a room's end they collect from the others.
        for book in (self.reports, self.latency, self.loss, self.spells):
            self._rooms.observe(book.on_event)
        self._rooms.observe(self._account)
        self._stack.callback(self._end_streams)
        await self._start_http(data / "tls")
        self.audit.write("server-started", url=self.url, media_ports=list(self.media_ports))
        self._ready = True

    def _make_verifier(self) -> auth.Verifier:
        settings = self.config.auth
        try:
            keys = [(path, config.read_text(path)) for path in settings.public_keys]
            return auth.Verifier(
                self._secret,
                keys,
                leeway=settings.leeway_seconds,
                audience=settings.audience,
                issuer=settings.issuer,
            )
        except ValueError as error:
            raise ConfigError(f"auth: {error}") from None

    def _open_data(self, data: Path) -> Path:
        """The folder of keys in it."""
        try:
            (data / "keys").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = f"the data folder {data} can't be used: {error.strerror}"
            raise StartError(f"{reason}; choose another with --data DIR") from None
        return data / "keys"

    def _open_audit(self, data: Path) -> Audit:
        try:
            return Audit(data / trail.NAME, self.clock, self._keys.signer, audit_limits(self.config.evidence))
        except OSError as error:
            reason = f"the data folder {data} can't be used: {error.strerror}"
            raise StartError(f"{reason}; choose another with --data DIR") from None

    def _start_workers(self) -> None:
        settings = self.config.media
        gcm.choose(settings.srtp_library)
        if gcm.obstacle():
            log.info("SRTP by OpenSSL, for ipsec-mb can't be used", reason=gcm.obstacle())
        identity = Identity.generate(datetime.fromtimestamp(self.clock.wall(), UTC))
        self._stack.push_async_callback(self._rooms.workers.stop)
        for number in range(settings.workers or config.core_count()):
            worker = open_worker(settings, number)
            session = SessionSettings(
                identity=identity,
                candidates=(),
                desk=self._rooms.handshakes,
                connect_timeout_us=int(settings.connect_seconds * 1e6),
            )
            worker.start()
            self._rooms.workers.add(worker, session)
        find_addresses(settings, self._rooms)
        if not settings.announce and not settings.endpoint.host:
            self._stack.callback(AddressWatch(lambda: find_addresses(settings, self._rooms)).close)
        self._stack.push_async_callback(self._drain)

    async def _drain(self) -> None:
        """Close the rooms and let the workers tell the peers."""
        self._rooms.close_all()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await self._rooms.drained()

    async def _start_archive(self, folder: Path) -> None:
        self.recordings = Recordings(self.config.recording, self._rooms, self.audit, self._index)
        storage = self.storage
        register = Register(storage, self._keys.signer, self.clock.wall_us, lambda: self.audit.head)
        self.audit.witness(lambda: register.head)
        evidence = Evidence(self._keys.trusted, self._keys.signer, register, self.clock.wall_us)
        leaves = self.config.storage.kind == "s3"
        recorder = Recorder(
            RecordingSettings(
                folder=folder, segment_us=round(self.config.recording.segment_seconds * 1e6) if leaves else 0
            ),
            monotonic=self.clock.monotonic_us,
            wall=self.clock.wall_us,
            on_state=self.recordings.on_state,
            request_keyframe=self.recordings.on_keyframe,
            evidence=evidence,
            storage=storage,
        )
        try:
            self.archive = Archive(
                folder,
                live=recorder.recordings,
                evidence=evidence,
                storage=storage,
                catalog=self.config.catalog.url,
                on_catalog=self._on_catalog,
                retention=self.config.retention.policy,
                wall_us=self.clock.wall_us,
            )
            await self.archive.open(self.clock.wall_us())
        except CatalogError as error:
            raise ConfigError(f"catalog.url: {error}") from None
        except ArchiveInUse:
            taken = f"another server records into {folder}"
            raise StartError(f"{taken}: stop that one, or choose another folder with --data DIR") from None
        except ArchiveUnusable as error:
            raise StartError(f"{error}; or choose another folder with --data DIR") from None
        for failure in self.archive.failures:
            log.error("a recording of an earlier run could not be closed", reason=failure)
        for recording, files in self.archive.erased:
            self.audit.write("consent-erased", recording=recording, files=files)
        self._stack.push_async_callback(self.archive.close)
        self._start_keeping(folder.parent)
        self._time_stamps = time_stamps(self.config.evidence, self.archive, self._keys)
        if self._time_stamps is not None:
            self._time_stamps.start()
            self._stack.push_async_callback(self._time_stamps.close)
        self.metrics.time_stamps = self._time_stamps
        if leaves:
            bucket = cast("S3Storage", storage)
            logs = bucket.logs(folder.parent, lambda: register.head, lambda: self.audit.head)
            sending = Sending(bucket, self.config.storage.uploads, logs)
            await sending.start()
            self._stack.push_async_callback(sending.close)
            self.metrics.uploader, self.metrics.log_copies = bucket.uploader, logs
        recorder.open()
        self._stack.push_async_callback(asyncio.to_thread, recorder.close)
        self.recordings.attach(recorder, self.archive)
        self.metrics.recorder = recorder
        self.metrics.archive = self.archive
        self._stack.push_async_callback(self.recordings.close)

    def _start_keeping(self, data: Path) -> None:
        try:
            self._break_glass = BreakGlass(self.config.breakglass, data, self.clock)
        except OSError as error:
            raise StartError(f"{error.filename}: {error.strerror}; choose another folder with --data DIR") from None
        about = About(self.archive, self.audit, self.clock)
        self._rooms.observe(about.on_event)
        self._stack.push_async_callback(about.close)
        self._break_glass.start()
        self._stack.push_async_callback(self._break_glass.close)
        self.metrics.break_glass = self._break_glass
        if hours := self.config.retention.dispose_every_hours:
            schedule = DisposalSchedule(self.archive, self.audit, self.clock, hours)
            schedule.start()
            self._stack.push_async_callback(schedule.close)

    def _on_catalog(self, trouble: str) -> None:
        if trouble:
            log.error("the catalog can't be used; recordings go on, and it catches up once it can", reason=trouble)
        else:
            log.info("the catalog can be used again and has caught up")

    async def _index(self, recording: str) -> None:
        await self.archive.index(recording)
        report = self.reports.take(recording)
        if report is not None:
            await self.archive.keep_report(recording, report)
        if self._time_stamps is not None:
            self._time_stamps.add(recording)
        await self.recordings.consent.erase(recording)
        await asyncio.to_thread(self.storage.closed, recording)

    async def _start_http(self, tls_folder: Path) -> None:
        settings = self.config
        http = settings.http
        self.signalling = Signalling(
            settings.signalling,
            self._rooms,
            self.verifier,
            self.recordings,
            self.latency,
            self.audit,
            self.stats,
            self.clock,
            settings.policy.sources,
            settings.policy.skew,
            settings.recording.terms,
        )
        self.whip = Whip(
            http,
            self._rooms,
            self.verifier,
            self.audit,
            self.stats,
            self.clock,
            IceServers(settings.signalling.ice_servers, self.clock),
            self.recordings,
        )
        door = Door()
        app = WebApp(self, OPERATIONS, door.middleware).app
        access = ArchiveAccess(self.grant, self.archive, self.audit, self.clock, self._break_glass, self.stats.denials)
        desk = ArchiveApi(
            self.archive, access.authorize, wall_us=self.clock.wall_us, who=access.who, confirm=access.confirm,
            veil=access.veil, tell=access.tell, glass=access,
        )  # fmt: skip
        self._stack.push_async_callback(desk.close)
        app.add_routes(desk.routes())
        addresses = [http.endpoint.host] if http.endpoint.host else machine_addresses()
        context = tls.server_context(http, tls_folder, [ip for ip in addresses if _is_ip(ip)], self.clock.wall())
        sockets = listen(http.endpoint)
        self._ports = tuple(Endpoint(*one.getsockname()[:2]) for one in sockets)
        runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=SHUTDOWN_SECONDS,
            keepalive_timeout=IDLE_SECONDS,
        )
        self._stack.push_async_callback(runner.cleanup)
        await runner.setup()
        assert runner.server is not None
        self._stack.callback(door.close)
        await door.listen(runner.server, sockets, context, BACKLOG)
        self._stack.callback(self._end_rooms)

    def _end_rooms(self) -> None:
        """The first thing of a shutdown: everybody is told, so that their sockets end by themselves."""
        self.audit.write("server-stopped")
        self.signalling.close()
        self._rooms.close_all()

    def _end_streams(self) -> None:
        for stream in tuple(self._streams):
            stream.close()

    # For the other parts

    def unready(self) -> list[str]:
        """Why no consultation should be sent here, in words; empty when all is well."""
        reasons = [] if self._ready else ["the server is starting or shutting down"]
        alarms = sum(room.recording.state == "alarm" for room in self._rooms.values())
        if alarms:
            reasons.append(f"{alarms} recordings can't be written")
        if self.audit.trouble:
            reasons.append(f"the audit trail can't be written: {self.audit.trouble}")
        refusal = self._rooms.admission.refusal(opens=True) if self._ready else None
        if refusal is not None:
            reasons.append(f"the server is at its limit: {refusal.text}")
        return reasons

    def grant(self, request: web.Request) -> auth.Grant:
        """The grant of a request's token. Raises `AuthError`."""
        return self.verifier.verify(token_of(request), self.clock.wall())

    def _account(self, live: LiveRoom, event: RoomEvent) -> None:
        """Counts and the audit trail of joins and leaves."""
        match event:
            case ev.ParticipantJoined(participant=info):
                member = live.members.get(info.id)
                via = member.via if member is not None else ""
                self.stats.joins[via] += 1
                self.audit.write(
                    "join", room=live.name, participant=info.id, name=info.name, role=str(info.role), via=via
                )
            case ev.ParticipantLeft(participant=participant, reason=reason):
                self.stats.leaves[reason] += 1
                self.audit.write("leave", room=live.name, participant=participant, reason=reason)
            case ev.FreshnessChanged(track=track, state=state, time=time):
                self.stats.spells.change(track, str(live.room.tracks[track].source), state, time)
            case ev.TrackRemoved(track=track):
                self.stats.spells.end(track, self.clock.monotonic_us())
            case ev.LegLive(since_join_us=since):
                self.stats.first_frame.add(since / 1e6)
            case _:
                pass


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
