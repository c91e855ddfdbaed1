/** One track of a recording: its files one after the other, and what shows them on the page. */

import { Clip } from "./clip.js";
import { profile } from "./sources.js";
import { element, icon, pictureSize, write } from "./ui.js";

/** Pictures of a track that can't be played here are asked for this far apart (ms). */
const STILL_EVERY_MS = 2000;

export class Lane {
  /** Where its picture or its sound is: a figure or a row. @type {any} */
  root;
  #shows = "";
  #current = null;
  #screen = element("div", { class: "screen" });
  #sign = element("p", { class: "none" });
  #caption = element("span", { class: "about" });
  #address;
  #still = "";
  #muted = false;
  #volume = 1;

  /**
   * @param {any} track of the timeline
   * @param {{ media: (track: any, segment: any) => string, still: (track: any, at: number) => string }} address
   */
  constructor(track, address) {
    this.track = track;
    this.title = profile(track.source).title;
    this.#address = address;
    this.clips = track.segments.map(
      (segment) => new Clip(segment, address.media(track, segment), track.kind, (media) => this.#adopt(media)),
    );
    this.end = Math.max(0, ...this.clips.map(({ end }) => end));
    // Where one file runs a little into the next, the next counts.
    this.clips.forEach((clip, index) => (clip.end = Math.min(clip.end, this.clips[index + 1]?.begin ?? clip.end)));
    this.root = track.kind === "video" ? this.#figure() : this.#row();
  }

  /** The file that covers a position, played or not. */
  at(position) {
    return this.clips.find((clip) => clip.covers(position)) ?? null;
  }

  waits(position) {
    return this.at(position)?.waits(position) ?? false;
  }

  seek(position) {
    for (const clip of this.clips) clip.seek(position);
  }

  /** Begins to play what covers a position: its offset once it moves, undefined until then, null where nothing can. */
  begin(position, speed) {
    const clip = this.at(position);
    return clip ? clip.begun(position, speed) : null;
  }

  /** How far (ms) what plays is behind a position. */
  behind(position) {
    return this.at(position)?.behind(position) ?? 0;
  }

  /** How far (ms) what plays is ahead of a position; null where nothing plays. */
  leads(position) {
    return this.at(position)?.leads(position) ?? null;
  }

  /** Something of it has begun to play and is not steady yet. */
  get settling() {
    return this.clips.some(({ settling }) => settling);
  }

  follow(position, run, speed) {
    for (const clip of this.clips) clip.follow(position, run, speed);
    this.show(position);
  }

  /** Marks the element that is seen, and says why there is none. */
  show(position) {
    const clip = this.at(position);
    const words = !clip ? "Nothing recorded here" : clip.usable ? "" : this.#why(clip);
    const shows = `${clip?.segment.n ?? ""} ${words}`;
    if (clip !== this.#current || shows !== this.#shows) {
      [this.#current, this.#shows] = [clip, shows];
      this.root.classList.toggle("outside", words !== "");
      this.root.classList.toggle("unplayable", clip !== null && !clip.usable);
      write(this.#sign, words);
      if (clip) write(this.#caption, this.#about(clip.segment));
    }
    for (const one of this.clips) one.media?.classList.toggle("current", one === clip);
    if (clip && !clip.usable && this.track.kind === "video") this.#showStill(position);
  }

  /** The picture that is shown, in its own size; null when there is none. */
  picture() {
    const media = this.#current?.media;
    return media?.videoWidth && media.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA ? media : null;
  }

  mute(muted = !this.#muted) {
    this.#muted = muted;
    for (const { media } of this.clips) if (media) media.muted = muted;
  }

  get muted() {
    return this.#muted;
  }

  close() {
    for (const clip of this.clips) clip.release();
  }

  #adopt(media) {
    media.setAttribute("aria-label", this.title);
    media.muted = this.#muted;
    media.volume = this.#volume;
    media.preservesPitch = true;
    this.#screen.append(media);
  }

  #why(clip) {
    if (clip.failed) return "This file can't be played. Verify the recording to see whether it was altered.";
    return `This browser can't play ${this.track.codec}. Open the recording in another browser, or export it.`;
  }

  #about(segment) {
    return [this.track.label, this.track.name, pictureSize(segment.width, segment.height)]
      .filter((text, index, all) => text && text !== "–" && all.indexOf(text) === index)
      .join(" · ");
  }

  /** Of a codec that this browser lacks, the keyframes are shown as the server decodes them. */
  #showStill(position) {
    const at = Math.floor(position / STILL_EVERY_MS) * STILL_EVERY_MS;
    const address = this.#address.still(this.track, Math.max(0, Math.round(at)));
    if (address === this.#still) return;
    this.#still = address;
    let image = this.#screen.querySelector("img");
    if (!image) {
      image = element("img", { class: "still", alt: `${this.title}: a keyframe near this moment` });
      this.#screen.append(image);
    }
    image.src = address;
  }

  #figure() {
    const { track } = this;
    this.choose = element("button", { class: "choose", "aria-label": `Show ${this.title} large` });
    const caption = element("figcaption", {}, element("strong", {}, this.title), this.#caption, element("span", { class: "codec" }, track.codec));
    return element("figure", { class: "replayed", "data-track": track.id, "data-source": track.source }, this.#screen, this.#sign, caption, this.choose);
  }

  #row() {
    const { track, title } = this;
    const button = element("button", { class: "plain", "aria-pressed": "true", "aria-label": `Sound of ${title}` }, icon("sound"));
    button.addEventListener("click", () => {
      this.mute();
      button.replaceChildren(icon(this.#muted ? "sound-off" : "sound"));
      button.setAttribute("aria-pressed", String(!this.#muted));
    });
    const volume = element("input", { type: "range", min: 0, max: 1, step: 0.05, value: 1, "aria-label": `Volume of ${title}` });
    volume.addEventListener("input", () => {
      this.#volume = Number(volume.value);
      for (const { media } of this.clips) if (media) media.volume = this.#volume;
    });
    const name = element("span", { class: "name" }, title, element("small", {}, track.name || track.label));
    this.#sign.className = "none sound-sign";
    return element("li", { "data-track": track.id, "data-source": track.source }, button, name, volume, this.#sign, this.#screen);
  }
}
