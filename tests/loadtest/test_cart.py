"""The synthetic cart: what it sends next, and whole sessions with a peer of another make, over a real WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from typing import Any

import aiohttp
import aioice.ice
import pytest
from aiohttp import web
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCSessionDescription
from aiortc.codecs.h264 import H264Encoder
from aiortc.mediastreams import MediaStreamError
from aiortc.sdp import SessionDescription

from mediaserver.loadtest import cart, loops
from mediaserver.loadtest.cart import Cart, CartRefused, CartSettings, LoopPosition, LoopTrack
from mediaserver.loadtest.loops import Loop
from mediaserver.loadtest.raster import read_code
from mediaserver.loadtest.signalling import Signalling, SignallingError, socket_url
from tests.loadtest.running import asynchronous

PERIOD = 5
KEYFRAMES = [number % PERIOD == 0 for number in range(4 * PERIOD)]


def test_a_loop_goes_round() -> None:
    position = LoopPosition(KEYFRAMES)
    assert [position.next() for _ in range(25)] == [*range(20), *range(5)]


@pytest.mark.parametrize("sent", range(1, 12))
def test_a_request_skips_to_the_next_keyframe_and_later_falls_in_step_again(sent: int) -> None:
    position = LoopPosition(KEYFRAMES)
    shown = [position.next() for _ in range(sent)]
    position.request_keyframe()
    shown += [position.next() for _ in range(60)]
    assert KEYFRAMES[shown[sent]]
    # Always forward, over no keyframe, never more than two frames at a time after the request's own skip.
    steps = [(after - before) % len(KEYFRAMES) for before, after in pairwise(shown)]
    assert all(1 <= step <= LoopPosition.CATCH_UP + 1 for number, step in enumerate(steps, 1) if number != sent)
    for before, after in pairwise(shown):
        between = [number % len(KEYFRAMES) for number in range(before + 1, before + (after - before) % 20)]
        assert not any(KEYFRAMES[number] for number in between)
    # In the end as many frames are left out as make whole periods: the beat is where it would have been.
    assert shown[-1] % PERIOD == (len(shown) - 1) % PERIOD


def test_frames_are_left_out_before_keyframes_alone() -> None:
    position = LoopPosition(KEYFRAMES)
    position.next()
    position.request_keyframe()
    shown = [position.next() for _ in range(40)]
    jumps = [after for before, after in pairwise(shown) if (after - before) % 20 != 1]
    assert jumps
    assert all(KEYFRAMES[number] for number in jumps)


@asynchronous
async def test_a_track_gives_packets_in_real_time() -> None:
    loop = Loop("H264", 90_000, 900, (b"\0\0\1\x65a", b"\0\0\1\x41b"), (True, False))
    clock = asyncio.get_running_loop()
    started = clock.time()
    track = LoopTrack(loop, started)
    packets = [await track.recv() for _ in range(6)]
    assert clock.time() - started >= 5 * 0.01
    assert [packet.pts for packet in packets] == [900 * number for number in range(6)]
    assert [bytes(packet)[-1:] for packet in packets] == [b"a", b"b"] * 3
    assert H264Encoder().pack(packets[1]) == ([b"\x41b"], 900)


@asynchronous
async def test_a_track_that_slept_does_not_catch_up_in_a_burst() -> None:
    loop = Loop("H264", 90_000, 9000, (b"\0\0\1\x65a",), (True,))
    track = LoopTrack(loop, asyncio.get_running_loop().time() - 100)
    first, second = await track.recv(), await track.recv()
    assert first.pts >= 999 * 9000
    assert second.pts == first.pts + 9000


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://host:1", "ws://host:1/ws"),
        ("https://host/", "wss://host/ws"),
        ("host:8080", "ws://host:8080/ws"),
        ("http://host/base/", "ws://host/base/ws"),
    ],
)
def test_the_socket_is_beside_the_pages(url: str, expected: str) -> None:
    assert socket_url(url) == expected


@pytest.mark.parametrize("url", ["", "https://", "http://:80", "ftp://h", "ws://h", "http://h:99999", "http://h:x"])
def test_what_is_no_address_of_a_server(url: str) -> None:
    with pytest.raises(ValueError, match=r"HOST|[Pp]ort"):
        socket_url(url)


def test_loopback_serves_where_nothing_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses: list[str] = []
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: list(addresses))
    cart.allow_loopback()
    assert aioice.ice.get_host_addresses(use_ipv4=True, use_ipv6=True) == ["127.0.0.1"]
    addresses.append("192.0.2.1")
    assert aioice.ice.get_host_addresses(use_ipv4=True, use_ipv6=True) == ["192.0.2.1"]


class Consultation:
    """The other end of a cart: signalling as documented, media by aiortc."""

    def __init__(self) -> None:
        self.joins: list[dict[str, Any]] = []
        self.offers: list[dict[str, Any]] = []
        self.left = asyncio.Event()
        self.codes: asyncio.Queue[int | None] = asyncio.Queue()
        self.refuse: dict[str, str] | None = None
        self._peers: list[RTCPeerConnection] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._sockets: list[web.WebSocketResponse] = []

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_get("/ws", self._socket)
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()
            for peer in self._peers:
                await peer.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def drop_socket(self) -> None:
        await self._sockets[-1].close()

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._sockets.append(socket)
        async for frame in socket:
            message = frame.json()
            answer = await getattr(self, "_" + message["type"])(message)
            await socket.send_json({"id": message["id"], **answer})
        return socket

    async def _join(self, message: dict[str, Any]) -> dict[str, Any]:
        self.joins.append(message)
        if self.refuse:
            return {"type": "error", **self.refuse}
        return {"type": "joined", "participant": "p", "resume": "again", "resumed": "resume" in message}

    async def _leave(self, message: dict[str, Any]) -> dict[str, Any]:
        self.left.set()
        return {"type": "ok"}

    async def _offer(self, message: dict[str, Any]) -> dict[str, Any]:
        self.offers.append(message)
        peer = RTCPeerConnection()
        self._peers.append(peer)
        peer.on("track", lambda track: self._tasks.append(asyncio.ensure_future(self._watch(track))))
        await peer.setRemoteDescription(RTCSessionDescription(message["sdp"], "offer"))
        await peer.setLocalDescription(await peer.createAnswer())
        return {"type": "answer", "sdp": peer.localDescription.sdp, "bound": []}

    async def _watch(self, track: MediaStreamTrack) -> None:
        with contextlib.suppress(MediaStreamError):
            while track.kind == "video":
                frame = await track.recv()
                self.codes.put_nowait(read_code(frame.to_ndarray(format="yuv420p")[: frame.height]))


@contextlib.asynccontextmanager
async def publishing(url: str, media: dict[str, Loop], said: list[str]) -> AsyncIterator[asyncio.Task[None]]:
    settings = CartSettings(url, "room", "token", tuple(media))
    task = asyncio.create_task(Cart(settings, media, said.append).run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(scope="module")
def media() -> dict[str, Loop]:
    return {
        "ultrasound": loops.ultrasound(beats=2, size=(320, 240), bitrate=500_000),
        "stethoscope": loops.stethoscope(seconds=1),
        "microphone": loops.microphone(seconds=1),
    }


async def eventually(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 -- the cart has no event for what it says
        await asyncio.sleep(0.01)


@asynchronous
async def test_a_consultation_arrives_in_order_and_ends_with_a_word(media: dict[str, Loop]) -> None:
    consultation, said = Consultation(), []
    async with consultation.serve() as url, publishing(url, media, said) as task:
        codes = [await consultation.codes.get() for _ in range(30)]
        offer = SessionDescription.parse(consultation.offers[0]["sdp"])
        assert [(item["mid"], item["source"]) for item in consultation.offers[0]["publish"]] == [
            ("0", "ultrasound"),
            ("1", "stethoscope"),
            ("2", "microphone"),
        ]
        assert [codec.mimeType for codec in offer.media[0].rtp.codecs] == ["video/H264", "video/rtx"]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await consultation.left.wait()
    first = codes[0]
    assert first is not None
    assert codes == [(first + step) % 50 for step in range(30)]
    assert "media connected" in said


@asynchronous
async def test_a_dropped_socket_is_taken_up_while_the_media_goes_on(
    media: dict[str, Loop], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cart, "BACK_OFF", (0.01,))
    consultation, said = Consultation(), []
    async with consultation.serve() as url, publishing(url, media, said):
        await consultation.codes.get()
        await consultation.drop_socket()
        await eventually(lambda: "signalling is back, the media never stopped" in said)
        assert [join.get("resume") for join in consultation.joins] == [None, "again"]
        assert len(consultation.offers) == 1
        while not consultation.codes.empty():
            consultation.codes.get_nowait()
        await consultation.codes.get()


@asynchronous
async def test_a_cart_waits_for_its_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cart, "BACK_OFF", (0.01, 0.02))
    said: list[str] = []
    async with publishing("http://127.0.0.1:9", {}, said):
        await eventually(lambda: len(said) >= 3)
    assert all("no server at" in line for line in said)
    assert "0.01 s" in said[0]
    assert "0.02 s" in said[2]


@pytest.mark.parametrize("code", sorted(cart.FINAL_CODES))
@asynchronous
async def test_a_cart_that_is_not_wanted_gives_up(code: str) -> None:
    consultation, said = Consultation(), []
    consultation.refuse = {"code": code, "message": "no"}
    async with consultation.serve() as url, publishing(url, {}, said) as task:
        with pytest.raises(CartRefused, match=code):
            await task
    assert not consultation.offers


@asynchronous
async def test_another_refusal_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cart, "BACK_OFF", (0.01,))
    consultation, said = Consultation(), []
    consultation.refuse = {"code": "room-full", "message": "too many"}
    async with consultation.serve() as url, publishing(url, {}, said):
        await eventually(lambda: len(consultation.joins) >= 2)
    assert "too many (room-full)" in said[0]


@asynchronous
async def test_a_request_on_a_closed_connection_says_so() -> None:
    consultation = Consultation()
    async with consultation.serve() as url, aiohttp.ClientSession() as http:
        signalling = await Signalling.connect(http, url)
        await signalling.join("room", "token")
        await consultation.drop_socket()
        assert await signalling.news.get() is None
        with pytest.raises(SignallingError) as caught:
            await signalling.request("ping")
        assert caught.value.code == "closed"
        await signalling.close()
