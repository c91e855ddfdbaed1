/** The sounds of a room on the viewer's page: one row each, with its level, its volume, and a switch. */

import { recordedMark, showMark } from "./consent.js";
import { altered, profile } from "./sources.js";
import { byId, element, icon, write } from "./ui.js";

const LEVEL_EVERY_MS = 100;

/** One sound and its row. */
class Sound {
  constructor(info, owner, track, receiver, client) {
    this.info = info;
    this.client = client;
    this.staleMs = client?.joined?.budgets?.[info.source]?.stale_ms ?? 0;
    /** when the newest sound was played, on performance.now()'s clock */
    this.last = 0;
    this.receiver = receiver;
    this.heard = false;
    /** the level of the sound as decoded, for publishers that send none along */
    this.decoded = 0;
    this.on = true;
    const { title } = profile(info.source);
    this.audio = element("audio", { autoplay: true });
    this.audio.srcObject = new MediaStream([track]);
    this.level = element("meter", { min: 0, max: 1, "aria-label": `Level of ${title}` });
    this.whose = element("small", {});
    this.recorded = recordedMark();
    this.sign = element("strong", { class: "sound-sign", role: "status" });
    this.button = element("button", { class: "plain", "aria-pressed": "true" });
    this.volume = element("input", { type: "range", min: 0, max: 1, step: 0.05, value: 1, "aria-label": `Volume of ${title}` });
    this.volume.addEventListener("input", () => (this.audio.volume = Number(this.volume.value)));
    this.root = element(
      "li",
      { "data-track": info.id, "data-source": info.source },
      this.button,
      element("span", { class: "name" }, title, this.recorded, this.whose),
      this.sign,
      this.level,
      this.volume,
      this.audio,
    );
    this.update(info, owner);
  }

  update(info, owner) {
    this.info = info;
    this.hear(info.freshness ?? "");
    write(this.whose, info.muted ? `${owner} · muted` : owner);
  }

  /** @param {string} told the server's word of the track's freshness; empty: none */
  hear(told) {
    this.told = told;
    this.root.dataset.told = told;
  }

  /** @param {boolean} allowed whether sound is on for the whole page */
  apply(allowed) {
    this.audio.muted = !(allowed && this.on);
    const { title } = profile(this.info.source);
    this.button.replaceChildren(icon(this.on ? "sound" : "sound-off"));
    this.button.setAttribute("aria-pressed", String(this.on));
    this.button.setAttribute("aria-label", `${title}: sound ${this.on ? "on" : "off"}`);
  }

  /** Reads the level that came with the newest packet, or else the last one that the statistics told. */
  measure() {
    const [newest] = this.receiver.getSynchronizationSources();
    if (newest && !this.heard) {
      this.heard = true;
      performance.mark(`first-sound:${this.info.id}`, { detail: this.info.source });
    }
    const now = performance.now();
    const played = newest ? newest.timestamp - performance.timeOrigin : 0;
    if (played > this.last) {
      this.last = played;
      const captured = this.client?.capturedAt(this.info.id, newest.rtpTimestamp) ?? null;
      if (captured !== null) this.client?.noteAge(this.info.id, played - captured);
    }
    const fresh = newest && now - this.last < 500;
    this.level.value = fresh ? Math.min(1, Math.sqrt(newest.audioLevel ?? this.decoded)) : 0;
    this.#judge(now);
  }

  /** Silence must not be taken for a quiet heart: says when nothing arrives, by its own clock and by the server's word. */
  #judge(now) {
    let state = "live";
    if (this.info.muted) state = "paused";
    else if (!this.heard) state = "waiting";
    else if (this.told === "stale" || (this.staleMs && now - this.last > this.staleMs)) state = "stale";
    if (this.root.dataset.state !== state) this.root.dataset.state = state;
    const faults = altered(this.info.faults);
    write(this.sign, state === "stale" ? "STALE · no sound arrives" : faults);
  }
}

/** Events: `change` when sound went on or off, and `blocked` when the browser wants a click first. */
export class Sounds extends EventTarget {
  /** @type {Map<string, Sound>} */
  #rows = new Map();
  /** whether the page plays sound */
  on = true;
  /** whether the browser has refused to play until somebody clicks */
  blocked = false;

  constructor() {
    super();
    setInterval(() => {
      for (const row of this.#rows.values()) row.measure();
    }, LEVEL_EVERY_MS);
  }

  get size() {
    return this.#rows.size;
  }

  /** @param {import("./client.js").MediaClient} [client] knows its budget and when it was captured */
  add(info, owner, track, receiver, client) {
    this.remove(info.id);
    const row = new Sound(info, owner, track, receiver, client);
    row.button.addEventListener("click", () => {
      row.on = !row.on;
      row.apply(this.on);
    });
    this.#rows.set(info.id, row);
    byId("sounds").append(row.root);
    byId("no-sound").hidden = true;
    row.apply(this.on);
    this.#play(row);
  }

  update(info, owner) {
    this.#rows.get(info.id)?.update(info, owner);
  }

  /** @param {(track: string) => ReturnType<typeof import("./consent.js").recordedState>} stateOf whether a track goes into the recording */
  record(stateOf) {
    for (const [id, row] of this.#rows) showMark(row.recorded, stateOf(id));
  }

  /** The server cannot be heard: what it said last is no longer of now. */
  unheard() {
    for (const row of this.#rows.values()) row.hear("");
  }

  /** @param {Map<string, import("./stats.js").TrackStats>} figures by track */
  note(figures) {
    for (const [id, row] of this.#rows) row.decoded = figures.get(id)?.audioLevel ?? 0;
  }

  remove(id) {
    const row = this.#rows.get(id);
    if (!row) return;
    this.#rows.delete(id);
    row.audio.srcObject = null;
    row.root.remove();
    byId("no-sound").hidden = this.#rows.size > 0;
  }

  /** Switches the sound of the page; called from a click or a key, so that the browser lets it play. */
  toggle(on = this.blocked || !this.on) {
    this.on = on;
    this.blocked = false;
    for (const row of this.#rows.values()) {
      row.apply(on);
      if (on) this.#play(row);
    }
    this.dispatchEvent(new Event("change"));
  }

  #play(row) {
    row.audio.play().catch((error) => {
      if (error.name !== "NotAllowedError" || this.blocked) return;
      this.blocked = true;
      this.dispatchEvent(new Event("blocked"));
    });
  }
}
