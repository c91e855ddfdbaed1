"""A synthetic cart: publishes a room camera, an ultrasound phantom, heart sounds and a voice over real WebRTC.

The media is encoded once at the start and replayed, so a cart costs a few percent of a core. It is a client like
any other: WebSocket signalling, then ICE, DTLS and SRTP by aiortc.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Sequence
from fractions import Fraction

import aiohttp
import aioice.ice
import av
import msgspec
from aiortc import (
    MediaStreamTrack,
    RTCBundlePolicy,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpCodecCapability,
    RTCRtpSender,
    RTCSessionDescription,
)

from mediaserver.loadtest import loops
from mediaserver.loadtest.loops import Loop
from mediaserver.loadtest.signalling import Message, Signalling, SignallingError

BACK_OFF = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds before the next try after so many failures in a row; the last holds on."""
STABLE_SECONDS = 20.0
"""A session that held so long was good: the next failure starts counting anew."""
FINAL_CODES = frozenset({"unauthorized", "forbidden", "unsupported-version"})
"""Refusals that trying again can't mend."""

Say = Callable[[str], None]


class CartSettings(msgspec.Struct, frozen=True):
    url: str
    room: str
    token: str
    sources: tuple[str, ...] = tuple(loops.SOURCES)
    name: str = "Synthetic cart"
    verify: bool = True
    """whether the server's TLS certificate is checked"""


class CartRefused(Exception):
    """The server will not have this cart, however often it asks."""


class LoopPosition:
    """Which frame of a loop comes next.

    A keyframe request skips to the next keyframe. The picture is then ahead of the other sources, so afterwards a
    frame or two are left out before each keyframe (nothing refers to those) until a whole period between keyframes
    has been skipped: with a keyframe for each heart beat, picture and heart sounds are in step again.
    """

    CATCH_UP = 2

    def __init__(self, keyframes: Sequence[bool]) -> None:
        self._keyframes = keyframes
        starts = [number for number, is_key in enumerate(keyframes) if is_key]
        self._period = starts[1] - starts[0] if len(starts) > 1 else len(keyframes)
        self._index = 0
        self._skipped = 0
        self._wanted = False

    def request_keyframe(self) -> None:
        self._wanted = True

    def next(self) -> int:
        """The index of the frame to send now."""
        if self._wanted:
            self._wanted = False
            self._skip(self._distance())
        elif self._skipped % self._period and 0 < self._distance() <= self._owed():
            self._skip(self._distance())
        index = self._index
        self._index = (index + 1) % len(self._keyframes)
        return index

    def _owed(self) -> int:
        return min(self.CATCH_UP, self._period - self._skipped % self._period)

    def _distance(self) -> int:
        distance = 0
        while not self._keyframes[(self._index + distance) % len(self._keyframes)]:
            distance += 1
        return distance

    def _skip(self, count: int) -> None:
        self._skipped += count
        self._index = (self._index + count) % len(self._keyframes)


class LoopTrack(MediaStreamTrack):
    """Replays a loop in real time, as encoded packets that aiortc only has to packetise."""

    def __init__(self, loop: Loop, started: float) -> None:
        super().__init__()
        self.kind = "audio" if loop.codec == "opus" else "video"
        self.position = LoopPosition(loop.keyframes)
        self._media = loop
        self._started = started
        self._time_base = Fraction(1, loop.clock_rate)
        self._sent = 0

    async def recv(self) -> av.Packet[av.stream.Stream]:
        clock = asyncio.get_running_loop().time
        interval = self._media.duration / self._media.clock_rate
        due = self._started + self._sent * interval
        late = clock() - due
        if late > 1.0:
            # The machine slept: go on from now instead of sending everything at once.
            self._sent += int(late / interval)
        elif late < 0:
            await asyncio.sleep(-late)
        packet = av.Packet(self._media.frames[self.position.next()])
        packet.pts = self._sent * self._media.duration
        packet.time_base = self._time_base
        self._sent += 1
        return packet


def allow_loopback() -> None:
    """Let ICE use 127.0.0.1 on a machine that has no other address.

    aioice leaves loopback out, and any other address of the machine reaches a local server just as well; where there
    is none, a cart beside its server could not connect at all. aioice looks this function up at each gathering.
    """
    gather = aioice.ice.get_host_addresses

    def with_loopback(use_ipv4: bool, use_ipv6: bool) -> list[str]:
        return gather(use_ipv4=use_ipv4, use_ipv6=use_ipv6) or ["127.0.0.1"]

    aioice.ice.get_host_addresses = with_loopback


class Cart:
    """Keeps one session with the server up, from one connection to the next, until it is cancelled."""

    def __init__(self, settings: CartSettings, media: dict[str, Loop], say: Say) -> None:
        self._settings = settings
        self._media = media
        self._say = say
        self._peer: RTCPeerConnection | None = None
        self._resume: str | None = None
        self._lost = asyncio.Event()

    async def run(self) -> None:
        """Publish for ever. Raises `CartRefused`; cancel it to end."""
        clock = asyncio.get_running_loop().time
        failures = 0
        async with aiohttp.ClientSession() as http:
            try:
                while True:
                    started = clock()
                    reason = await self._session(http)
                    failures = 0 if clock() - started > STABLE_SECONDS else failures + 1
                    wait = BACK_OFF[min(failures, len(BACK_OFF)) - 1] if failures else BACK_OFF[0]
                    self._say(f"{reason}; trying again in {wait:g} s")
                    await asyncio.sleep(wait)
            finally:
                await self._hang_up()

    async def _session(self, http: aiohttp.ClientSession) -> str:
        """One signalling connection; says why it ended."""
        try:
            signalling = await Signalling.connect(http, self._settings.url, verify=self._settings.verify)
        except aiohttp.WSServerHandshakeError as error:
            return f"{self._settings.url} is no mediaserver, or one that is busy: it answers {error.status}"
        except (aiohttp.ClientError, OSError) as error:
            reason = (
                os.strerror(error.errno)
                if isinstance(error, OSError) and error.errno and error.errno > 0
                else str(error)
            )
            return f"no server at {self._settings.url} ({reason})"
        try:
            return await self._stay(signalling)
        except SignallingError as error:
            if error.code in FINAL_CODES:
                raise CartRefused(f"the server refused this cart: {error} ({error.code})") from None
            self._resume = None
            await self._hang_up()
            return f"the server refused: {error} ({error.code})"
        except asyncio.CancelledError:
            # A last word, so that the room knows at once.
            await _leave(signalling)
            raise
        finally:
            await signalling.close()

    async def _stay(self, signalling: Signalling) -> str:
        settings = self._settings
        joined = await signalling.join(settings.room, settings.token, settings.name, self._resume)
        self._resume = joined.get("resume")
        if joined.get("resumed") and self._peer is not None:
            self._say("signalling is back, the media never stopped")
        else:
            await self._hang_up()
            self._say(f"joined room {settings.room} as {joined['participant']}")
            await self._publish(signalling)
        return await self._watch(signalling)

    async def _watch(self, signalling: Signalling) -> str:
        """Wait until the signalling or the media connection is gone."""
        news = asyncio.create_task(self._follow(signalling))
        lost = asyncio.create_task(self._lost.wait())
        try:
            await asyncio.wait((news, lost), return_when=asyncio.FIRST_COMPLETED)
            if lost.done():
                self._resume = None
                await self._hang_up()
                return "the media connection is lost"
            return news.result()
        finally:
            for task in (news, lost):
                task.cancel()
            await asyncio.gather(news, lost, return_exceptions=True)

    async def _follow(self, signalling: Signalling) -> str:
        while (message := await signalling.news.get()) is not None:
            text = _headline(message)
            if text:
                self._say(text)
        return "the signalling connection is lost"

    async def _publish(self, signalling: Signalling) -> None:
        # One transport from the start: where each kind has its own at first, aiortc forgets to move the second sound
        # of an offer to the one that the answer bundles all into, and never sends it.
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
        self._peer = peer
        self._lost = asyncio.Event()
        lost = self._lost

        @peer.on("connectionstatechange")
        def changed() -> None:
            if peer.connectionState in ("failed", "closed"):
                lost.set()
            else:
                self._say(f"media {peer.connectionState}")

        started = asyncio.get_running_loop().time()
        sources: list[tuple[str, RTCRtpSender]] = []
        for source in self._settings.sources:
            loop = self._media[source]
            track = LoopTrack(loop, started)
            transceiver = peer.addTransceiver(track, direction="sendonly")
            transceiver.setCodecPreferences(codec_preferences(loop))
            _on_keyframe_request(transceiver.sender, track.position.request_keyframe)
            sources.append((source, transceiver.sender))
        await peer.setLocalDescription(await peer.createOffer())
        mids = {transceiver.sender: transceiver.mid for transceiver in peer.getTransceivers()}
        publish = [{"mid": mids[sender], "source": source} for source, sender in sources]
        answer = await signalling.request("offer", sdp=peer.localDescription.sdp, publish=publish, subscribe=[])
        await peer.setRemoteDescription(RTCSessionDescription(answer["sdp"], "answer"))
        for source in self._settings.sources:
            self._say(f"publishing {source}: {describe(self._media[source])}")

    async def _hang_up(self) -> None:
        peer, self._peer = self._peer, None
        if peer is not None:
            await peer.close()


def codec_preferences(loop: Loop) -> list[RTCRtpCodecCapability]:
    """The loop's own codec and its retransmission, so that nothing else can be negotiated."""
    kind = "audio" if loop.codec == "opus" else "video"
    wanted = {f"{kind}/{loop.codec}".lower(), f"{kind}/rtx"}
    return [
        codec
        for codec in RTCRtpSender.getCapabilities(kind).codecs
        if codec.mimeType.lower() in wanted
        # Both H.264 entries would carry the loop; constrained baseline (RFC 6184) is what it is.
        and codec.parameters.get("profile-level-id", "42e01f") == "42e01f"
    ]


def describe(loop: Loop) -> str:
    """A line for people: codec, size, rate."""
    size = f" {loop.width}x{loop.height} at {loop.clock_rate // loop.duration}/s" if loop.width else " 48 kHz mono"
    return f"{loop.codec}{size}, {loop.bitrate / 1000:.0f} kbit/s"


def _on_keyframe_request(sender: RTCRtpSender, request: Callable[[], None]) -> None:
    # aiortc tells only its own encoder that a keyframe is wanted, and has no event for it.
    setattr(sender, "_send_keyframe", request)  # noqa: B010 -- a plain assignment to a method is a type error


def _headline(message: Message) -> str:
    match message["type"]:
        case "participant-joined":
            participant = message["participant"]
            return f"{participant['name'] or participant['id']} ({participant['role']}) has joined"
        case "participant-left":
            return f"participant {message['participant']} has left ({message['reason']})"
        case "recording":
            return f"recording is {message['state']}"
        case "error":
            return f"the server says: {message['message']} ({message['code']})"
    return ""


async def _leave(signalling: Signalling) -> None:
    with contextlib.suppress(SignallingError, TimeoutError):
        async with asyncio.timeout(1.0):
            await signalling.request("leave")


async def run_cart(settings: CartSettings, say: Say) -> None:
    """Encode the media and publish it until SIGINT or SIGTERM. Raises `CartRefused`."""
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(_prepare_and_run(settings, say))
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        say("stopped")


async def _prepare_and_run(settings: CartSettings, say: Say) -> None:
    allow_loopback()
    say(f"drawing and encoding {', '.join(settings.sources)}")
    made = await asyncio.gather(*(_in_background(loops.SOURCES[source]) for source in settings.sources))
    await Cart(settings, dict(zip(settings.sources, made, strict=True)), say).run()


async def _in_background(make: Callable[[], Loop]) -> Loop:
    """As `asyncio.to_thread`, but the end of the program does not wait for the thread."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[Loop] = loop.create_future()

    def finish(made: Loop | Exception) -> None:
        if result.done():
            return
        if isinstance(made, Exception):
            result.set_exception(made)
        else:
            result.set_result(made)

    def run() -> None:
        outcome: Loop | Exception
        try:
            outcome = make()
        except Exception as error:
            outcome = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(finish, outcome)

    threading.Thread(target=run, name="encoder", daemon=True).start()
    return await result
