/** What keeps a recording from being disposed of, and who has looked at it. For archivists; others see that it is held. */

import { of } from "./archive-client.js";
import { element, notify, write } from "./ui.js";

const ACTIONS = { show: "opened it", play: "played it", export: "exported it", fetch: "took an export" };
const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "short", timeStyle: "short" });
const at = (text) => moment.format(new Date(text));

export class Keeping {
  /** Stands in the head while a hold does. */
  sign = element("span", { class: "pill held", hidden: true }, "On hold");
  #client;
  #path;
  #list = element("ul", { class: "holds" });
  #looks = element("ul", { class: "holds accesses" });
  #retention = element("p", { class: "hint retention" });

  /** @param {import("./archive-client.js").ArchiveClient} client @param {{ id: string }} recording */
  constructor(client, { id }) {
    this.#client = client;
    this.#path = (...below) => of(id, ...below);
    const reason = element("input", { name: "reason", maxlength: 256, required: true, placeholder: "Why it must be kept", "aria-label": "Reason of a hold" });
    const form = element("form", { class: "hold-form", autocomplete: "off" }, reason, element("button", {}, "Place hold"));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      await this.#change(this.#path("holds"), { method: "POST", body: { reason: reason.value.trim() } });
      reason.value = "";
    });
    const looks = element("details", { class: "panel" }, element("summary", {}, "Who has looked"), this.#looks);
    looks.addEventListener("toggle", () => looks.open && this.#showLooks());
    const holds = element("details", { class: "panel" }, element("summary", {}, "Holds"), form, this.#list);
    const kept = element("details", { class: "panel" }, element("summary", {}, "How long it is kept"), this.#retention, this.#retainForm(), this.#eraseForm());
    kept.addEventListener("toggle", () => kept.open && this.#showRetention());
    this.root = element("div", { class: "strip" }, holds, kept, looks);
    this.#load();
  }

  async #change(path, options) {
    try {
      await this.#client.ask(path, options);
      await this.#load();
    } catch (error) {
      notify(`The holds could not be changed: ${error.message}`, "alarm");
    }
  }

  async #load() {
    try {
      const { holds } = await this.#client.ask(this.#path("holds"));
      this.sign.hidden = !holds.some(({ lifted }) => lifted === null);
      this.#list.replaceChildren(...holds.map((hold) => this.#row(hold)));
    } catch (error) {
      notify(`The holds can't be read: ${error.message}`, "alarm");
    }
  }

  #row({ id, reason, by, placed, lifted, lifted_by: liftedBy }) {
    const words = `${reason} (${by}, ${at(placed)})`;
    if (lifted) return element("li", { class: "lifted" }, `${words}, lifted by ${liftedBy}, ${at(lifted)}`);
    const lift = element("button", { "aria-label": `Lift the hold: ${reason}` }, "Lift");
    lift.addEventListener("click", () => this.#change(this.#path("holds", id), { method: "DELETE" }));
    return element("li", {}, element("span", {}, words), lift);
  }

  /** Two words and a button; what it does is asked of the server with both. */
  #form(label, words, ask) {
    const first = label && element("input", { maxlength: 64, required: true, placeholder: label, "aria-label": label });
    const reason = element("input", { maxlength: 256, required: true, placeholder: "Why", "aria-label": `Why: ${words}` });
    const form = element("form", { class: "hold-form", autocomplete: "off" }, ...[first, reason, element("button", {}, words)].filter(Boolean));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      try {
        await ask(reason.value.trim(), first ? first.value.trim() : "");
        form.reset();
        await this.#showRetention();
      } catch (error) {
        notify(error.message, "alarm");
      }
    });
    return form;
  }

  #retainForm() {
    return this.#form("Class", "Change the class", (reason, name) => this.#client.ask(this.#path("retention"), { method: "PUT", body: { class: name, reason } }));
  }

  /** It can't be taken back, so it is asked for once more. */
  #eraseForm() {
    return this.#form("", "Destroy its key", async (reason) => {
      if (!confirm("Nobody will ever be able to play this recording again. Destroy its key?")) return;
      await this.#client.ask(this.#path("erasure"), { method: "POST", body: { reason } });
      notify("The key is destroyed.");
    });
  }

  async #showRetention() {
    try {
      const { class: name, by, reason, since } = await this.#client.ask(this.#path("retention"));
      write(this.#retention, name ? `${name} (${by}, ${at(since)})${reason ? `: ${reason}` : ""}` : "It was given no class; the server's rules count.");
    } catch (error) {
      write(this.#retention, error.message);
    }
  }

  async #showLooks() {
    try {
      const { accesses } = await this.#client.ask(this.#path("accesses"));
      const rows = accesses.map(({ who, action, last, times }) =>
        element("li", {}, element("span", {}, `${who} ${ACTIONS[action] ?? action}${times > 1 ? `, ${times} times` : ""}`), element("time", {}, at(last))),
      );
      this.#looks.replaceChildren(...(rows.length ? rows : [element("li", {}, "Nobody yet.")]));
    } catch (error) {
      this.#looks.replaceChildren(element("li", {}));
      write(/** @type {any} */ (this.#looks.firstChild), error.message);
    }
  }
}
