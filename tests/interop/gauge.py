"""What a page's peer connection says of itself, read again and again, and the door by which it reaches the server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

EVERY_MS = 250

_SCRIPT = """
(() => {
  const [door, every] = ARGUMENTS;
  const rows = (window.gauge = []);
  const Native = window.RTCPeerConnection;
  let current = null;
  window.RTCPeerConnection = class extends Native {
    constructor(...given) {
      super(...given);
      current = this;
    }
    setRemoteDescription({ type, sdp }) {
      // One candidate, and that is the door.
      const lines = sdp.split("\\r\\n").filter((line) => !/^a=candidate:.* tcp /i.test(line));
      const own = (line) => line.replace(/^(a=candidate:\\S+ \\d+ \\S+ \\d+) \\S+ \\d+/, `$1 ${door}`);
      return super.setRemoteDescription({ type, sdp: door ? lines.map(own).join("\\r\\n") : sdp });
    }
  };
  const RECEIVED = ["bytesReceived", "headerBytesReceived", "packetsReceived", "packetsLost", "nackCount", "pliCount",
    "framesReceived", "framesDecoded", "keyFramesDecoded", "framesDropped", "freezeCount", "totalFreezesDuration",
    "frameWidth", "frameHeight", "qpSum", "jitterBufferDelay", "jitterBufferEmittedCount", "concealedSamples",
    "silentConcealedSamples", "totalSamplesReceived", "retransmittedPacketsReceived", "fecPacketsReceived"];
  const SENT = ["bytesSent", "headerBytesSent", "retransmittedBytesSent", "packetsSent", "framesEncoded",
    "keyFramesEncoded", "hugeFramesSent", "frameWidth", "frameHeight", "qpSum", "nackCount", "pliCount", "firCount",
    "targetBitrate", "qualityLimitationReason"];
  const pick = (entry, names) =>
    Object.fromEntries(names.filter((name) => name in entry).map((name) => [name, entry[name]]));
  function sources() {
    const found = new Map();
    for (const root of document.querySelectorAll("[data-source]")) {
      const media = root.querySelector("video, audio");
      for (const track of media?.srcObject?.getTracks() ?? []) found.set(track.id, root.dataset.source);
    }
    return found;
  }
  async function read() {
    const connection = current;
    if (!connection || connection.connectionState === "closed") return;
    const report = await connection.getStats();
    const named = sources();
    const row = { at: performance.timeOrigin + performance.now(), state: connection.connectionState, in: {}, out: {} };
    for (const entry of report.values()) {
      if (entry.type === "inbound-rtp") {
        row.in[named.get(entry.trackIdentifier) ?? `${entry.kind}-${entry.mid}`] = pick(entry, RECEIVED);
      } else if (entry.type === "outbound-rtp") {
        const track = report.get(entry.mediaSourceId)?.trackIdentifier;
        const name = named.get(track) ?? `${entry.kind}-${entry.mid}`;
        row.out[entry.rid ? `${name}/${entry.rid}` : name] = pick(entry, SENT);
      } else if (entry.type === "candidate-pair" && entry.nominated) {
        row.path = pick(entry, ["currentRoundTripTime", "availableOutgoingBitrate", "bytesSent", "bytesReceived"]);
      }
    }
    rows.push(row);
  }
  setInterval(() => read().catch(() => {}), every);
})();
"""


def script(door: tuple[str, int] | None = None, every_ms: int = EVERY_MS) -> str:
    """For `Pages.open`. With a door the page takes it for the server's only candidate."""
    return _SCRIPT.replace("ARGUMENTS", json.dumps(["{} {}".format(*door) if door else "", every_ms]))


def take(page: Page) -> list[dict[str, Any]]:
    """The rows so far: `at` in ms of the wall clock, `in` and `out` by source, as getStats() names the rest."""
    rows: list[dict[str, Any]] = page.evaluate("() => window.gauge.splice(0)")
    return rows
