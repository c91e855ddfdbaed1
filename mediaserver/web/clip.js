/**
 * One file of a track, and its place on the recording's time. It has a media element only while it is near. Times are
 * in ms: offsets on the recording's time, media times in the file.
 */

import { element } from "./ui.js";

/** The last frame of a file is shown for about this long; its length counts to the last frame. */
const LAST_FRAME_MS = 40;
/** A file is loaded this long before it is due, and let go when it is further away on both sides. */
const AHEAD_MS = 8000;
const KEEP_MS = 20_000;
/** An element that is further off is put right by a seek; one that is less off, by its speed. */
const SEEK_MS = 250;
const NUDGE_MS = 20;
const GOOD_MS = 6;
/** A picture that is further ahead stands until it is no further than that. */
const STAND_MS = 50;
const GO_ON_MS = 5;
/** The most that speed changes: a picture's by a quarter, a sound's by what is hardly heard. */
const MOST_NUDGE = { video: 0.25, audio: 0.08 };
/** What is off by so much (ms) plays at double speed, were it not for the most. */
const NUDGE_OF_MS = { video: 200, audio: 400 };
/**
 * By how much (ms) media time is behind after `play`, as it was the last time: `fresh` after a seek, when the device's
 * buffers are empty, `again` after a pause.
 */
const startDelay = { video: { fresh: 10, again: 10 }, audio: { fresh: 100, again: 20 } };
const MOST_START_DELAY_MS = 400;
/** A sound's media time moves, stands again while the device's buffers fill, and is steady after so long. */
const SETTLE_MS = { video: 0, audio: 300 };
const MOST_SETTLE_MS = 1000;
/** Media time that has moved by more than this before it was expected to is steady already. */
const FIRST_MOVE_MS = 30;
/** After a seek for being off, the next one waits for so long: a machine that is too slow must not only seek. */
const SEEK_AGAIN_MS = 1500;
/** Two frames of one file are further apart than this. */
const STEP_S = 0.001;

export class Clip {
  /** @type {any} the media element, while there is one */
  media = null;
  failed = false;
  /** Media time in s of the frame that is shown, as the browser tells it. @type {number | null} */
  shown = null;
  #correcting = false;
  #standing = false;
  /** @type {"fresh" | "again"} */
  #start = "fresh";
  #soughtAt = -Infinity;
  /** Media time in s up to which it has played or been stepped through since it was loaded. */
  #reached = 0;
  /** When it was told to play, at which media time (s) and speed, until it is steady. @type {any} */
  #begins = null;
  #source;
  #make;
  /** Whether the browser goes by the file's own index of its groups of pictures. */
  #indexed;

  /**
   * @param {any} segment of the timeline
   * @param {string} source address of the file
   * @param {"audio" | "video"} kind
   * @param {(media: any) => void} made is called with each new element
   */
  constructor(segment, source, kind, made) {
    this.segment = segment;
    this.kind = kind;
    this.begin = segment.offset_ms;
    this.end = segment.offset_ms + segment.duration_ms + LAST_FRAME_MS;
    this.#source = source;
    this.#make = made;
    this.#indexed = kind === "video" && segment.type.startsWith("video/mp4");
    this.playable = document.createElement(kind).canPlayType(segment.type) !== "";
  }

  get usable() {
    return this.playable && !this.failed;
  }

  covers(position) {
    return position >= this.begin && position < this.end;
  }

  /** The media time (ms) of an offset, and the reverse: straight between the places, 1:1 outside. */
  mediaTime(offset) {
    return along(this.segment.places, offset, 1, 0);
  }

  offset(mediaMs) {
    return along(this.segment.places, mediaMs, 0, 1);
  }

  /** How far (ms) the element is ahead of a position; null where that can't be said. */
  ahead(position) {
    const { media } = this;
    if (!media || media.seeking || media.readyState < HTMLMediaElement.HAVE_METADATA) return null;
    return this.offset(media.currentTime * 1000) - position;
  }

  /** How far (ms) it is behind a position while it plays; what is so far off that it is sought is not counted. */
  behind(position) {
    const { media } = this;
    if (!media || media.paused || media.ended) return 0;
    const behind = -(this.ahead(position) ?? 0);
    return behind < SEEK_MS ? Math.max(0, behind) : 0;
  }

  /** How far (ms) a sound that plays is ahead of a position, null where nothing plays. */
  leads(position) {
    const { media } = this;
    return !media || media.paused || media.ended ? null : this.ahead(position);
  }

  get settling() {
    return this.#begins !== null;
  }

  /** Has an element when it is near, and none when it is far. */
  prepare(position) {
    if (this.usable && position > this.begin - AHEAD_MS && position < this.end + LAST_FRAME_MS) this.#load();
    else if (this.media && (position < this.begin - KEEP_MS || position > this.end + KEEP_MS)) this.release();
  }

  /** Whether the element must load before it can show this position. */
  waits(position) {
    const { media } = this;
    if (!this.usable || !this.covers(position)) return false;
    if (!media || media.seeking) return true;
    if (media.ended || media.duration - media.currentTime < 0.1) return false;
    return media.readyState < HTMLMediaElement.HAVE_FUTURE_DATA;
  }

  /** Goes to a position at once. */
  seek(position) {
    if (!this.usable || !this.covers(position)) return;
    this.#load();
    const seconds = Math.max(0, this.mediaTime(position)) / 1000;
    if (this.#indexed && seconds < Math.max(this.#reached, this.media.currentTime)) this.#renew();
    this.#goTo(seconds);
    this.#soughtAt = performance.now();
  }

  /** @param {number} position @param {boolean} run @param {number} speed */
  follow(position, run, speed) {
    this.prepare(position);
    const { media } = this;
    if (!media) return;
    if (this.#begins) this.#settle(speed);
    if (!this.covers(position)) {
      this.#standBy(position, run, speed);
      return;
    }
    const off = this.ahead(position);
    if (run && off !== null && !this.#begins) this.#correct(off, position, speed);
    const limit = (this.#standing ? GO_ON_MS : STAND_MS) * Math.max(1, speed);
    this.#standing = run && this.kind === "video" && off !== null && off > limit && off < SEEK_MS;
    if (run && !this.#standing) this.#play(speed);
    else this.#pause();
  }

  /** Begins to play; the offset it will be at when it is steady, undefined until it moves, null where it can't. */
  begun(position, speed) {
    const { media } = this;
    if (!this.usable || !media || media.ended || Math.abs(this.ahead(position) ?? 0) > SEEK_MS) return null;
    this.#play(speed);
    const begins = this.#begins;
    if (!begins) return this.offset(media.currentTime * 1000);
    if (media.seeking || media.currentTime <= begins.from) return undefined;
    const now = performance.now();
    begins.moved ??= now;
    const delay = Math.max(startDelay[this.kind][begins.start], begins.moved - begins.at);
    const expected = this.offset(begins.from * 1000) + (now - begins.at - delay) * speed;
    return Math.max(expected, this.offset(media.currentTime * 1000) - FIRST_MOVE_MS);
  }

  /** The frame at a media time in s, once it is shown: its own media time. @param {number} seconds */
  async frameAt(seconds) {
    const { media } = this;
    const shown = new Promise((resolve) => media.requestVideoFrameCallback((_, { mediaTime }) => resolve(mediaTime)));
    const sought = new Promise((resolve) => media.addEventListener("seeked", resolve, { once: true }));
    this.#goTo(Math.max(0, seconds));
    await Promise.race([sought, wait(5000)]);
    // The same frame again may not be announced.
    return (this.shown = await Promise.race([shown, wait(150).then(() => this.shown ?? media.currentTime)]));
  }

  /**
   * Goes to the frame after or before the one that is shown; null at the end of the file.
   * @param {1 | -1} direction
   * @returns {Promise<number | null>} its offset
   */
  async stepFrame(direction) {
    const from = await this.frameAt(this.media.currentTime);
    const found = direction < 0 ? await this.#before(from) : await this.#after(from);
    return found === null ? null : this.offset(found * 1000);
  }

  /**
   * Reads an MP4 from anew: where Chromium had read to before a seek back it leaves out the rest of the group of
   * pictures, as it comes by there again, and the picture stands (docs/archive.md).
   */
  #renew() {
    this.#begins = this.shown = null;
    this.#reached = 0;
    this.media.src = this.#source;
  }

  release() {
    const { media } = this;
    if (!media) return;
    this.media = this.shown = null;
    media.pause();
    media.removeAttribute("src");
    media.load();
    media.remove();
  }

  #load() {
    if (this.media) return;
    const media = (this.media = element(this.kind, { preload: "auto", playsinline: true, "data-segment": this.segment.n }));
    media.addEventListener("error", () => (this.failed = this.media === media));
    if (this.kind === "video") {
      const note = (_, { mediaTime }) => {
        this.shown = mediaTime;
        if (this.media === media) media.requestVideoFrameCallback(note);
      };
      media.requestVideoFrameCallback(note);
    }
    media.src = this.#source;
    this.#make(media);
  }

  #play(speed) {
    const { media } = this;
    if (!media.paused || media.ended) return;
    if (this.#indexed && media.currentTime < this.#reached) {
      const seconds = media.currentTime;
      this.#renew();
      this.#goTo(seconds);
      return;
    }
    media.playbackRate = speed;
    this.#begins = { at: performance.now(), from: media.currentTime, speed, start: this.#start };
    this.#start = "again";
    media.play().catch(() => {});
  }

  #pause() {
    this.#begins = null;
    if (!this.media.paused) this.media.pause();
  }

  /** Once it is steady, notes how late it was; until then its speed is left alone. */
  #settle(speed) {
    const { media } = this;
    const { at, from, speed: begun, start } = this.#begins;
    const since = performance.now() - at;
    if (speed !== begun || media.seeking || since > MOST_SETTLE_MS) this.#begins = null;
    else if (media.currentTime > from && since > SETTLE_MS[this.kind]) {
      const late = since - (1000 * (media.currentTime - from)) / speed;
      startDelay[this.kind][start] = Math.min(MOST_START_DELAY_MS, Math.max(0, late));
      this.#begins = null;
    }
  }

  /** Before its turn it waits at its beginning, and begins early by what beginning takes. */
  #standBy(position, run, speed) {
    const { media } = this;
    const until = this.begin - position;
    if (run && until > 0 && until <= startDelay[this.kind][this.#start] * speed && media.readyState >= HTMLMediaElement.HAVE_FUTURE_DATA) {
      this.#play(speed);
      return;
    }
    this.#pause();
    const start = Math.max(0, this.mediaTime(this.begin)) / 1000;
    if (until > 0 && media.readyState >= HTMLMediaElement.HAVE_METADATA && !media.seeking && Math.abs(media.currentTime - start) > 0.005)
      this.#goTo(start);
  }

  #goTo(seconds) {
    this.#reached = Math.max(this.#reached, this.media.currentTime);
    this.media.currentTime = seconds;
    this.#start = "fresh";
  }

  #correct(off, position, speed) {
    const { media } = this;
    const far = Math.abs(off);
    if (far > SEEK_MS * Math.max(1, speed) && performance.now() - this.#soughtAt > SEEK_AGAIN_MS) {
      this.seek(position);
      return;
    }
    this.#correcting = far > (this.#correcting ? GOOD_MS : NUDGE_MS);
    const most = MOST_NUDGE[this.kind];
    const nudge = this.#correcting ? Math.min(most, Math.max(-most, -off / NUDGE_OF_MS[this.kind])) : 0;
    const rate = speed * (1 + nudge);
    if (Math.abs(media.playbackRate - rate) > 0.004 * speed) media.playbackRate = rate;
  }

  async #before(from) {
    if (from < STEP_S) return null;
    const found = await this.frameAt(from - STEP_S);
    return found < from ? found : null;
  }

  /** Half a frame further each time until another is shown, then back to see that none was passed over. */
  async #after(from) {
    const half = Math.max(4, this.segment.frame_ms / 2) / 1000;
    let found = from;
    for (let steps = 1; found <= from + STEP_S / 2; steps++) {
      const target = from + (steps === 1 ? 2.04 : steps + 1) * half;
      if (target > this.media.duration + 2 * half) return null;
      found = await this.frameAt(target);
    }
    for (;;) {
      const earlier = await this.frameAt(found - STEP_S);
      if (earlier <= from + STEP_S / 2 || earlier >= found) break;
      found = earlier;
    }
    await this.frameAt(found + STEP_S / 2);
    return found;
  }
}

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** @param {[number, number][]} places @param {number} value @param {0 | 1} from @param {0 | 1} to which of a pair */
function along(places, value, from, to) {
  let right = places.findIndex((place) => place[from] > value);
  if (right === 0) return places[0][to] + value - places[0][from];
  if (right < 0) return places[places.length - 1][to] + value - places[places.length - 1][from];
  const [low, high] = [places[right - 1], places[right]];
  return low[to] + ((value - low[from]) * (high[to] - low[to])) / (high[from] - low[from]);
}
