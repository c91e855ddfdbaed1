"""Over a real server: what was lost before a consent and is sent again after it is in no file."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable

from aiortc import RTCRtpSender
from aiortc.mediastreams import VideoStreamTrack

from mediaserver.settings import RecordingSettings
from tests.mediaserver.conftest import Open, run
from tests.mediaserver.test_consent import detail, tracks
from tests.mediaserver.test_end_to_end import publish
from tests.mediaserver.test_recordings import ended

RTCP = range(192, 224)


class Lossy:
    """The line of a sender that drops the media that leaves while it is `down`; what is asked for again passes."""

    def __init__(self, sender: RTCRtpSender) -> None:
        self.down = False
        self.first: int | None = None
        """The timestamp of the first packet."""
        self.lost: dict[int, int] = {}
        """Timestamp by sequence number."""
        self.again: set[int] = set()
        """Those of the lost that were sent again."""
        self._ssrc = sender._ssrc
        self._send: Callable[[bytes], Awaitable[None]] = sender.transport._send_rtp
        sender.transport._send_rtp = self._pass  # type: ignore[method-assign]

    async def _pass(self, data: bytes) -> None:
        if data[1] not in RTCP:
            sequence, timestamp, ssrc = struct.unpack_from("!HII", data, 2)
            if ssrc == self._ssrc and self.first is None:
                self.first = timestamp
            if ssrc == self._ssrc and self.down:
                self.lost[sequence] = timestamp
                return
            end = 12 + (4 + 4 * struct.unpack_from("!H", data, 14)[0] if data[0] & 0x10 else 0)
            number = sequence if ssrc == self._ssrc else struct.unpack_from("!H", data, end)[0]
            if number in self.lost:
                self.again.add(number)
        await self._send(data)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - aiortc's own task
            await asyncio.sleep(0.005)


def test_what_was_lost_before_the_consent_is_in_no_file(site: Open) -> None:
    async def main() -> None:
        async with site(recording=RecordingSettings(policy="on", whose="consent")) as s:
            cart = await s.doctor("Cart", "cart")
            peer, names = await publish(cart, {"camera": VideoStreamTrack()})
            await cart.until(lambda m: m["type"] == "track-changed" and m["track"]["live"])
            (sender,) = peer.getSenders()
            line = Lossy(sender)
            line.down = True
            sender._send_keyframe()
            await until(lambda: len(set(line.lost.values())) >= 3)
            *_, last = line.lost.values()
            assert (await cart.ask("consent", given=True, version="1"))["type"] == "ok"
            line.down = False
            await until(lambda: len(line.again) == len(line.lost))
            live = await tracks(cart, names["camera"], state="on")
            s.server.rooms["r"].close()
            await ended(s)
            await peer.close()
            found = await s.server.archive.get(live["recording"])
            (track,) = found.tracks
            assert track.segments
            for segment in track.segments:
                behind = (segment.first_rtp - last) & 0xFFFFFFFF
                assert 0 < behind < 1 << 31, "the file begins with what was lost before the consent"
            assert (await detail(s, live["recording"]))["tracks"][0]["segments"]

    run(main())


def test_where_nobody_has_to_be_asked_the_first_picture_is_in_the_file(site: Open) -> None:
    async def main() -> None:
        async with site(recording=RecordingSettings(policy="on", whose="required")) as s:
            cart = await s.doctor("Cart", "cart")
            peer, names = await publish(cart, {"camera": VideoStreamTrack()})
            (sender,) = peer.getSenders()
            line = Lossy(sender)
            live = await tracks(cart, names["camera"], state="on")
            s.server.rooms["r"].close()
            await ended(s)
            await peer.close()
            (track,) = (await s.server.archive.get(live["recording"])).tracks
            assert track.segments[0].first_rtp & 0xFFFFFFFF == line.first

    run(main())
