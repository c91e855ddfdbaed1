/**
 * Figures of every track from RTCPeerConnection.getStats(): rates over the time between two readings.
 */

/**
 * @typedef {object} TrackStats
 * @property {"audio" | "video"} kind
 * @property {"sent" | "received"} direction
 * @property {number} bitrate bit/s
 * @property {number | null} framesPerSecond of video: sent or decoded
 * @property {number | null} width
 * @property {number | null} height
 * @property {number} packets so far
 * @property {number} lost packets so far
 * @property {number | null} loss share of packets lost since the last reading, 0 to 1; null while nothing flows
 * @property {number | null} rtt ms
 * @property {number | null} jitterBuffer mean ms that media waited here since the last reading
 * @property {number | null} freezes so far, as the browser counts them
 * @property {number | null} audioLevel 0 to 1, received audio only
 * @property {string | null} codec like "H264"
 * @property {string | null} limitedBy of sent video: "cpu" or "bandwidth"
 */

const rate = (now, before, field, seconds) =>
  before && seconds > 0 ? Math.max(0, (now[field] ?? 0) - (before[field] ?? 0)) / seconds : 0;

const milliseconds = (seconds) => (seconds === undefined ? null : seconds * 1000);

/** Of two encodings of one picture the larger one that flows, with what is sent of both. */
function together(one, other) {
  if (!one) return other;
  const flows = ({ bitrate, width }) => (bitrate > 0 ? 1 + (width ?? 0) : 0);
  const [first, second] = flows(one) > flows(other) ? [one, other] : [other, one];
  const loss = Math.max(first.loss ?? 0, second.loss ?? 0);
  return {
    ...first,
    bitrate: first.bitrate + second.bitrate,
    packets: first.packets + second.packets,
    lost: first.lost + second.lost,
    loss: first.loss === null && second.loss === null ? null : loss,
    limitedBy: first.limitedBy ?? second.limitedBy,
  };
}

/** Reads the figures of one connection again and again; it remembers the last reading. */
export class StatsReader {
  /** @type {Map<string, any>} */
  #before = new Map();

  /** @param {RTCPeerConnection} connection @returns {Promise<Map<string, TrackStats>>} by mid */
  async read(connection) {
    const report = /** @type {Map<string, any>} */ (/** @type {unknown} */ (await connection.getStats()));
    const before = this.#before;
    this.#before = new Map([...report].map(([id, entry]) => [id, { ...entry }]));
    const rtt = this.#pathRtt(report);
    const figures = new Map();
    for (const entry of report.values()) {
      if (entry.mid == null) continue;
      if (entry.type === "inbound-rtp") figures.set(entry.mid, this.#received(entry, before.get(entry.id), report, rtt));
      if (entry.type === "outbound-rtp") {
        figures.set(entry.mid, together(figures.get(entry.mid), this.#sent(entry, before, report, rtt)));
      }
    }
    return figures;
  }

  #pathRtt(report) {
    for (const entry of report.values()) {
      if (entry.type === "candidate-pair" && entry.nominated && entry.state === "succeeded") {
        return milliseconds(entry.currentRoundTripTime);
      }
    }
    return null;
  }

  #common(entry, before, report, bytes) {
    const seconds = before ? (entry.timestamp - before.timestamp) / 1000 : 0;
    return {
      kind: entry.kind,
      bitrate: 8 * rate(entry, before, bytes, seconds),
      width: entry.frameWidth ?? null,
      height: entry.frameHeight ?? null,
      codec: report.get(entry.codecId)?.mimeType?.split("/")[1] ?? null,
      seconds,
    };
  }

  #received(entry, before, report, rtt) {
    const { seconds, ...common } = this.#common(entry, before, report, "bytesReceived");
    const packets = entry.packetsReceived - (before?.packetsReceived ?? 0);
    // A late or repaired packet takes a loss back, so the count may fall.
    const lost = Math.max(0, entry.packetsLost - (before?.packetsLost ?? 0));
    const emitted = (entry.jitterBufferEmittedCount ?? 0) - (before?.jitterBufferEmittedCount ?? 0);
    const waited = (entry.jitterBufferDelay ?? 0) - (before?.jitterBufferDelay ?? 0);
    return {
      ...common,
      direction: "received",
      framesPerSecond: entry.kind === "video" ? rate(entry, before, "framesDecoded", seconds) : null,
      packets: entry.packetsReceived,
      lost: entry.packetsLost,
      loss: packets + lost > 0 ? lost / (packets + lost) : null,
      rtt,
      jitterBuffer: emitted > 0 ? (1000 * waited) / emitted : null,
      freezes: entry.freezeCount ?? null,
      audioLevel: entry.audioLevel ?? null,
      limitedBy: null,
    };
  }

  #sent(entry, before, report, rtt) {
    const { seconds, ...common } = this.#common(entry, before.get(entry.id), report, "bytesSent");
    const remote = entry.remoteId ? report.get(entry.remoteId) : undefined;
    const limit = entry.qualityLimitationReason;
    return {
      ...common,
      direction: "sent",
      framesPerSecond: entry.kind === "video" ? rate(entry, before.get(entry.id), "framesEncoded", seconds) : null,
      packets: entry.packetsSent,
      lost: remote?.packetsLost ?? 0,
      loss: remote?.fractionLost ?? null,
      rtt: milliseconds(remote?.roundTripTime) ?? rtt,
      jitterBuffer: null,
      freezes: null,
      audioLevel: null,
      limitedBy: limit === "cpu" || limit === "bandwidth" ? limit : null,
    };
  }
}
