"""A viewer of another make: aiortc by WHEP, decoding what it gets."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from types import TracebackType
from typing import Any
from urllib.parse import urljoin

import aiohttp
import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack

from mediaserver.loadtest.raster import read_code

SDP = "application/sdp"


class WhepViewer:
    """`codes` are the numbers in the pictures, None where one can't be read; `bursts` counts beginnings of sound."""

    def __init__(self, video: int = 1, audio: int = 1) -> None:
        self.codes: list[int | None] = []
        self.sizes: set[tuple[int, int]] = set()
        self.bursts = 0
        self.sounds = 0
        self.resource = ""
        self.answer = ""
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._headers: dict[str, str] = {}
        self._http = aiohttp.ClientSession()
        self._peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._peer.on("track", self._take)
        for kind in itertools.chain(["video"] * video, ["audio"] * audio):
            self._peer.addTransceiver(kind, direction="recvonly")

    async def __aenter__(self) -> WhepViewer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._peer.close()
        await self._http.close()

    async def join(self, url: str, token: str) -> None:
        """POST the offer to the WHEP endpoint and take the answer."""
        await self._peer.setLocalDescription(await self._peer.createOffer())
        self._headers = {"Authorization": f"Bearer {token}"}
        headers = self._headers | {"Content-Type": SDP}
        async with self._http.post(url, data=self._peer.localDescription.sdp, headers=headers) as response:
            self.answer = await response.text()
            assert response.status == 201, self.answer
            assert response.content_type == SDP
            self.resource = urljoin(url, response.headers["Location"])
        await self._peer.setRemoteDescription(RTCSessionDescription(self.answer, "answer"))

    async def leave(self) -> int:
        """DELETE the resource; the status of the response."""
        async with self._http.delete(self.resource, headers=self._headers) as response:
            return response.status

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until it holds; looked at with every frame."""
        while not condition():
            self._news.clear()
            await self._news.wait()

    def _take(self, track: MediaStreamTrack) -> None:
        self._tasks.append(asyncio.create_task(self._watch(track) if track.kind == "video" else self._listen(track)))

    async def _watch(self, track: MediaStreamTrack) -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                frame: Any = await track.recv()
                self.sizes.add((frame.width, frame.height))
                self.codes.append(read_code(frame.to_ndarray(format="gray")))
                self._news.set()

    async def _listen(self, track: MediaStreamTrack) -> None:
        quiet = True
        with contextlib.suppress(MediaStreamError):
            while True:
                frame: Any = await track.recv()
                loud = bool(np.abs(frame.to_ndarray()).max() > 0.2 * 32768)
                self.bursts += loud and quiet
                self.sounds += 1
                quiet = not loud
                self._news.set()
