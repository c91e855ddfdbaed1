"""Records layered streams of Chromium with their descriptors: `python -m tests.sfu.policy.capture [NAME...]`.

As tests/codecs/capture.py does, into `chromium/`; but of the header extensions only the dependency descriptor (id 1)
and the rid (id 2) are kept, under these ids. Pictures are drawn every 50 ms, keyframes asked for at KEYFRAMES.
"""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

from aiortc import RTCPeerConnection, RTCSessionDescription, codecs
from aiortc.rtcdtlstransport import RTCDtlsTransport
from aiortc.rtp import RTCP_PSFB_PLI, RtcpPsfbPacket, RtpPacket, pack_header_extensions, unpack_header_extensions
from aiortc.sdp import SessionDescription
from playwright.async_api import Browser, async_playwright

from tests.codecs.capture import FLAGS, PAGE, STEP, dump

FOLDER = Path(__file__).parent / "chromium"
KEPT = {
    "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension": 1,
    "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id": 2,
    "urn:ietf:params:rtp-hdrext:sdes:mid": 0,
}
DESCRIPTOR = next(iter(KEPT))
FRAMES = 32
KEYFRAMES = (12, 22)


class Variant(NamedTuple):
    name: str
    mime: str
    fmtp: str = ""
    encodings: tuple[dict[str, Any], ...] = ({},)
    width: int = 482
    height: int = 270
    descriptor: bool = True


def same_size(rates: dict[str, dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    return tuple({"rid": rid, "scaleResolutionDownBy": 1} | more for rid, more in rates.items())


TWO_RATES = {"l": {"maxBitrate": 60_000, "maxFramerate": 15}, "h": {"maxBitrate": 150_000}}
VARIANTS = [
    Variant("av1-l1t3", "video/AV1", "profile=0", ({"scalabilityMode": "L1T3"},)),
    Variant("av1-l2t2", "video/AV1", "profile=0", ({"scalabilityMode": "L2T2"},)),
    Variant("av1-l2t2-key", "video/AV1", "profile=0", ({"scalabilityMode": "L2T2_KEY"},)),
    Variant("vp9-l2t3-key", "video/VP9", "profile-id=0", ({"scalabilityMode": "L2T3_KEY"},)),
    Variant("vp9-l2t2-plain", "video/VP9", "profile-id=0", ({"scalabilityMode": "L2T2"},), descriptor=False),
    Variant("vp8-l1t3", "video/VP8", "", ({"scalabilityMode": "L1T3"},)),
    Variant("h264-l1t3", "video/H264", "packetization-mode=1;profile-level-id=42e01f", ({"scalabilityMode": "L1T3"},)),
    Variant(
        "vp8-simulcast",
        "video/VP8",
        "",
        tuple(
            {"rid": rid, "scaleResolutionDownBy": scale, "scalabilityMode": "L1T2"}
            for rid, scale in (("q", 4), ("h", 2), ("f", 1))
        ),
        964,
        540,
    ),
    Variant("h264-simulcast", "video/H264", "packetization-mode=1;profile-level-id=42e01f", same_size(TWO_RATES)),
    Variant("av1-simulcast", "video/AV1", "profile=0", same_size(TWO_RATES)),
]


class Recorder:
    def __init__(self) -> None:
        self.packets: list[bytes] = []
        self.transport: RTCDtlsTransport | None = None

    async def handle(self, transport: RTCDtlsTransport, data: bytes, arrival_time_ms: int) -> None:
        self.transport = transport
        self.packets.append(bytes(data))

    async def request_keyframes(self, payload_type: int) -> None:
        assert self.transport
        for ssrc in {int.from_bytes(packet[8:12]) for packet in self.packets if packet[1] & 0x7F == payload_type}:
            await self.transport._send_rtp(bytes(RtcpPsfbPacket(fmt=RTCP_PSFB_PLI, ssrc=1, media_ssrc=ssrc)))


def answered(answer: str, offer: str, variant: Variant) -> str:
    """The answer with the extensions and encodings that aiortc knows nothing of."""
    lines = [line for line in answer.splitlines() if not line.startswith("a=extmap:")]
    lines += [line for line in offer.splitlines() if line.startswith("a=extmap:") and wanted(line, variant)]
    # Else a structure of more than 16 bytes is left out, and with it every descriptor.
    lines.append("a=extmap-allow-mixed")
    rids = [encoding["rid"] for encoding in variant.encodings if "rid" in encoding]
    if rids:
        lines += [f"a=rid:{rid} recv" for rid in rids] + [f"a=simulcast:recv {';'.join(rids)}"]
    return "\r\n".join(lines) + "\r\n"


def wanted(line: str, variant: Variant) -> bool:
    uri = line.split()[1]
    return uri in KEPT and (variant.descriptor or uri != DESCRIPTOR)


def kept(packet: bytes, ids: dict[int, int]) -> bytes:
    """With the header extensions of `ids` alone, under other ids."""
    parsed = RtpPacket.parse(packet)
    size = 12 + 4 * (packet[0] & 0x0F)
    found = []
    payload = packet[size:]
    if packet[0] & 0x10:
        length = 4 + 4 * int.from_bytes(payload[2:4])
        profile, block = int.from_bytes(payload[:2]), payload[4:length]
        payload = payload[length:]
        found = [(ids[one], value) for one, value in unpack_header_extensions(profile, block) if ids.get(one)]
    head = bytearray(packet[:size])
    head[0] &= 0xEF
    if found:
        profile, block = pack_header_extensions(found)
        head[0] |= 0x10
        head += profile.to_bytes(2) + (len(block) // 4).to_bytes(2) + block
    assert parsed.sequence_number == int.from_bytes(head[2:4])
    return bytes(head) + payload


async def record(browser: Browser, variant: Variant) -> list[bytes]:
    recorder = Recorder()
    RTCDtlsTransport._handle_rtp_data = lambda self, data, arrival_time_ms: recorder.handle(self, data, arrival_time_ms)
    page = await browser.new_page()
    arguments = variant._asdict() | {
        "kind": "video",
        "step": STEP,
        "mode": "",
        "bitrate": 0,
        "contrast": 8,
        "encodings": list(variant.encodings),
    }
    offer = await page.evaluate(PAGE, arguments)
    codecs.CODECS["video"] = SessionDescription.parse(offer).media[0].rtp.codecs
    peer = RTCPeerConnection()
    connected = asyncio.Event()
    peer.on("connectionstatechange", lambda: peer.connectionState == "connected" and connected.set())
    await peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
    await peer.setLocalDescription(await peer.createAnswer())
    answer = {"type": "answer", "sdp": answered(peer.localDescription.sdp, offer, variant)}
    await page.evaluate("answer => connection.setRemoteDescription(answer)", answer)
    await asyncio.wait_for(connected.wait(), 20)
    payload_type = int(re.findall(r"m=video \d+ \S+ (\d+)", answer["sdp"])[0])
    for i in range(FRAMES):
        if i in KEYFRAMES:
            await recorder.request_keyframes(payload_type)
            await asyncio.sleep(0.05)
        await page.evaluate("draw()")
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.2)
    await peer.close()
    await page.close()
    ids = {}
    for number, uri in re.findall(r"a=extmap:(\d+)(?:/\w+)? (\S+)", answer["sdp"]):
        ids[int(number)] = KEPT.get(uri, 0)
    media = [packet for packet in recorder.packets if packet[1] & 0x7F == payload_type]
    return [kept(packet, ids) for packet in media]


async def main(names: list[str]) -> None:
    FOLDER.mkdir(exist_ok=True)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        for variant in VARIANTS:
            if names and variant.name not in names:
                continue
            packets = await record(browser, variant)
            data = dump(packets)
            (FOLDER / f"{variant.name}.rtpdump").write_bytes(data)
            print(variant.name, len(packets), "packets", len(data), "bytes")
        await browser.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
