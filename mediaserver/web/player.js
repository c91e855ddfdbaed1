/**
 * Plays all tracks of a recording in step. One clock of the player's own runs; every media element follows it, by a
 * slightly different speed where it is a little off, by a seek where it is far off. A track is one or more files, each
 * with an element of its own.
 */

import { profile } from "./sources.js";
import { duration, element, icon, pictureSize, relabel, write } from "./ui.js";

const FOLLOW_EVERY_MS = 100;
/** An element that is further off than this is put right by a change of speed, and beyond the second by a seek. */
const NUDGE_MS = 35;
const SEEK_MS = 300;
const NUDGE = 0.06;
const STEP_MS = 5000;
/** The last frame of a file is shown for about this long; its length counts from first to last frame. */
const LAST_FRAME_MS = 40;
/** A file begins to load this long before it is due. */
const AHEAD_MS = 8000;

/** One file and its place on the recording's time. */
class Clip {
  constructor(track, segment, source) {
    const { title, kind } = profile(track.source);
    this.track = track;
    this.begin = segment.offset_ms;
    this.end = segment.offset_ms + segment.duration_ms + LAST_FRAME_MS;
    this.failed = false;
    this.media = element(track.kind ?? kind, { preload: "metadata", playsinline: true, "aria-label": title });
    this.media.addEventListener("error", () => (this.failed = true));
    this.media.src = source;
  }

  covers(position) {
    return position >= this.begin && position < this.end;
  }

  /** Whether the element must load before it can show this position. */
  waits(position) {
    const { media } = this;
    if (this.failed || media.ended || !this.covers(position)) return false;
    return media.seeking || media.readyState < HTMLMediaElement.HAVE_FUTURE_DATA;
  }

  /** Goes to a position at once. */
  seek(position) {
    if (this.covers(position) && !this.failed) this.media.currentTime = (position - this.begin) / 1000;
  }

  /** @param {number} position ms @param {boolean} run @param {number} speed */
  follow(position, run, speed) {
    const { media } = this;
    if (this.failed) return;
    if (position > this.begin - AHEAD_MS && position < this.end) media.preload = "auto";
    if (!this.covers(position)) {
      if (!media.paused) media.pause();
      return;
    }
    const off = media.currentTime * 1000 - (position - this.begin);
    if (Math.abs(off) > SEEK_MS && !media.seeking) this.seek(position);
    const nudge = Math.abs(off) > NUDGE_MS && Math.abs(off) <= SEEK_MS ? -Math.sign(off) * NUDGE : 0;
    const rate = speed * (1 + nudge);
    if (media.playbackRate !== rate) media.playbackRate = rate;
    if (run && media.paused && !media.ended) media.play().catch(() => {});
    if (!run && !media.paused) media.pause();
  }
}

/** One track: its files, and the figure that shows a picture. */
class Lane {
  /** @type {HTMLElement | null} */
  figure = null;

  constructor(track, address) {
    this.track = track;
    this.clips = track.segments.map((segment) => new Clip(track, segment, address(track, segment)));
    this.end = Math.max(0, ...this.clips.map(({ end }) => end));
    // Where one file runs a little into the next, the next counts.
    this.clips.forEach((clip, index) => (clip.end = Math.min(clip.end, this.clips[index + 1]?.begin ?? clip.end)));
  }

  at(position) {
    return this.clips.find((clip) => clip.covers(position) && !clip.failed) ?? null;
  }

  show(position) {
    const now = this.at(position);
    this.figure?.classList.toggle("outside", now === null);
    for (const clip of this.clips) clip.media.classList.toggle("current", clip === now);
  }
}

export class Player {
  /** @type {Lane[]} */
  #lanes;
  /** @type {Clip[]} */
  #clips;
  #length;
  #position = 0;
  #playing = false;
  #speed = 1;
  #last = 0;
  #timer = 0;

  /**
   * @param {any} recording with its tracks, as the archive describes it
   * @param {(track: any, segment: any) => string} address of a file
   */
  constructor(recording, address) {
    this.#lanes = recording.tracks.map((track) => new Lane(track, address));
    this.#clips = this.#lanes.flatMap(({ clips }) => clips);
    this.#length = Math.max(recording.duration_ms, ...this.#lanes.map(({ end }) => end));
    this.root = element("div", { class: "player" }, this.#screens(), this.#controls());
    this.#timer = setInterval(() => this.#follow(), FOLLOW_EVERY_MS);
    this.#show();
  }

  close() {
    clearInterval(this.#timer);
    for (const { media } of this.#clips) {
      media.pause();
      media.removeAttribute("src");
      media.load();
    }
    this.root.remove();
  }

  /** @param {boolean} [run] */
  toggle(run = !this.#playing) {
    if (run && this.#position >= this.#length - 50) this.seek(0);
    this.#playing = run;
    this.#last = performance.now();
    this.#follow();
    relabel(this.button, run ? "pause" : "play", run ? "Pause" : "Play");
  }

  /** @param {number} position ms from the recording's beginning */
  seek(position) {
    this.#position = Math.min(Math.max(0, position), this.#length);
    for (const clip of this.#clips) clip.seek(this.#position);
    this.#show();
  }

  /** @param {number} by ms */
  step(by) {
    this.seek(this.#position + by);
  }

  static STEP_MS = STEP_MS;

  #screens() {
    const rank = ({ track }) => profile(track.source).rank;
    const of = (kind) => this.#lanes.filter(({ track }) => track.kind === kind).sort((one, two) => rank(one) - rank(two));
    const figures = of("video").map((lane) => this.#figure(lane));
    const sounds = of("audio").map((lane) => this.#soundRow(lane));
    return element("div", { class: "player" }, element("div", { class: "screens" }, ...figures), element("ul", { class: "sounds" }, ...sounds));
  }

  #figure(lane) {
    const { track, clips } = lane;
    const about = [track.label, pictureSize(track.width, track.height)].filter(Boolean).join(" · ");
    const caption = element("figcaption", {}, element("strong", {}, profile(track.source).title), element("span", {}, about));
    const none = element("p", { class: "none" }, "Nothing recorded here");
    lane.figure = element("figure", { "data-track": track.id, "data-source": track.source }, ...clips.map(({ media }) => media), none, caption);
    return lane.figure;
  }

  #soundRow({ track, clips }) {
    const { title } = profile(track.source);
    const button = element("button", { class: "plain", "aria-pressed": "true", "aria-label": `Sound of ${title}` }, icon("sound"));
    const each = (act) => clips.forEach(({ media }) => act(media));
    button.addEventListener("click", () => {
      const muted = button.getAttribute("aria-pressed") === "true";
      each((media) => (media.muted = muted));
      button.replaceChildren(icon(muted ? "sound-off" : "sound"));
      button.setAttribute("aria-pressed", String(!muted));
    });
    const volume = element("input", { type: "range", min: 0, max: 1, step: 0.05, value: 1, "aria-label": `Volume of ${title}` });
    volume.addEventListener("input", () => each((media) => (media.volume = Number(volume.value))));
    const name = element("span", { class: "name" }, title, element("small", {}, track.label));
    return element("li", { "data-track": track.id }, button, name, volume, ...clips.map(({ media }) => media));
  }

  #controls() {
    this.button = element("button", { class: "primary", id: "play" });
    relabel(this.button, "play", "Play");
    this.button.addEventListener("click", () => this.toggle());
    this.now = element("time", {}, duration(0));
    this.slider = element("input", { type: "range", min: 0, max: this.#length, step: 10, value: 0, "aria-label": "Position" });
    this.slider.addEventListener("input", () => this.seek(Number(this.slider.value)));
    const speeds = [0.25, 0.5, 1, 1.5, 2].map((speed) => element("option", { value: speed, selected: speed === 1 }, `${speed}×`));
    const speed = element("select", { "aria-label": "Speed" }, ...speeds);
    speed.addEventListener("change", () => (this.#speed = Number(speed.value)));
    return element("div", { class: "transport" }, this.button, this.now, this.slider, element("time", {}, duration(this.#length)), speed);
  }

  #follow() {
    const now = performance.now();
    const waiting = this.#clips.some((clip) => clip.waits(this.#position));
    if (this.#playing && !waiting) this.#position += (now - this.#last) * this.#speed;
    this.#last = now;
    if (this.#playing && this.#position >= this.#length) {
      this.#position = this.#length;
      this.toggle(false);
    }
    for (const clip of this.#clips) clip.follow(this.#position, this.#playing && !waiting, this.#speed);
    this.#show();
  }

  #show() {
    write(this.now, duration(this.#position));
    this.slider.value = String(this.#position);
    this.slider.setAttribute("aria-valuetext", `${duration(this.#position)} of ${duration(this.#length)}`);
    for (const lane of this.#lanes) lane.show(Math.min(this.#position, this.#length - 1));
  }
}
