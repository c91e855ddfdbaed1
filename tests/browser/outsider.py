"""A viewer of another make: aiortc over the WebSocket, as an application in Python would do it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import aiohttp
from aiortc import RTCBundlePolicy, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

from tests.browser import framecode


class OutsideViewer:
    """Joins a room and receives every track that is there. Times are seconds since the join was sent."""

    def __init__(self) -> None:
        self.first: dict[str, float] = {}
        self.frames: dict[str, int] = {}
        self._codes: list[tuple[int, int]] = []
        self._tasks: list[asyncio.Task[None]] = []
        # Where m-lines of a kind share a transport from the start, aiortc leaves the second behind when it bundles.
        policy = RTCBundlePolicy.MAX_COMPAT
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=policy))
        self._session: aiohttp.ClientSession | None = None

    async def join(self, base: str, room: str, token: str) -> list[dict[str, Any]]:
        """Returns the server's list of tracks, each of which is now received."""
        self._session = aiohttp.ClientSession()
        self._socket = await self._session.ws_connect(f"{base}/ws")
        self._began = time.monotonic()
        joined = await self._ask({"type": "join", "id": 1, "version": 1, "room": room, "token": token})
        tracks: list[dict[str, Any]] = joined["tracks"]
        lines = [self._connection.addTransceiver(track["kind"], direction="recvonly") for track in tracks]
        await self._connection.setLocalDescription(await self._connection.createOffer())
        wanted = [{"mid": line.mid, "track": track["id"]} for line, track in zip(lines, tracks, strict=True)]
        offer = {"type": "offer", "id": 2, "sdp": self._connection.localDescription.sdp, "subscribe": wanted}
        answer = await self._ask(offer)
        assert sorted(bound["track"] for bound in answer["bound"]) == sorted(track["id"] for track in tracks)
        await self._connection.setRemoteDescription(RTCSessionDescription(answer["sdp"], "answer"))
        for line, track in zip(lines, tracks, strict=True):
            self._tasks.append(asyncio.create_task(self._consume(line.receiver.track, track)))
        return tracks

    async def until_all(self, tracks: list[dict[str, Any]], count: int) -> None:
        """Waits until `count` frames of every track have come."""
        try:
            async with asyncio.timeout(25):
                while any(self.frames.get(track["id"], 0) < count for track in tracks):
                    self._news = asyncio.Event()
                    await self._news.wait()
        except TimeoutError:
            seen = {track["source"]: self.frames.get(track["id"], 0) for track in tracks}
            raise AssertionError(f"not {count} frames of every track: {seen}") from None

    def codes(self) -> list[int]:
        """The numbers of the ultrasound's frames by their timestamps: after a loss, FFmpeg's decoder may swap two."""
        return [code for _, code in sorted(self._codes)]

    async def leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._connection.close()
        await self._socket.close()
        if self._session is not None:
            await self._session.close()

    async def _ask(self, message: dict[str, Any]) -> Any:
        await self._socket.send_json(message)
        while True:
            reply = await self._socket.receive_json()
            if reply.get("id") == message["id"]:
                assert reply["type"] != "error", reply
                return reply

    async def _consume(self, medium: Any, track: dict[str, Any]) -> None:
        name = track["id"]
        with contextlib.suppress(MediaStreamError):
            while True:
                frame = await medium.recv()
                self.first.setdefault(name, time.monotonic() - self._began)
                self.frames[name] = self.frames.get(name, 0) + 1
                if track["source"] == "ultrasound":
                    plane = frame.to_ndarray(format="gray")
                    self._codes.append((frame.pts, framecode.read(plane)))
                if hasattr(self, "_news"):
                    self._news.set()
