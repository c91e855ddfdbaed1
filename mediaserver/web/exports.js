/** The dialog that takes a recording along: begin an export, see how it comes on, fetch or stop it. */

import { of } from "./archive-client.js";
import { byteSize, element, relabel, write } from "./ui.js";

const LOOK_EVERY_MS = 700;
const KINDS = {
  mkv: "MKV: all tracks in one file, every codec",
  mp4: "MP4: all tracks in one file, not for VP8",
  zip: "ZIP: all its files, with a page that verifies them",
};
const STATES = { queued: "Waits for its turn", running: "Is made", done: "Ready", failed: "Failed" };

export class ExportDialog {
  #client;
  #id;
  #timer = 0;
  #rows = element("ul", { class: "jobs", "aria-live": "polite" });
  #error = element("p", { class: "fault", role: "alert" });

  /** @param {import("./archive-client.js").ArchiveClient} client @param {{ id: string }} recording */
  constructor(client, { id }) {
    this.#client = client;
    this.#id = id;
    const choices = Object.entries(KINDS).map(([kind, words], index) =>
      element("label", { class: "choice" }, element("input", { type: "radio", name: "kind", value: kind, checked: index === 0 }), element("span", {}, words)),
    );
    const begin = element("button", { class: "primary" });
    relabel(begin, "download", "Begin export");
    const close = element("button", { type: "button" }, "Close");
    close.addEventListener("click", () => this.root.close());
    this.form = element("form", { class: "form" }, element("fieldset", {}, element("legend", {}, "Format"), ...choices), element("div", { class: "buttons" }, begin, close));
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#begin(String(new FormData(this.form).get("kind")));
    });
    const hint = element("p", { class: "hint" }, "Nothing is transcoded. A result stays for an hour.");
    this.root = element("dialog", { class: "help exports", "aria-labelledby": "export-title" }, element("h2", { id: "export-title" }, "Export"), hint, this.form, this.#error, this.#rows);
    this.root.addEventListener("close", () => clearTimeout(this.#timer));
  }

  open() {
    this.root.showModal();
    this.#look();
  }

  close() {
    clearTimeout(this.#timer);
    this.root.remove();
  }

  async #begin(kind) {
    await this.#try(() => this.#client.ask(of(this.#id, "exports"), { method: "POST", body: { kind } }));
    await this.#look();
  }

  async #look() {
    clearTimeout(this.#timer);
    const found = await this.#try(() => this.#client.ask(of(this.#id, "exports")), false);
    if (!found) return;
    this.#show(found.exports);
    if (this.root.open && found.exports.some(({ state }) => state === "queued" || state === "running")) {
      this.#timer = setTimeout(() => this.#look(), LOOK_EVERY_MS);
    }
  }

  async #try(act, clear = true) {
    try {
      const answer = await act();
      if (clear) write(this.#error, "");
      return answer;
    } catch (error) {
      write(this.#error, error.message);
      return null;
    }
  }

  /** Rows stay where they are, so that the focus does. */
  #show(jobs) {
    const rows = new Map([...this.#rows.children].map((row) => [/** @type {HTMLElement} */ (row).dataset.job, row]));
    for (const job of jobs) {
      const known = rows.get(job.id);
      rows.delete(job.id);
      if (known?.dataset.state === job.state) this.#update(known, job);
      else if (known) known.replaceWith(this.#row(job));
      else this.#rows.append(this.#row(job));
    }
    for (const gone of rows.values()) gone.remove();
  }

  #row(job) {
    const path = of(this.#id, "exports", job.id);
    const remove = element("button", { class: "plain" }, job.state === "done" || job.state === "failed" ? "Remove" : "Cancel");
    remove.addEventListener("click", async () => {
      await this.#try(() => this.#client.ask(path, { method: "DELETE" }));
      await this.#look();
    });
    const fetched = element("a", { class: "button primary", download: "", href: this.#client.address(`${path}/result`), hidden: job.state !== "done" });
    relabel(fetched, "download", `Save ${byteSize(job.bytes)}`);
    const bar = element("progress", { max: 1, value: 0, "aria-label": `Export to ${job.kind.toUpperCase()}`, hidden: job.state === "failed" || job.state === "done" });
    const row = element(
      "li",
      { "data-job": job.id, "data-state": job.state },
      element("strong", {}, job.kind.toUpperCase()),
      element("span", { class: "state" }),
      bar,
      fetched,
      remove,
      job.sha256 ? element("small", { class: "digest" }, `SHA-256 ${job.sha256}`) : null,
      job.warnings.length > 0 ? element("ul", { class: "warnings" }, ...job.warnings.map((words) => element("li", {}, words))) : null,
    );
    this.#update(row, job);
    return row;
  }

  #update(row, job) {
    const words = job.state === "running" ? `${Math.floor(100 * job.progress)} %` : STATES[job.state];
    write(row.querySelector(".state"), job.error ? `${words}: ${job.error}` : words);
    row.querySelector("progress").value = job.progress;
  }
}
