/**
 * What a page shows of consent: the question whether one may be recorded, one's own state with the way back, and the
 * marks that tell who and what is recorded. Everything is reached by keyboard; no key press meant for something else agrees.
 */

import { profile } from "./sources.js";
import { element, notify, write } from "./ui.js";

/** @typedef {import("./client.js").MediaClient} MediaClient */
/** @typedef {import("./protocol.d.ts").Source} Source */

const STATES = { given: "agreed", asked: "not answered", refused: "refused", withdrawn: "withdrawn", unasked: "not asked" };
const WORDS = { on: "REC", starting: "REC starts", off: "not recorded" };
const AFTERWARDS = {
  keep: "When you withdraw, what was recorded until then is kept.",
  erase: "When you withdraw, what was recorded of you until then is erased.",
};

/** @param {string[]} sources */
const titles = (sources) => sources.map((source) => profile(source).title).join(", ");

/** Whether anything goes into a recording now. @param {{ state: string }} recording */
const runs = ({ state }) => state !== "off";

/**
 * How a track stands: on, starting (it goes in, and nothing is on the disk yet), off (it is left out of a recording that
 * runs), or "" while nothing is recorded.
 * @param {MediaClient} client @param {string | null} track
 * @returns {"on" | "starting" | "off" | ""}
 */
export function recordedState({ recording }, track) {
  if (!runs(recording)) return "";
  if (track === null || !recording.tracks.includes(track)) return "off";
  return recording.state === "starting" ? "starting" : "on";
}

/** A mark for `recordedState`, by words and form as much as by colour. */
export function recordedMark() {
  return element("span", { class: "rec", hidden: true });
}

/** @param {any} mark @param {ReturnType<typeof recordedState>} state */
export function showMark(mark, state) {
  mark.hidden = state === "";
  mark.dataset.recorded = state;
  write(mark, WORDS[state] ?? "");
}

/**
 * What stands beside a participant in a list: REC, of what where that is not all it sends, or why it is not recorded.
 * @param {MediaClient} client @param {import("./protocol.d.ts").ParticipantView} participant
 * @returns {HTMLElement | null}
 */
export function participantMark(client, { id, name, consent = "unasked" }) {
  const { whose } = client.recording;
  const sent = [...client.tracks.values()].filter((track) => track.participant === id);
  for (const state of /** @type {const} */ (["on", "starting"])) {
    const taken = sent.filter((track) => recordedState(client, track.id) === state);
    const some = taken.length < sent.length ? `: ${titles(taken.map(({ source }) => source))}` : "";
    if (taken.length) return element("span", { class: some ? "rec some" : "rec", "data-recorded": state }, WORDS[state] + some);
  }
  if (whose !== "consent" || consent === "unasked") return null;
  const words = STATES[consent];
  const mark = element("span", { class: "rec", "data-recorded": "off", "data-consent": consent }, words);
  const again = consent === "refused" || consent === "withdrawn";
  if (!again || !client.may("record") || id === client.participant) return mark;
  const ask = element("button", { class: "plain ask", "aria-label": `Ask ${name || "this participant"} again` }, "Ask again");
  ask.addEventListener("click", () => client.askConsent(id).catch((error) => notify(error.message, "alarm")));
  return element("span", { class: "rec-group" }, mark, ask);
}

/** The question and one's own state, in a strip under the head of a page. */
export class ConsentStrip {
  #client;
  #stopSending;
  #asked = false;
  /** the version of the notice that was seen here */
  #seen = "";
  #title = element("h2", { id: "consent-title", tabindex: -1 });
  #text = element("p", { id: "consent-text" });
  #choose = element("summary", {}, "Choose what");
  #boxes = element("fieldset", {}, element("legend", {}, "These may be recorded"));
  #choice = element("details", { class: "choice" }, this.#choose, this.#boxes);
  #sources;
  #yes = element("button", { class: "primary" });
  #no = element("button", {});

  /**
   * @param {MediaClient} client
   * @param {() => Promise<any>} stopSending called before a refusal where everybody who sends is recorded
   * @param {readonly Source[]} sources what the page can send, to choose from
   */
  constructor(client, stopSending, sources) {
    this.#client = client;
    this.#stopSending = stopSending;
    this.#sources = sources;
    for (const source of sources) {
      const box = element("input", { type: "checkbox", name: source, checked: true, onchange: () => this.show() });
      this.#boxes.append(element("label", {}, box, profile(source).title));
    }
    this.#choice.addEventListener("toggle", () => this.#opened());
    const buttons = element("div", { class: "answers" }, this.#yes, this.#no);
    this.root = element(
      "section",
      { id: "consent", class: "consent", "aria-labelledby": "consent-title", "aria-describedby": "consent-text", hidden: true },
      element("div", { class: "words" }, this.#title, this.#text),
      buttons,
      this.#choice,
    );
    this.#yes.addEventListener("click", () => this.#answer(true));
    this.#no.addEventListener("click", () => this.#answer(false));
    client.addEventListener("consent-asked", () => this.#ask());
    client.addEventListener("consent", ({ detail: { participant, consent } }) => {
      if (participant === client.participant && consent === "given") this.#asked = false;
    });
    for (const name of ["joined", "resumed", "recording", "consent", "closed"]) client.addEventListener(name, () => this.show());
  }

  #ask() {
    this.#asked = true;
    this.show();
    this.#title.focus(); // on the words, so that a key that was on its way answers nothing
  }

  /** Brings it in line with what the server has said. */
  show() {
    const client = this.#client;
    const { whose } = client.recording;
    const open = client.state !== "closed" && client.joined !== null && client.may("publish");
    if (!open || whose === "forbidden") return this.#hide();
    if (whose === "required") return this.#showNotice();
    if (client.consent === "asked") this.#asked = true;
    if (this.#asked) this.#fill("question", "May you be recorded?", this.#terms("text"), this.#some() ? "Yes, record these" : "Yes, record me", "No");
    else if (client.consent === "given") this.#fill("state", this.#now(), this.#only(), this.#choice.open ? "Record these" : "", "Withdraw");
    else if (client.consent !== "unasked") this.#fill("state", "You are not recorded.", "", "Agree to be recorded", "");
    else this.#hide();
    return undefined;
  }

  /** What was agreed to is ticked, or everything. */
  #opened() {
    const { consent, consentSources } = this.#client;
    const ticked = (consent === "given" && consentSources) || this.#sources;
    for (const source of this.#sources) this.#boxes.elements[source].checked = ticked.includes(source);
    this.show();
  }

  /** Those that are chosen, null for all. @returns {Source[] | null} */
  #some() {
    if (!this.#choice.open) return null;
    const chosen = this.#sources.filter((source) => this.#boxes.elements[source].checked);
    return chosen.length === this.#sources.length ? null : chosen;
  }

  #only() {
    const { consentSources } = this.#client;
    return consentSources ? `Only this of you may be recorded: ${titles(consentSources)}.` : "";
  }

  #now() {
    const recorded = [...this.#client.publications].some(({ id }) => ["on", "starting"].includes(recordedState(this.#client, id)));
    return recorded ? "You are recorded now." : "You have agreed to be recorded.";
  }

  #showNotice() {
    const { consent, recording, terms } = this.#client;
    const refused = consent === "refused" || consent === "withdrawn";
    if (refused) this.#fill("state", "You are not recorded, and may not send here.", "", "Allow it", "");
    else if (runs(recording) && this.#seen !== terms?.version && consent !== "given") {
      this.#fill("notice", "Everybody who sends is recorded", this.#terms("notice"), "Understood", "Do not record me");
    } else this.#hide();
  }

  #terms(which) {
    const { terms } = this.#client;
    return terms ? `${terms[which]} ${AFTERWARDS[terms.withdrawal]}` : "";
  }

  #fill(kind, title, text, yes, no) {
    this.root.hidden = false;
    this.root.dataset.kind = kind;
    write(this.#title, title);
    write(this.#text, text);
    for (const [button, words] of /** @type {[any, string][]} */ ([[this.#yes, yes], [this.#no, no]])) {
      write(button, words);
      button.hidden = words === "";
    }
    const open = kind === "question" || (kind === "state" && no !== "");
    this.#choice.hidden = !open || this.#client.recording.whose !== "consent" || this.#sources.length < 2;
    this.#yes.disabled = !this.#choice.hidden && this.#some()?.length === 0;
  }

  #hide() {
    this.root.hidden = true;
  }

  async #answer(given) {
    const client = this.#client;
    // Whoever wants to agree after a refusal reads first what to.
    const { kind } = this.root.dataset;
    if (given && kind === "state" && client.consent !== "given" && client.recording.whose === "consent") return this.#ask();
    const sources = given && client.recording.whose === "consent" ? this.#some() : null;
    this.#yes.disabled = this.#no.disabled = true;
    try {
      if (!given && client.recording.whose === "required") await this.#stopSending();
      await client.giveConsent(given, undefined, sources);
      this.#asked = this.#choice.open = false;
      if (given) this.#seen = client.terms?.version ?? "";
    } catch (error) {
      notify(`The server did not take your answer: ${error.message}`, "alarm");
    } finally {
      this.#yes.disabled = this.#no.disabled = false;
      this.show();
    }
    return undefined;
  }
}
