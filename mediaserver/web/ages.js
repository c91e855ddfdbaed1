/**
 * How old what is shown is: from the capture, by the capturing machine's word, to the screen or the loudspeaker here.
 *
 * A capture time (abs-capture-time) comes by the capturing machine's clock, with its offset from the server's clock. How
 * the server's clock stands to this page's is what pings tell, to half of the shortest round trip.
 */

const PINGS_KEPT = 8;
const REPORT_EVERY_MS = 1000;
const SAMPLE_EVERY_MS = 100;
const SAMPLES_AT_MOST = 10;
const OLDEST_MS = 60_000;
const CLOCK_RATE = { audio: 48_000, video: 90_000 };

/** The server's clock as far as it is known here; times here are performance.now()'s. */
export class ServerClock {
  /** @type {{ trip: number, offset: number }[]} */
  #pings = [];

  /** @param {number} sent @param {number} received @param {number} server what its clock showed in between, ms */
  note(sent, received, server) {
    this.#pings.push({ trip: received - sent, offset: server - (sent + received) / 2 });
    if (this.#pings.length > PINGS_KEPT) this.#pings.shift();
  }

  /** When the server's clock showed this; null as long as it is not known. @param {number} server ms */
  here(server) {
    if (!this.#pings.length) return null;
    const best = this.#pings.reduce((one, other) => (other.trip < one.trip ? other : one));
    return server - best.offset;
  }

  /**
   * When something was captured that a receiver has handed on.
   * @param {RTCRtpReceiver} receiver @param {number} rtpTimestamp of the frame
   * @returns {number | null} null where publisher, server or browser do not tell
   */
  capturedAt(receiver, rtpTimestamp) {
    const sources = /** @type {any[]} */ (receiver.getSynchronizationSources());
    const newest = sources.find((one) => one.captureTimestamp !== undefined && one.senderCaptureTimeOffset !== undefined);
    if (!newest) return null;
    const ticks = (rtpTimestamp - newest.rtpTimestamp) | 0; // both wrap at 32 bits
    const apart = (ticks / CLOCK_RATE[receiver.track.kind]) * 1000;
    return this.here(newest.captureTimestamp - newest.senderCaptureTimeOffset + apart);
  }
}

/** Gathers samples of each track and hands them on once a second. */
export class AgeReport {
  /** @type {Map<string, { at: number, ages: number[] }>} by track */
  #samples = new Map();
  #timer;

  /** @param {(tracks: import("./protocol.d.ts").TrackAges[]) => void} send */
  constructor(send) {
    this.#timer = setInterval(() => {
      const tracks = [...this.#samples].map(([track, { ages }]) => ({ track, ages: ages.splice(0) }));
      const told = tracks.filter(({ ages }) => ages.length);
      if (told.length) send(told);
    }, REPORT_EVERY_MS);
  }

  /** @param {string} track @param {number} age ms */
  note(track, age) {
    const now = performance.now();
    const known = this.#samples.get(track) ?? { at: -Infinity, ages: [] };
    if (!(age >= 0 && age <= OLDEST_MS) || now - known.at < SAMPLE_EVERY_MS || known.ages.length >= SAMPLES_AT_MOST) return;
    known.at = now;
    known.ages.push(Math.round(age));
    this.#samples.set(track, known);
  }

  /** @param {string} track that is gone */
  forget(track) {
    this.#samples.delete(track);
  }

  close() {
    clearInterval(this.#timer);
  }
}
