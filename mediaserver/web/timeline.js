/** The timeline under the player: a row for each track, what was not recorded or not seen, bookmarks, and the place. */

import { element, write } from "./ui.js";

/** What is nearer together than this share of the whole is drawn as one. */
const FINEST = 1 / 2000;
const KEY_MS = { ArrowLeft: -1000, ArrowRight: 1000, ArrowDown: -1000, ArrowUp: 1000, PageDown: -30_000, PageUp: 30_000 };
/** Steps of the ruler in s. */
const TICKS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];
const MOST_TICKS = 9;

const KINDS = {
  gap: "Not recorded",
  floor: "Below its floor",
  stale: "Stale",
  sound: "Sound altered",
};
const CAUSES = {
  lost: "packets were lost",
  overflow: "the recorder was too slow",
  files: "the picture or the sound changed too often",
  disk: "the disk refused",
  muted: "muted",
  consent: "its sender had not agreed",
  withdrawn: "erased, as consent was withdrawn",
  line: "the viewer's line",
  source: "its source",
  publisher: "nothing came from who publishes it",
  picture: "the picture did not change",
};

/** A mark in words. @param {any} mark */
export function describe(mark) {
  const parts = mark.cause.split(":");
  const cause = CAUSES[parts[parts.length - 1]] ?? mark.cause;
  const kind = parts[0] === "paused" ? "Paused for a viewer" : parts[0] === "unchanging" ? "Not changing" : KINDS[mark.kind];
  return `${kind}: ${cause}`;
}

/** @param {number} ms as h:mm:ss.t */
export function moment(ms) {
  const tenths = Math.max(0, Math.floor(ms / 100));
  const [seconds, minutes, hours] = [Math.floor(tenths / 10) % 60, Math.floor(tenths / 600) % 60, Math.floor(tenths / 36_000)];
  const two = (value) => String(value).padStart(2, "0");
  return `${hours ? `${hours}:${two(minutes)}` : minutes}:${two(seconds)}.${tenths % 10}`;
}

export class TimelineBar {
  #player;
  #timeline;
  #place = element("div", { class: "place" });
  #flags = element("div", { class: "flags" });

  /** @param {any} timeline @param {import("./player.js").Player} player */
  constructor(timeline, player) {
    this.#player = player;
    this.#timeline = timeline;
    this.slider = element("input", { type: "range", min: 0, max: Math.round(player.length), step: 10, value: 0, "aria-label": "Position" });
    this.slider.addEventListener("input", () => player.seek(Number(this.slider.value)));
    this.slider.addEventListener("keydown", (event) => this.#key(event));
    const names = player.lanes.map((lane) => element("span", { title: lane.title }, lane.title));
    const rows = player.lanes.map((lane) => this.#row(lane));
    const tip = element("output", { class: "tip", hidden: true });
    const tracks = element("div", { class: "rows" }, this.#ruler(), ...rows, this.#flags, this.#place, this.slider, tip);
    this.root = element("div", { class: "timeline" }, element("div", { class: "names", "aria-hidden": "true" }, element("span"), ...names), tracks);
    this.#hover(tracks, tip);
    this.show();
  }

  /** Follows the player. */
  show() {
    const { position, length } = this.#player;
    this.slider.value = String(Math.round(position));
    this.slider.setAttribute("aria-valuetext", `${moment(position)} of ${moment(length)}`);
    this.#place.style.left = this.#at(position);
  }

  /** @param {{ at_ms: number, text: string }[]} bookmarks */
  mark(bookmarks) {
    this.#flags.replaceChildren(
      ...bookmarks.map(({ at_ms: at, text }) => element("i", { class: "flag", style: `left:${this.#at(at)}`, title: text })),
    );
  }

  #at(ms) {
    return `${(100 * Math.min(1, Math.max(0, ms / (this.#player.length || 1)))).toFixed(4)}%`;
  }

  #span(begin, length) {
    const width = (100 * length) / (this.#player.length || 1);
    return `left:${this.#at(begin)};width:${Math.max(0.12, width).toFixed(4)}%`;
  }

  #row({ track }) {
    const files = track.segments.map((segment) =>
      element("i", { class: "file", style: this.#span(segment.offset_ms, segment.duration_ms), "data-segment": segment.n }),
    );
    const marks = this.#timeline.marks.filter((mark) => mark.track === track.id);
    const drawn = Object.keys(KINDS).flatMap((kind) => this.#joined(marks.filter((mark) => mark.kind === kind)));
    return element("div", { class: `row ${track.kind}`, "data-track": track.id }, ...files, ...drawn);
  }

  /** Marks of one kind; those that touch on the page become one. */
  #joined(marks) {
    const spans = [];
    for (const { kind, offset_ms: begin, duration_ms: length } of marks) {
      const last = spans.at(-1);
      const end = begin + length;
      if (last && begin - last.end < this.#player.length * FINEST) last.end = Math.max(last.end, end);
      else spans.push({ kind, begin, end });
    }
    return spans.map(({ kind, begin, end }) => element("i", { class: `mark ${kind}`, "data-mark": kind, style: this.#span(begin, end - begin) }));
  }

  #ruler() {
    const seconds = this.#player.length / 1000;
    const step = TICKS.find((tick) => seconds / tick <= MOST_TICKS) ?? Math.ceil(seconds / MOST_TICKS / 3600) * 3600;
    const ticks = [];
    for (let at = 0; at < seconds; at += step) {
      ticks.push(element("span", { style: `left:${this.#at(at * 1000)}` }, moment(at * 1000).slice(0, -2)));
    }
    return element("div", { class: "ruler", "aria-hidden": "true" }, ...ticks);
  }

  #key(event) {
    const by = KEY_MS[event.key];
    if (!by) return;
    event.preventDefault();
    event.stopPropagation();
    this.#player.step(by);
  }

  #hover(area, tip) {
    area.addEventListener("pointermove", (event) => {
      const { left, width } = area.getBoundingClientRect();
      const ms = Math.min(1, Math.max(0, (event.clientX - left) / width)) * this.#player.length;
      tip.hidden = false;
      tip.style.left = this.#at(ms);
      write(tip, moment(ms));
    });
    area.addEventListener("pointerleave", () => (tip.hidden = true));
  }
}
