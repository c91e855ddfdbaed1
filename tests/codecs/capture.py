"""Records what Chromium sends, as the fixtures in `chromium/`: `python -m tests.codecs.capture [NAME...]`.

Needs /usr/bin/chromium. One page sends a canvas, on which a bar moves to the right by STEP pixels a frame, or a tone;
aiortc receives. Each variant becomes a file in the rtpdump format of rtptools, with the RTP packets as they came out
of SRTP.
"""

from __future__ import annotations

import asyncio
import struct
import sys
from pathlib import Path
from typing import NamedTuple

from aiortc import RTCPeerConnection, RTCSessionDescription, codecs
from aiortc.rtcdtlstransport import RTCDtlsTransport
from aiortc.rtp import RTCP_PSFB_PLI, RtcpPsfbPacket, RtpPacket
from aiortc.sdp import SessionDescription
from playwright.async_api import Browser, async_playwright

FOLDER = Path(__file__).parent / "chromium"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
]
STEP = 12
VIDEO_FRAMES = 12
SOUND_PACKETS = 20
INTERVAL_MS = 20  # between the packets of a file, by its own account
PAGE = """async ({kind, mime, fmtp, mode, width, height, step, bitrate, contrast, encodings}) => {
  const connection = window.connection = new RTCPeerConnection();
  let track;
  if (kind === 'video') {
    const canvas = document.createElement('canvas');
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext('2d');
    track = canvas.captureStream(0).getVideoTracks()[0];
    // A still texture, so that a keyframe takes several packets.
    const texture = context.createImageData(width, height);
    let seed = 1;
    for (let i = 0; i < texture.data.length; i++) {
      seed = (seed * 1103515245 + 12345) % 2147483648;
      texture.data[i] = i % 4 === 3 ? 255 : 30 + i % 4 * 20 + (seed >> 16) % contrast;
    }
    let frame = 0;
    window.draw = () => {
      context.putImageData(texture, 0, 0);
      context.fillStyle = '#ffffff';
      context.fillRect(frame * step % width, 0, step, height);
      track.requestFrame();
      frame += 1;
    };
  } else {
    const sound = new AudioContext();
    const tone = sound.createOscillator();
    const out = sound.createMediaStreamDestination();
    tone.connect(out);
    tone.start();
    track = out.stream.getAudioTracks()[0];
  }
  const encoding = {maxBitrate: bitrate};
  if (mode) encoding.scalabilityMode = mode;
  const transceiver = connection.addTransceiver(track, {direction: 'sendonly', sendEncodings: encodings || [encoding]});
  const all = RTCRtpSender.getCapabilities(kind).codecs;
  const wanted = all.filter(codec => codec.mimeType === mime && (codec.sdpFmtpLine || '').includes(fmtp));
  if (!wanted.length) throw new Error(all.map(codec => codec.mimeType + ' ' + codec.sdpFmtpLine).join('; '));
  const rest = kind === 'audio' ? all.filter(codec => codec.mimeType === 'audio/opus') : [];
  transceiver.setCodecPreferences([wanted[0], ...rest.filter(codec => codec.mimeType !== mime)]);
  await connection.setLocalDescription();
  await new Promise(done => {
    if (connection.iceGatheringState === 'complete') done();
    connection.onicegatheringstatechange = () => connection.iceGatheringState === 'complete' && done();
  });
  return connection.localDescription.sdp;
}"""


class Variant(NamedTuple):
    name: str
    mime: str
    fmtp: str = ""
    mode: str = ""
    width: int = 322
    height: int = 182
    bitrate: int = 100_000
    contrast: int = 40


# A layer below 240x135 is not sent.
LARGE = (482, 270, 250_000, 8)
VARIANTS = [
    Variant("vp8", "video/VP8"),
    Variant("vp8-l1t3", "video/VP8", mode="L1T3"),
    Variant("vp9-0", "video/VP9", "profile-id=0"),
    Variant("vp9-2", "video/VP9", "profile-id=2"),
    Variant("vp9-l2t2", "video/VP9", "profile-id=0", "L2T2", *LARGE),
    Variant("vp9-l2t2-key", "video/VP9", "profile-id=0", "L2T2_KEY", *LARGE),
    Variant("av1", "video/AV1", "profile=0"),
    Variant("av1-l2t2", "video/AV1", "profile=0", "L2T2", *LARGE),
    Variant("h264-42001f", "video/H264", "packetization-mode=1;profile-level-id=42001f"),
    Variant("h264-42e01f", "video/H264", "packetization-mode=1;profile-level-id=42e01f"),
    Variant("h264-42e01f-mode-0", "video/H264", "packetization-mode=0;profile-level-id=42e01f"),
    Variant("h264-4d001f", "video/H264", "packetization-mode=1;profile-level-id=4d001f"),
    Variant("opus", "audio/opus"),
    Variant("red", "audio/red"),
]


class Recorder:
    """Takes the RTP packets of one connection before aiortc looks at them."""

    def __init__(self, wanted: int) -> None:
        self.packets: list[bytes] = []
        self.wanted = wanted
        self.filled = asyncio.Event()
        self.transport: RTCDtlsTransport | None = None

    async def handle(self, transport: RTCDtlsTransport, data: bytes, arrival_time_ms: int) -> None:
        self.transport = transport
        self.packets.append(bytes(data))
        if len(self.packets) >= self.wanted:
            self.filled.set()

    async def request_keyframe(self) -> None:
        ssrc = int.from_bytes(self.packets[0][8:12])
        assert self.transport
        await self.transport._send_rtp(bytes(RtcpPsfbPacket(fmt=RTCP_PSFB_PLI, ssrc=1, media_ssrc=ssrc)))


async def record(browser: Browser, variant: Variant) -> list[bytes]:
    recorder = Recorder(SOUND_PACKETS)
    RTCDtlsTransport._handle_rtp_data = lambda self, data, arrival_time_ms: recorder.handle(self, data, arrival_time_ms)
    page = await browser.new_page()
    kind = variant.mime.split("/")[0]
    arguments = variant._asdict() | {"kind": kind, "step": STEP}
    offer = await page.evaluate(PAGE, arguments)
    # aiortc takes whatever the offer asks for: nothing is decoded here.
    codecs.CODECS[kind] = SessionDescription.parse(offer).media[0].rtp.codecs
    peer = RTCPeerConnection()
    connected = asyncio.Event()
    peer.on("connectionstatechange", lambda: peer.connectionState == "connected" and connected.set())
    await peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
    await peer.setLocalDescription(await peer.createAnswer())
    answer = {"type": "answer", "sdp": peer.localDescription.sdp}
    await page.evaluate("answer => connection.setRemoteDescription(answer)", answer)
    await asyncio.wait_for(connected.wait(), 20)
    if kind == "video":
        for i in range(VIDEO_FRAMES):
            if i == VIDEO_FRAMES // 2 and recorder.packets:
                await recorder.request_keyframe()
                await asyncio.sleep(0.1)
            await page.evaluate("draw()")
            await asyncio.sleep(0.1)
    else:
        await asyncio.wait_for(recorder.filled.wait(), 20)
    await peer.close()
    await page.close()
    return recorder.packets


def dump(packets: list[bytes]) -> bytes:
    """In the rtpdump format. Of packets that are nothing but padding the header alone is kept, as it allows."""
    out = b"#!rtpplay1.0 127.0.0.1/5004\n" + struct.pack("!IIIHH", 0, 0, 0, 5004, 0)
    for i, packet in enumerate(packets):
        kept = len(packet)
        if packet[0] & 0x20 and not RtpPacket.parse(packet).payload:
            kept -= packet[-1]
        out += struct.pack("!HHI", kept + 8, len(packet), i * INTERVAL_MS) + packet[:kept]
    return out


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
