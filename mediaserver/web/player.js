/**
 * Plays all tracks of a recording in step. One clock of the player's own runs; every media element follows it, by a
 * slightly different speed where it is a little off, by a seek where it is far off.
 */

import { profile } from "./sources.js";
import { duration, element, icon, pictureSize, relabel, write } from "./ui.js";

const FOLLOW_EVERY_MS = 100;
/** An element that is further off than this is put right by a change of speed, and beyond the second by a seek. */
const NUDGE_MS = 35;
const SEEK_MS = 300;
const NUDGE = 0.06;
const STEP_MS = 5000;

/**
 * One track's element and its place on the recording's time. A track has several files where its picture changed size
 * or its publisher came back; the element takes the one that the position is in.
 */
class Lane {
  constructor(track, address) {
    this.track = track;
    this.files = track.segments.map(({ n, offset_ms, duration_ms }) => ({ begin: offset_ms, end: offset_ms + duration_ms, source: address(track, n) }));
    this.end = Math.max(0, ...this.files.map(({ end }) => end));
    this.file = this.files[0];
    this.failed = this.file === undefined;
    const { title, kind } = profile(track.source);
    this.media = element(kind === "video" ? "video" : "audio", { preload: "auto", playsinline: true, "aria-label": title });
    this.media.addEventListener("error", () => (this.failed = true));
    if (this.file) this.media.src = this.file.source;
  }

  covers(position) {
    return this.files.some(({ begin, end }) => position >= begin && position < end);
  }

  /** Let the element show this position, if there is anything at it. */
  seek(position) {
    const file = this.files.find(({ begin, end }) => position >= begin && position < end);
    if (!file || this.failed) return;
    if (file !== this.file) {
      this.file = file;
      this.media.src = file.source;
    }
    this.media.currentTime = (position - file.begin) / 1000;
  }

  /** Whether the element must load before it can show this position. */
  waits(position) {
    return !this.failed && this.covers(position) && (this.media.seeking || this.media.readyState < HTMLMediaElement.HAVE_FUTURE_DATA) && !this.media.ended;
  }

  /** @param {number} position ms @param {boolean} run @param {number} speed */
  follow(position, run, speed) {
    const { media } = this;
    if (this.failed) return;
    if (!this.covers(position)) {
      if (!media.paused) media.pause();
      return;
    }
    const elsewhere = position < this.file.begin || position >= this.file.end;
    const off = media.currentTime * 1000 - (position - this.file.begin);
    if (elsewhere || (Math.abs(off) > SEEK_MS && !media.seeking)) this.seek(position);
    const nudge = Math.abs(off) > NUDGE_MS && Math.abs(off) <= SEEK_MS ? -Math.sign(off) * NUDGE : 0;
    const rate = speed * (1 + nudge);
    if (media.playbackRate !== rate) media.playbackRate = rate;
    if (run && media.paused && !media.ended) media.play().catch(() => {});
    if (!run && !media.paused) media.pause();
  }

  /** ms by which the element is ahead of the player's clock; null where it shows nothing now */
  skew(position) {
    return this.covers(position) && !this.failed ? this.media.currentTime * 1000 - (position - this.file.begin) : null;
  }
}

export class Player {
  #lanes;
  #length;
  #position = 0;
  #playing = false;
  #speed = 1;
  #last = 0;
  #timer = 0;

  /**
   * @param {any} recording with its tracks, as the archive describes it
   * @param {(track: any, segment: number) => string} address of a track's media
   */
  constructor(recording, address) {
    this.#lanes = recording.tracks.map((track) => new Lane(track, address));
    this.#length = Math.max(recording.duration_ms ?? 0, ...this.#lanes.map(({ end }) => end));
    this.root = element("div", { class: "player" }, this.#screens(), this.#controls());
    this.#timer = setInterval(() => this.#follow(), FOLLOW_EVERY_MS);
    this.#show();
  }

  close() {
    clearInterval(this.#timer);
    for (const { media } of this.#lanes) {
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
    for (const lane of this.#lanes) lane.seek(this.#position);
    this.#show();
  }

  /** @param {number} by ms */
  step(by) {
    this.seek(this.#position + by);
  }

  static STEP_MS = STEP_MS;

  get position() {
    return this.#position;
  }

  /** @returns {Record<string, number>} by track: how far each is ahead of the clock, in ms */
  skews() {
    const found = this.#lanes.map((lane) => [lane.track.id, lane.skew(this.#position)]);
    return Object.fromEntries(found.filter(([, skew]) => skew !== null));
  }

  #screens() {
    const pictures = this.#lanes.filter(({ media }) => media instanceof HTMLVideoElement);
    pictures.sort((one, two) => profile(one.track.source).rank - profile(two.track.source).rank);
    const figures = pictures.map((lane) => {
      const { track, media } = lane;
      lane.figure = element(
        "figure",
        { "data-track": track.id },
        media,
        element("p", { class: "none" }, "Nothing recorded here"),
        element("figcaption", {}, element("strong", {}, profile(track.source).title), element("span", {}, [track.label, pictureSize(track.width, track.height)].filter(Boolean).join(" · "))),
      );
      return lane.figure;
    });
    const sounds = this.#lanes.filter(({ media }) => media instanceof HTMLAudioElement);
    const switches = sounds.map(({ track, media }) => this.#soundRow(track, media));
    return element("div", { class: "player" }, element("div", { class: "screens" }, ...figures), element("ul", { class: "sounds" }, ...switches));
  }

  #soundRow(track, media) {
    const { title } = profile(track.source);
    const button = element("button", { class: "plain", "aria-pressed": "true", "aria-label": `Sound of ${title}` }, icon("sound"));
    button.addEventListener("click", () => {
      media.muted = !media.muted;
      button.replaceChildren(icon(media.muted ? "sound-off" : "sound"));
      button.setAttribute("aria-pressed", String(!media.muted));
    });
    const volume = element("input", { type: "range", min: 0, max: 1, step: 0.05, value: 1, "aria-label": `Volume of ${title}` });
    volume.addEventListener("input", () => (media.volume = Number(volume.value)));
    return element("li", { "data-track": track.id }, button, element("span", { class: "name" }, title, element("small", {}, track.label ?? "")), volume, media);
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
    const waiting = this.#lanes.some((lane) => lane.waits(this.#position));
    if (this.#playing && !waiting) this.#position += (now - this.#last) * this.#speed;
    this.#last = now;
    if (this.#playing && this.#position >= this.#length) {
      this.#position = this.#length;
      this.toggle(false);
    }
    for (const lane of this.#lanes) lane.follow(this.#position, this.#playing && !waiting, this.#speed);
    this.#show();
  }

  #show() {
    write(this.now, duration(this.#position));
    this.slider.value = String(this.#position);
    this.slider.setAttribute("aria-valuetext", `${duration(this.#position)} of ${duration(this.#length)}`);
    for (const lane of this.#lanes) {
      lane.figure?.classList.toggle("outside", lane.failed || !lane.covers(Math.min(this.#position, this.#length - 1)));
    }
  }
}
