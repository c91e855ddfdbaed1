/** One recording on the archive's page: its player with all that belongs to it. */

import { of } from "./archive-client.js";
import { Bookmarks } from "./bookmarks.js";
import { ExportDialog } from "./exports.js";
import { Keeping } from "./keeping.js";
import { Player, SPEEDS } from "./player.js";
import { TimelineBar, describe, moment } from "./timeline.js";
import { profile } from "./sources.js";
import * as ui from "./ui.js";

const { element, relabel, write } = ui;
const STEP_MS = 5000;
/** Of a recording with more spells than this, the list shows the first. */
const MOST_SPELLS = 200;
const STATES = { recording: "being recorded", recovered: "recovered after a crash" };

const SAID = { given: "agreed", refused: "refused", withdrawn: "withdrew" };
const RULES = {
  required: "Everybody who sent was recorded.",
  consent: "Who had agreed was recorded.",
  forbidden: "Nobody was to be recorded.",
};
const AFTERWARDS = {
  keep: "What was recorded before a withdrawal was kept.",
  erase: "What was recorded before a withdrawal was erased.",
};

const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

export class RecordingView {
  #client;
  #verdict = element("p", { class: "verdict", role: "status", hidden: true });
  #now = element("time", {}, moment(0));
  #speed;

  /**
   * @param {import("./archive-client.js").ArchiveClient} client
   * @param {any} recording as the archive describes it
   * @param {any} timeline
   * @param {() => void} leave goes back to the list
   */
  constructor(client, recording, timeline, leave) {
    this.#client = client;
    this.recording = recording;
    this.timeline = timeline;
    const track = (one, what) => of(recording.id, "tracks", one.id, what);
    this.player = new Player(timeline, {
      media: (one, { n }) => client.address(track(one, "media"), { segment: n }),
      still: (one, at) => client.address(track(one, "thumbnail"), { at, width: 1280 }),
    });
    this.bar = new TimelineBar(timeline, this.player);
    this.exports = new ExportDialog(client, recording);
    this.bookmarks = new Bookmarks(client, this);
    this.keeping = new Keeping(client, recording);
    this.root = element("div", { class: "replay" }, this.#head(leave), this.#verdict, this.#body(), this.#deck(), this.exports.root);
    this.player.addEventListener("position", () => this.#show());
    this.player.addEventListener("change", () => this.#showState());
    this.player.addEventListener("focus", () => this.#showFocus());
    this.#showFocus();
    this.#showState();
  }

  close() {
    this.player.close();
    this.exports.close();
    this.root.remove();
  }

  /** Shortcuts of the player. */
  keys() {
    const { player } = this;
    return {
      toggle: () => player.toggle(),
      back: () => player.step(-STEP_MS),
      on: () => player.step(STEP_MS),
      frameBack: () => player.stepFrame(-1),
      frameOn: () => player.stepFrame(1),
      slower: () => player.changeSpeed(-1),
      faster: () => player.changeSpeed(1),
      large: (number) => player.pictures[number - 1] && player.focus(player.pictures[number - 1]),
      snapshot: () => this.#snapshot(),
      bookmark: () => this.bookmarks.begin(),
      export: () => this.exports.open(),
    };
  }

  #head(leave) {
    const { recording } = this;
    const back = element("button", { id: "back" });
    relabel(back, "back", "Results");
    back.addEventListener("click", leave);
    const verify = element("button", { id: "verify" });
    relabel(verify, "check", "Verify");
    verify.addEventListener("click", () => this.#verify(verify));
    const take = element("button", { id: "export" });
    relabel(take, "download", "Export");
    take.addEventListener("click", () => this.exports.open());
    const about = [day.format(new Date(recording.started)), ui.duration(recording.duration_ms), STATES[recording.state], recording.id];
    const title = element("div", { class: "title" }, element("h2", {}, recording.room), element("p", { class: "hint" }, about.filter(Boolean).join(" · ")));
    return element("header", {}, back, title, this.keeping.sign, verify, take);
  }

  #body() {
    const { player } = this;
    const figures = player.pictures.map(({ root }) => root);
    this.screens = element("div", { class: "screens", style: `--others:${Math.max(1, figures.length - 1)}` }, ...figures);
    this.screens.classList.toggle("single", figures.length < 2);
    if (!figures.length) this.screens.append(element("p", { class: "empty" }, "No pictures in this recording"));
    const sounds = element("ul", { class: "sounds" }, ...player.sounds.map(({ root }) => root));
    const side = element(
      "aside",
      { class: "side", "aria-label": "About this recording" },
      player.sounds.length ? element("section", { class: "panel" }, element("h2", {}, "Sound"), sounds) : null,
      this.bookmarks.root,
      this.#spells(),
      this.#consents(),
      this.#tracks(),
      this.keeping.root,
    );
    return element("div", { class: "replay-body" }, this.screens, side);
  }

  /** What is drawn on the timeline, in words, and the way there. */
  #spells() {
    const { marks, omitted, report } = this.timeline;
    const names = new Map(this.player.lanes.map(({ track, title }) => [track.id, title]));
    const rows = marks.slice(0, MOST_SPELLS).map((mark) => {
      const button = element(
        "button",
        { class: "plain jump", "data-mark": mark.kind },
        element("time", {}, moment(mark.offset_ms)),
        element("span", {}, `${names.get(mark.track)}. ${describe(mark)}, ${ui.age(mark.duration_ms)}`),
      );
      button.addEventListener("click", () => this.player.seek(mark.offset_ms));
      return element("li", {}, button);
    });
    const more = omitted + Math.max(0, marks.length - MOST_SPELLS);
    const none = report ? "Nothing is missing, and no viewer fell below a floor." : "Nothing is missing. There is no report of this session, so what viewers saw is not known.";
    const hint = more ? `${more} more are on the timeline.` : marks.length ? "" : none;
    const heading = element("summary", {}, "What is missing ", element("span", { class: "count" }, String(marks.length + omitted)));
    return element("details", { class: "panel", open: marks.length > 0 }, heading, element("ul", { class: "jumps" }, ...rows), hint ? element("p", { class: "hint" }, hint) : null);
  }

  /** Whose tracks could go in, and what its participants said to that. */
  #consents() {
    const { consent_rules: rules, consents } = this.recording;
    if (!rules?.length && !consents?.length) return null;
    const said = consents.map((one) => {
      const who = one.name || one.participant;
      const sources = one.sources.length ? ` for ${one.sources.map((source) => profile(source).title).join(", ")}` : "";
      const by = [one.by === "application" ? "told by its application" : one.by === "archive" ? "written down later" : "", one.witness];
      const about = [`${who} ${SAID[one.state] ?? one.state}${sources}`, one.version && `text ${one.version}`, ...by, one.note].filter(Boolean).join(", ");
      const at = Math.min(Math.max(0, one.offset_ms), this.player.length);
      const button = element("button", { class: "plain jump", "data-consent": one.state }, element("time", { datetime: one.at }, one.offset_ms < 0 ? "before" : moment(at)), element("span", {}, about));
      button.addEventListener("click", () => this.player.seek(at));
      return element("li", {}, button);
    });
    const texts = rules.map((rule) =>
      element("p", { class: "hint" }, `${moment(Math.max(0, rule.offset_ms))} ${RULES[rule.whose] ?? rule.whose} ${AFTERWARDS[rule.withdrawal] ?? ""} Shown was text ${rule.version}: “${rule.text}”`),
    );
    const heading = element("summary", {}, "Consent ", element("span", { class: "count" }, String(consents.length)));
    return element("details", { class: "panel consents" }, heading, element("ul", { class: "jumps" }, ...said), ...texts);
  }

  #tracks() {
    const gaps = (id) => this.timeline.marks.filter((mark) => mark.kind === "gap" && mark.track === id).length;
    const rows = this.player.lanes.map(({ track, title }) =>
      element(
        "tr",
        {},
        ...[title, track.codec, ui.pictureSize(track.width, track.height), ui.byteSize(track.bytes), `${track.segments.length} / ${gaps(track.id)}`].map(
          (cell) => element("td", {}, cell),
        ),
      ),
    );
    const heads = ["Source", "Codec", "Size", "Bytes", "Files / gaps"].map((name) => element("th", { scope: "col" }, name));
    const table = element("table", {}, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows));
    return element("details", { class: "panel" }, element("summary", {}, "Tracks"), element("div", { class: "scroll" }, table));
  }

  #deck() {
    const { player } = this;
    const button = (id, icon, words, run, attributes = {}) => {
      const made = element("button", { id, ...attributes });
      relabel(made, icon, words);
      made.addEventListener("click", run);
      return made;
    };
    this.button = button("play", "play", "Play", () => player.toggle(), { class: "primary" });
    this.#speed = element("select", { "aria-label": "Speed" }, ...SPEEDS.map((speed) => element("option", { value: speed }, `${speed}×`)));
    this.#speed.addEventListener("change", () => player.setSpeed(Number(this.#speed.value)));
    const small = { class: "quiet" };
    const transport = element(
      "div",
      { class: "transport", role: "group", "aria-label": "Player" },
      this.button,
      button("frame-back", "frame-back", "Frame", () => player.stepFrame(-1), { ...small, "aria-label": "One frame back" }),
      button("frame-on", "frame-on", "Frame", () => player.stepFrame(1), { ...small, "aria-label": "One frame on" }),
      this.#now,
      element("span", { class: "hint" }, `of ${moment(player.length)}`),
      (this.state = element("span", { class: "hint loading", role: "status" })),
      this.#speed,
      button("snapshot", "snapshot", "Snapshot", () => this.#snapshot(), small),
      button("bookmark", "bookmark", "Bookmark", () => this.bookmarks.begin(), small),
    );
    return element("div", { class: "deck" }, transport, this.bar.root);
  }

  #show() {
    write(this.#now, moment(this.player.position));
    this.bar.show();
  }

  #showState() {
    const { playing, waiting, loading, speed } = this.player;
    const words = playing ? "Pause" : "Play";
    if (this.button.textContent !== words) relabel(this.button, playing ? "pause" : "play", words);
    this.#speed.value = String(speed);
    this.root.dataset.state = playing ? (waiting ? "waiting" : "playing") : "paused";
    write(this.state, loading ? "Loading" : "");
  }

  #showFocus() {
    for (const lane of this.player.pictures) {
      const large = lane === this.player.focused;
      lane.root.classList.toggle("focused", large);
      lane.choose.setAttribute("aria-pressed", String(large));
    }
  }

  async #verify(button) {
    const verdict = this.#verdict;
    button.disabled = true;
    verdict.hidden = false;
    verdict.className = "verdict";
    write(verdict, "Verifying: every byte is read and compared with the manifest.");
    try {
      const result = await this.#client.ask(of(this.recording.id, "verify"), { method: "POST" });
      const good = `Verified: all ${ui.byteSize(result.bytes)} in ${result.files} files are as they were recorded.`;
      const problems = result.problems.map(({ name, detail }) => element("li", {}, `${name}: ${detail}`));
      verdict.className = `verdict ${result.ok ? "good" : "bad"}`;
      verdict.replaceChildren(result.ok ? good : "Not as it was recorded:", ...(result.ok ? [] : [element("ul", {}, ...problems)]));
    } catch (error) {
      verdict.className = "verdict bad";
      write(verdict, `It could not be verified: ${error.message}`);
    } finally {
      button.disabled = false;
    }
  }

  async #snapshot() {
    const picture = await this.player.snapshot();
    if (!picture) return void ui.notify("There is no picture to keep here.", "alarm");
    const at = new Date(Date.parse(this.recording.started) + this.player.position);
    const name = [this.recording.room, this.player.focused?.track.source, at.toISOString().replace(/:/g, "-")].join("_");
    const link = element("a", { href: URL.createObjectURL(picture), download: `${name}.png` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }
}
