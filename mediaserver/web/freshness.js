/**
 * The freeze rule: a frozen picture must never be taken for a live one.
 *
 * No new frame for max(`staleFrames` frame intervals, `staleMs`) makes a picture stale, and it is dimmed `dimMs` after
 * its last frame. Pure: time comes in with every call, in ms of one monotonic clock.
 */

/** Every viewer says STALE within 500 ms of the last frame, so a slow picture does not get its three intervals. */
const STALE_LIMIT_MS = 440;
/** Weight of a new interval in the running mean: about the last ten frames count. */
const WEIGHT = 0.1;

/** @typedef {"waiting" | "live" | "stale" | "frozen"} PictureState `frozen` is stale for long enough to be dimmed */

export class Freshness {
  #last = -1;
  #interval = 0;

  /** @param {{ stale_frames?: number, stale_ms?: number, dim_ms?: number }} [rule] the source's budget */
  constructor({ stale_frames = 3, stale_ms = 250, dim_ms = 2000 } = {}) {
    this.staleFrames = stale_frames;
    this.staleMs = stale_ms;
    this.dimMs = dim_ms;
  }

  /** A new frame is on the screen. */
  frame(now) {
    const interval = now - this.#last;
    // An interval over a freeze says nothing about the frame rate.
    if (this.#last >= 0 && interval < Math.max(STALE_LIMIT_MS, this.staleMs)) {
      this.#interval = this.#interval ? this.#interval + WEIGHT * (interval - this.#interval) : interval;
    }
    this.#last = now;
  }

  /** ms without a frame after which the picture counts as stale */
  get threshold() {
    return Math.min(Math.max(this.staleFrames * this.#interval, this.staleMs), Math.max(STALE_LIMIT_MS, this.staleMs));
  }

  /** ms since the last frame; null before the first */
  since(now) {
    return this.#last < 0 ? null : now - this.#last;
  }

  /** @returns {PictureState} */
  state(now) {
    const since = this.since(now);
    if (since === null) return "waiting";
    if (since < this.threshold) return "live";
    return since < Math.max(this.dimMs, this.threshold) ? "stale" : "frozen";
  }
}

/**
 * Follows the frames of a video element: counts, size, and when each was captured.
 *
 * The age is that of the capture where publisher and browser tell it (abs-capture-time, Chromium), else that of the
 * arrival of the frame's last packet here. `captured` says which.
 */
export class FrameWatch {
  #stopped = false;

  /**
   * @param {HTMLVideoElement} video @param {Freshness} freshness
   * @param {object} [more]
   * @param {() => void} [more.onFirst] at the first frame
   * @param {(rtpTimestamp: number) => number | null} [more.capturedAt] when a frame was captured, on performance.now()'s clock
   * @param {(ms: number) => void} [more.onAge] how old a frame was when it was shown, where that is known
   */
  constructor(video, freshness, { onFirst = () => {}, capturedAt = () => null, onAge = () => {} } = {}) {
    this.freshness = freshness;
    this.capturedAt = capturedAt;
    this.onAge = onAge;
    this.frames = 0;
    this.width = 0;
    this.height = 0;
    /** when the picture on the screen came into being, on performance.now()'s clock; null when not known */
    this.origin = /** @type {number | null} */ (null);
    this.captured = false;
    const onFrame = (/** @type {number} */ now, /** @type {any} */ metadata) => {
      if (this.#stopped) return;
      this.#note(performance.now(), metadata);
      if (this.frames === 1) onFirst();
      video.requestVideoFrameCallback(onFrame);
    };
    video.requestVideoFrameCallback(onFrame);
  }

  stop() {
    this.#stopped = true;
  }

  /** ms since the picture on the screen was captured, or received where the capture time is not known */
  age(now) {
    return this.origin === null ? null : Math.max(0, now - this.origin);
  }

  #note(now, metadata) {
    this.frames += 1;
    this.width = metadata.width;
    this.height = metadata.height;
    this.freshness.frame(now);
    const received = metadata.receiveTime ?? metadata.presentationTime ?? now;
    const captured = this.capturedAt(metadata.rtpTimestamp) ?? metadata.captureTime;
    // A capture time after the arrival, or long before it, comes from clocks that are not in step yet.
    this.captured = captured !== undefined && captured <= received + 5 && captured > received - 10_000;
    this.origin = this.captured ? captured : received;
    if (this.captured) this.onAge(Math.max(now, metadata.expectedDisplayTime ?? now) - captured);
  }
}
