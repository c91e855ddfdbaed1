/**
 * One picture on the viewer's page: the video, the strip with its figures, and the sign that says when it is not
 * live. The sign follows the page's own clock and its own pixels; the server's word can only make it graver.
 */

import { recordedMark, showMark } from "./consent.js";
import { Freshness, FrameWatch } from "./freshness.js";
import { profile } from "./sources.js";
import { age, element, frameRate, percent, pictureSize, write } from "./ui.js";

const SAMPLE = { width: 64, height: 48 };
const SAMPLE_EVERY_MS = 500;
/** Differences of brightness (of 255) below which two samples show the same picture: noise of the encoder. */
const SAME_MEAN = 0.35;
const SAME_AT_MOST = 10;

/** Tells whether a picture that keeps coming keeps showing the same: a scanner in freeze, or a stuck grabber. */
class ChangeWatch {
  #context;
  /** @type {Uint8ClampedArray | null} */
  #before = null;
  #sampled = 0;
  /** when the picture last differed from the one before */
  changed = 0;
  /** how often it did, the first look included */
  changes = 0;

  constructor() {
    const canvas = element("canvas", SAMPLE);
    this.#context = canvas.getContext("2d", { willReadFrequently: true });
  }

  /** @param {HTMLVideoElement} video @param {number} now ms */
  look(video, now) {
    if (now - this.#sampled < SAMPLE_EVERY_MS || !video.videoWidth) return;
    this.#sampled = now;
    this.#context.drawImage(video, 0, 0, SAMPLE.width, SAMPLE.height);
    const pixels = this.#context.getImageData(0, 0, SAMPLE.width, SAMPLE.height).data;
    if (this.#differs(pixels)) {
      this.changed = now;
      this.changes += 1;
    }
    this.#before = pixels;
  }

  #differs(pixels) {
    const before = this.#before;
    if (!before) return true;
    let sum = 0;
    let most = 0;
    for (let at = 1; at < pixels.length; at += 4) {
      const difference = Math.abs(pixels[at] - before[at]);
      sum += difference;
      most = Math.max(most, difference);
    }
    return sum > (SAME_MEAN * pixels.length) / 4 || most > SAME_AT_MOST;
  }
}

export class Tile {
  #watch;
  #change;
  #strip;
  #sign;
  #unchangedMs;
  #quality = /** @type {{ state: string, cause: string } | null} */ (null);
  #shownSince = performance.now();
  #recorded = recordedMark();
  #lossShown = /** @type {number | null} */ (null);
  #rateShown = /** @type {number | null} */ (null);

  /**
   * @param {any} info the server's TrackInfo
   * @param {string} owner the participant's name
   * @param {any} budget the source's SourceBudget
   * @param {(tile: Tile) => void} onChoose called when the viewer wants it large
   * @param {Pick<import("./client.js").MediaClient, "capturedAt" | "noteAge">} [client] knows when frames were captured
   */
  constructor(info, owner, budget, onChoose, client) {
    this.info = info;
    this.owner = owner;
    this.trouble = "";
    const { title } = profile(info.source);
    this.video = element("video", { autoplay: true, playsinline: true, "aria-hidden": "true" });
    this.video.muted = true;
    this.#sign = element("div", { class: "sign", role: "status" });
    const figure = (name, words) => element("span", { class: "figure" }, element("b", {}, words), element("i", { class: name }));
    this.#strip = element(
      "div",
      { class: "figures" },
      element("strong", {}, title),
      this.#recorded,
      element("span", { class: "whose" }),
      figure("age", "Age"),
      figure("rate", "Rate"),
      figure("loss", "Loss"),
      figure("size", "Size"),
    );
    const choose = element("button", { class: "choose", "aria-label": `Show ${title} large` });
    choose.addEventListener("click", () => onChoose(this));
    this.root = element(
      "article",
      { class: "tile", "data-source": info.source, "data-track": info.id, "aria-label": title },
      this.video,
      this.#sign,
      this.#strip,
      choose,
    );
    // A mark of the User Timing API: how long a join takes is read from the page itself.
    const firstFrame = () => performance.mark(`first-frame:${info.id}`, { detail: info.source });
    this.#watch = new FrameWatch(this.video, new Freshness(budget), {
      onFirst: firstFrame,
      capturedAt: (rtpTimestamp) => client?.capturedAt(info.id, rtpTimestamp) ?? null,
      onAge: (ms) => client?.noteAge(info.id, ms),
    });
    this.#unchangedMs = budget?.unchanged_ms ?? 0;
    this.#change = this.#unchangedMs > 0 ? new ChangeWatch() : null;
    this.update(info, owner);
  }

  /** @param {MediaStreamTrack} track */
  show(track) {
    this.video.srcObject = new MediaStream([track]);
    // A play() that another load() overtakes is no error.
    this.video.play().catch(() => {});
  }

  update(info, owner) {
    this.info = info;
    this.#hear(info.freshness ?? "");
    this.owner = owner;
    write(this.#part("whose"), [info.label, owner].filter(Boolean).join(" · "));
  }

  /** @param {import("./stats.js").TrackStats | undefined} stats */
  note(stats) {
    this.#lossShown = stats?.loss ?? null;
    this.#rateShown = stats?.framesPerSecond ?? null;
  }

  /** @param {{ state: string, cause: string } | null} quality what the server says arrives here; null: not known */
  allow(quality) {
    this.#quality = quality;
  }

  /** @param {ReturnType<typeof import("./consent.js").recordedState>} state whether it goes into the recording; empty while there is none */
  record(state) {
    showMark(this.#recorded, state);
  }

  /** The server cannot be heard: what it said last is no longer of now. */
  unheard() {
    this.#quality = null;
    this.#hear("");
  }

  /** @param {string} told the server's word of the track's freshness; empty: none */
  #hear(told) {
    this.told = told;
    this.root.dataset.told = told;
  }

  /** The page came back into sight: frames were not shown meanwhile, which is no fault of the stream. */
  seen(now) {
    this.#shownSince = now;
  }

  /** Brings the sign in line with the clock; called many times a second. @param {number} now ms */
  judge(now) {
    if (this.#watch.freshness.state(now) === "live") this.#change?.look(this.video, now);
    let state = this.#state(now);
    if (state === "live" && this.#quality?.state === "below-floor") state = "below";
    if (this.root.dataset.state !== state) this.root.dataset.state = state;
    write(this.#sign, this.#words(state, now));
  }

  /** Writes the figures of the strip. @param {number} now ms */
  describe(now) {
    const watch = this.#watch;
    const live = watch.freshness.state(now) === "live";
    write(this.#part("age"), age(watch.age(now)));
    this.#part("age").title = watch.captured ? "since the picture was taken" : "since the picture arrived here";
    write(this.#part("rate"), frameRate(live ? this.#rateShown : watch.frames ? 0 : null));
    write(this.#part("loss"), percent(this.#lossShown));
    write(this.#part("size"), pictureSize(watch.width, watch.height));
  }

  /** how many frames were shown, and the age of the last, for programs that look at the page */
  get frames() {
    return this.#watch.frames;
  }

  remove() {
    this.#watch.stop();
    this.video.srcObject = null;
    this.root.remove();
  }

  /** @returns {string} thin, off, waiting, live, unchanging, stale, frozen, paused or unavailable */
  #state(now) {
    if (this.trouble) return "unavailable";
    if (this.info.muted) return "paused";
    if (this.#quality?.state === "paused") return this.#quality.cause === "line" ? "thin" : "off";
    const freshness = this.#watch.freshness;
    const state = freshness.state(now);
    if (state === "live" && this.#stands(now)) return "unchanging";
    // What the server does not get cannot be live here, whatever is still being played out.
    if (state === "live" && this.told === "stale") return "stale";
    const hidden = now - this.#shownSince < freshness.threshold;
    return hidden && this.told !== "stale" && (state === "stale" || state === "frozen") ? "live" : state;
  }

  /** The picture has shown the same for so long, or since it is seen here when the server says so of the time before. */
  #stands(now) {
    const change = this.#change;
    if (!change?.changed) return false;
    return now - change.changed > (this.told === "unchanging" && change.changes === 1 ? 0 : this.#unchangedMs);
  }

  #words(state, now) {
    switch (state) {
      case "waiting":
        return "Waiting for the picture";
      case "stale":
      case "frozen":
        return `STALE · last picture ${age(this.#watch.freshness.since(now))} ago`;
      case "unchanging":
        return "Picture not changing";
      case "paused":
        return "Paused by the sender";
      case "thin":
        return "Paused: your line is too thin";
      case "off":
        return "Paused here";
      case "below":
        return "Below its floor";
      case "unavailable":
        return this.trouble;
      default:
        return "";
    }
  }

  /** @param {string} name @returns {any} */
  #part(name) {
    return this.#strip.querySelector(`.${name}`);
  }
}
