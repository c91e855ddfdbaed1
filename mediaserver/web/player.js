/**
 * Plays all tracks of a recording in step. One clock of the player's own runs; every media element follows it, by a
 * slightly different speed where it is a little off, by a seek where it is far off (`clip.js`).
 *
 * Events: "change" when it begins or ends to play, to wait, or changes its speed; "position" when it has moved;
 * "focus" when another picture is large.
 */

import { Lane } from "./lane.js";
import { profile } from "./sources.js";

const FOLLOW_EVERY_MS = 25;
/** A sound that is further behind holds up the clock and the pictures until it is no further behind than that. */
const HOLD_MS = 40;
const GO_ON_MS = 8;
/** While sounds begin they are looked at this often, and waited for no longer than that. */
const BEGIN_EVERY_MS = 8;
const BEGIN_WITHIN_MS = 600;
/** The clock goes no further than this between two looks: a page that slept goes on where it was. */
const MOST_STEP_MS = 2000;
/** So many presses wait while a frame is on its way: quick ones all count, a key that is held down does not run on. */
const MOST_STEPS_AHEAD = 3;

export const SPEEDS = [0.5, 0.75, 1, 1.25, 1.5, 2, 3, 4];

export class Player extends EventTarget {
  /** @type {Lane[]} pictures, what is looked at first before the others */
  pictures;
  /** @type {Lane[]} */
  sounds;
  position = 0;
  playing = false;
  /** It would play, but some track has to load or to begin first: the clock stands. */
  waiting = false;
  /** Some track has to load. */
  loading = false;
  speed = 1;
  /** @type {Lane | null} the picture that is large */
  focused = null;
  #last = 0;
  #timer;
  /** The next look while sounds begin. */
  #soon = 0;
  /** When sounds were told to begin. @type {number | null} */
  #begunAt = null;
  /** Since when the clock stands for a sound that is behind. @type {number | null} */
  #heldAt = null;
  #stepping = false;
  /** Frames still to go: on, or back where negative. */
  #steps = 0;

  /**
   * @param {any} timeline of the recording
   * @param {{ media: (track: any, segment: any) => string, still: (track: any, at: number) => string }} address
   */
  constructor(timeline, address) {
    super();
    const rank = ({ track }) => profile(track.source).rank;
    const lanes = timeline.tracks.map((track) => new Lane(track, address)).sort((one, two) => rank(one) - rank(two));
    this.pictures = lanes.filter(({ track }) => track.kind === "video");
    this.sounds = lanes.filter(({ track }) => track.kind === "audio");
    this.lanes = lanes;
    this.length = Math.max(timeline.duration_ms, ...lanes.map(({ end }) => end));
    for (const lane of this.pictures) lane.choose.addEventListener("click", () => this.focus(lane));
    this.focus(this.pictures.find(({ clips }) => clips.some(({ playable }) => playable)) ?? this.pictures[0] ?? null);
    this.#timer = setInterval(() => this.#follow(), FOLLOW_EVERY_MS);
    this.seek(0);
  }

  close() {
    clearInterval(this.#timer);
    clearTimeout(this.#soon);
    for (const lane of this.lanes) lane.close();
  }

  /** @param {boolean} [run] */
  toggle(run = !this.playing) {
    if (run && this.position >= this.length - 50) this.seek(0);
    this.waiting = run && (this.waiting || !this.playing);
    this.playing = run;
    this.#last = performance.now();
    this.#follow();
    this.dispatchEvent(new Event("change"));
  }

  /** @param {number} position ms from the recording's beginning */
  seek(position) {
    this.position = Math.min(Math.max(0, position), this.length);
    for (const lane of this.lanes) lane.seek(this.position);
    this.#follow();
  }

  /** @param {number} by ms */
  step(by) {
    this.seek(this.position + by);
  }

  /** @param {number} speed one of SPEEDS */
  setSpeed(speed) {
    this.speed = speed;
    this.dispatchEvent(new Event("change"));
  }

  /** The next faster or slower speed. @param {1 | -1} direction */
  changeSpeed(direction) {
    const next = SPEEDS[SPEEDS.indexOf(this.speed) + direction];
    if (next) this.setSpeed(next);
  }

  /** @param {Lane | null} lane */
  focus(lane) {
    if (lane === this.focused) return;
    this.focused = lane;
    this.dispatchEvent(new Event("focus"));
  }

  /** To the next or the previous frame of the picture that is large; the other tracks go there too. @param {1 | -1} direction */
  async stepFrame(direction) {
    if (this.playing) this.toggle(false);
    this.#steps = Math.max(-MOST_STEPS_AHEAD, Math.min(this.#steps + direction, MOST_STEPS_AHEAD));
    if (this.#stepping) return;
    this.#stepping = true;
    try {
      while (this.#steps !== 0) {
        const next = this.#steps > 0 ? 1 : -1;
        this.#steps -= next;
        await this.#stepOnce(next);
      }
    } finally {
      this.#steps = 0;
      this.#stepping = false;
    }
  }

  /** The picture that is large as a PNG of its own size; null where there is none. @returns {Promise<Blob | null>} */
  async snapshot() {
    const picture = this.focused?.picture();
    if (!picture) return null;
    const canvas = new OffscreenCanvas(picture.videoWidth, picture.videoHeight);
    canvas.getContext("2d")?.drawImage(picture, 0, 0);
    return canvas.convertToBlob({ type: "image/png" });
  }

  /** How far (ms) each track that plays is ahead of the clock. @returns {Record<string, number>} by track */
  skews() {
    const found = {};
    for (const lane of this.lanes) {
      const ahead = lane.at(this.position)?.ahead(this.#now());
      if (ahead != null) found[lane.track.id] = ahead;
    }
    return found;
  }

  #now() {
    const running = this.playing && !this.waiting;
    const since = running && this.#heldAt === null ? performance.now() - this.#last : 0;
    return this.position + since * this.speed;
  }

  async #stepOnce(direction) {
    const lane = this.focused;
    const clip = lane?.at(this.position);
    if (!lane) return;
    const offset = clip?.media && clip.usable ? await clip.stepFrame(direction) : null;
    if (offset === null) this.#beyond(lane, direction);
    else this.#arrive(lane, offset);
  }

  /** From the end of one file to the nearest frame of the next one, or of the one before. */
  #beyond(lane, direction) {
    const current = lane.at(this.position);
    const next = lane.clips.find((clip) => clip.begin > this.position);
    const previous = lane.clips.findLast((clip) => clip !== current && clip.begin < this.position);
    if (direction > 0 && next) this.seek(next.begin);
    if (direction < 0 && previous) this.seek(previous.end - 1);
  }

  /** The large picture is there already; the others follow. */
  #arrive(lane, offset) {
    // A frame stands from its own time on; rounding must not lead to the one before.
    this.position = Math.min(this.length, offset + 0.5);
    for (const one of this.lanes) if (one !== lane) one.seek(this.position);
    this.#follow();
  }

  #follow() {
    const now = performance.now();
    const loading = this.playing && this.lanes.some((lane) => lane.waits(this.position));
    if (!this.playing || loading) this.#begunAt = null;
    const could = this.playing && !loading;
    const running = could && !this.waiting;
    const next = this.position + Math.min(MOST_STEP_MS, now - this.#last) * this.speed;
    const held = running && this.#holds(next, now);
    if (running && !held) this.position = next + this.#lead(next);
    this.#last = now;
    const begun = running || (could && this.#begin(now));
    this.#tell(this.playing && !begun, loading);
    if (this.playing && this.position >= this.length) {
      this.position = this.length;
      this.toggle(false);
      return;
    }
    const shown = Math.min(this.position, this.length - 1);
    for (const lane of this.lanes) {
      const sound = lane.track.kind === "audio";
      if (could && !begun && sound) lane.show(shown);
      else lane.follow(shown, begun && (sound || !held), this.speed);
    }
    if (begun && this.sounds.some((lane) => lane.settling)) this.#lookSoon();
    this.dispatchEvent(new Event("position"));
  }

  /**
   * Sounds go first: from `play` to what is heard is a long way (some 100 ms, more by radio), and they can be put right
   * only slowly. The clock and the pictures go on when the sounds do.
   */
  #begin(now) {
    this.#begunAt ??= now;
    const begun = this.sounds.map((lane) => lane.begin(this.position, this.speed)).filter((offset) => offset !== null);
    const moving = begun.filter((offset) => offset !== undefined);
    const middle = (Math.min(...moving) + Math.max(...moving)) / 2;
    const soon = moving.length < begun.length || middle < this.position;
    if (soon && now - this.#begunAt < BEGIN_WITHIN_MS) {
      this.#lookSoon();
      return false;
    }
    if (moving.length > 0) this.position = middle;
    this.#begunAt = null;
    return true;
  }

  /** A sound stumbles when its device does; it is heard when it hurries, so all others wait for it, not for long. */
  #holds(next, now) {
    const behind = Math.max(0, ...this.sounds.map((lane) => lane.behind(next)));
    if (behind <= (this.#heldAt === null ? HOLD_MS : GO_ON_MS) * Math.max(1, this.speed)) this.#heldAt = null;
    else this.#heldAt ??= now;
    return this.#heldAt !== null && now - this.#heldAt < BEGIN_WITHIN_MS;
  }

  /** Where all sounds are ahead the clock goes with them, and pictures hurry, which is not heard. */
  #lead(next) {
    const leads = this.sounds.map((lane) => lane.leads(next)).filter((lead) => lead !== null);
    const least = Math.min(...leads);
    const limit = HOLD_MS * Math.max(1, this.speed);
    return leads.length > 0 && least > limit && least < 5 * limit ? least - GO_ON_MS : 0;
  }

  #lookSoon() {
    clearTimeout(this.#soon);
    this.#soon = setTimeout(() => this.#follow(), BEGIN_EVERY_MS);
  }

  #tell(waiting, loading) {
    if (waiting === this.waiting && loading === this.loading) return;
    [this.waiting, this.loading] = [waiting, loading];
    this.dispatchEvent(new Event("change"));
  }
}
