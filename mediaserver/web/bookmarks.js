/** The bookmarks of a recording: seen by everybody who may see it, kept beside it. */

import { of } from "./archive-client.js";
import { moment } from "./timeline.js";
import { element, notify, relabel, write } from "./ui.js";

export class Bookmarks {
  #client;
  #view;
  #path;
  #list = element("ul", { class: "jumps" });
  #count = element("span", { class: "count" }, "0");
  #form;
  #at = 0;

  /**
   * @param {import("./archive-client.js").ArchiveClient} client
   * @param {import("./recording.js").RecordingView} view
   */
  constructor(client, view) {
    this.#client = client;
    this.#view = view;
    this.#path = of(view.recording.id, "bookmarks");
    this.#form = this.#makeForm();
    this.root = element("details", { class: "panel bookmarks", open: true }, element("summary", {}, "Bookmarks ", this.#count), this.#form, this.#list);
    this.#load();
  }

  /** Asks what to call this moment. */
  begin() {
    this.#view.player.toggle(false);
    this.#at = Math.round(this.#view.player.position);
    this.root.open = true;
    this.#form.hidden = false;
    write(this.#form.querySelector("time"), moment(this.#at));
    this.#form.elements.text.value = "";
    this.#form.elements.text.focus();
  }

  #makeForm() {
    const text = element("input", { name: "text", maxlength: 256, placeholder: "What is seen here", "aria-label": "Bookmark" });
    const keep = element("button", { class: "primary" }, "Keep");
    const form = element("form", { class: "bookmark-form", autocomplete: "off", hidden: true }, element("time"), text, keep);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      form.hidden = true;
      this.#change(this.#path, { method: "POST", body: { at_ms: this.#at, text: text.value.trim() } });
      this.#view.root.querySelector("#bookmark")?.focus();
    });
    form.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      form.hidden = true;
      this.#view.root.querySelector("#bookmark")?.focus();
    });
    return form;
  }

  async #change(path, options) {
    try {
      await this.#client.ask(path, options);
      await this.#load();
    } catch (error) {
      notify(`The bookmarks could not be changed: ${error.message}`, "alarm");
    }
  }

  async #load() {
    try {
      const { bookmarks } = await this.#client.ask(this.#path);
      this.#show(bookmarks);
    } catch (error) {
      notify(`The bookmarks can't be read: ${error.message}`, "alarm");
    }
  }

  #show(bookmarks) {
    write(this.#count, String(bookmarks.length));
    this.#view.bar.mark(bookmarks);
    this.#list.replaceChildren(...bookmarks.map((bookmark) => this.#row(bookmark)));
  }

  #row({ id, at_ms: at, text, by }) {
    const words = text || "Without a name";
    const jump = element("button", { class: "plain jump", title: by ? `Set by ${by}` : "" }, element("time", {}, moment(at)), element("span", {}, words));
    jump.addEventListener("click", () => this.#view.player.seek(at));
    const remove = element("button", { class: "plain", "aria-label": `Remove the bookmark ${words}` });
    relabel(remove, "remove", "");
    remove.addEventListener("click", () => this.#change(`${this.#path}/${encodeURIComponent(id)}`, { method: "DELETE" }));
    return element("li", { "data-bookmark": id }, jump, remove);
  }
}
