/** What goes when its time is over, and who opened a recording in an emergency: two dialogs of the archive's page. */

import { of } from "./archive-client.js";
import { byteSize, element, write } from "./ui.js";

const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "short", timeStyle: "short" });
const at = (text) => moment.format(new Date(text));
const STATES = { due: "Due", review: "To be reviewed", kept: "Kept", disposed: "Gone", failed: "Failed" };

/** A dialog with a title, a line for what goes wrong, and a button that closes it. */
class Sheet {
  error = element("p", { class: "fault", role: "alert" });
  body = element("div", { class: "sheet" });

  constructor(id, title, hint) {
    const close = element("button", { type: "button" }, "Close");
    close.addEventListener("click", () => this.root.close());
    this.root = element(
      "dialog",
      { class: "help oversight", "aria-labelledby": `${id}-title` },
      element("h2", { id: `${id}-title` }, title),
      element("p", { class: "hint" }, hint),
      this.error,
      this.body,
      element("div", { class: "buttons" }, close),
    );
    document.body.append(this.root);
  }

  async attempt(act) {
    try {
      write(this.error, "");
      return await act();
    } catch (error) {
      write(this.error, error.message);
      return null;
    }
  }
}

/** The classes, what is due and what keeps it; for operators the button that disposes. */
export class RetentionSheet extends Sheet {
  #client;

  /** @param {import("./archive-client.js").ArchiveClient} client */
  constructor(client) {
    super("retention", "Retention", "What is over its time by its class. A hold, a lock of the bucket and a running export keep it.");
    this.#client = client;
  }

  async open() {
    this.root.showModal();
    const found = await this.attempt(() => this.#client.ask("retention"));
    if (!found) return;
    const classes = found.classes.map(({ name, days, at_end: end, recordings }) =>
      element("li", {}, element("strong", {}, name || "No class"), ` ${days < 0 ? "kept" : `${days} days, then ${end}`}: ${recordings}`),
    );
    const reason = element("input", { name: "reason", maxlength: 256, required: true, placeholder: "Why it goes", "aria-label": "Reason of the disposal" });
    const form = element("form", { class: "hold-form", autocomplete: "off", hidden: !found.due.some(({ state }) => state === "due") }, reason, element("button", { class: "danger" }, "Dispose of what is due"));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const order = { reason: reason.value.trim(), dry_run: false };
      const report = await this.attempt(() => this.#client.ask("disposals", { method: "POST", body: order }));
      if (report) this.body.replaceChildren(element("p", { role: "status" }, `${report.counts.disposed ?? 0} recordings are gone, ${byteSize(report.bytes)} are free.`), this.#cases(report.cases));
    });
    this.body.replaceChildren(element("ul", { class: "classes" }, ...classes), form, this.#cases(found.due));
  }

  #cases(cases) {
    if (!cases.length) return element("p", { class: "empty" }, "Nothing is over its time.");
    const rows = cases.map(({ recording, room, ended, retention, state, reason, bytes }) =>
      element(
        "tr",
        { "data-case": recording, "data-state": state },
        ...[room, day.format(new Date(ended)), retention, STATES[state], reason, byteSize(bytes)].map((cell) => element("td", {}, cell)),
      ),
    );
    const heads = ["Room", "Ended", "Class", "State", "Why", "Size"].map((name) => element("th", { scope: "col" }, name));
    return element("div", { class: "scroll" }, element("table", {}, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows)));
  }
}

/** Open a recording that the token does not reach; for archivists also who did, to be reviewed. */
export class GlassSheet extends Sheet {
  #client;
  #opened;
  #list = element("ul", { class: "holds openings" });

  /** @param {import("./archive-client.js").ArchiveClient} client @param {(id: string) => void} opened shows a recording */
  constructor(client, opened) {
    super("glass", "Emergency access", "For a patient who may come to harm otherwise. It is open to you alone, for a while; it raises an alert, and somebody will ask you about it.");
    this.#client = client;
    this.#opened = opened;
    const id = element("input", { name: "recording", maxlength: 64, required: true, placeholder: "Recording", "aria-label": "Recording" });
    const reason = element("textarea", { name: "reason", maxlength: 256, required: true, rows: 2, placeholder: "Why it must be opened", "aria-label": "Reason of the access" });
    const form = element("form", { class: "form", autocomplete: "off" }, id, reason, element("div", { class: "buttons" }, element("button", { class: "danger" }, "Break the glass")));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const body = { reason: reason.value.trim() };
      if (!(await this.attempt(() => this.#client.ask(of(id.value.trim(), "break-glass"), { method: "POST", body })))) return;
      this.root.close();
      reason.value = "";
      this.#opened(id.value.trim());
    });
    this.field = id;
    this.body.replaceChildren(form, this.#list);
  }

  /** @param {string} [id] the recording that could not be opened */
  open(id = "") {
    if (id) this.field.value = id;
    this.root.showModal();
    this.#load();
  }

  async #load() {
    // Who may not see the list has the form alone.
    const found = await this.#client.ask("break-glass").catch(() => ({ opened: [] }));
    this.#list.replaceChildren(...found.opened.map((one) => this.#row(one)));
  }

  #row({ id, recording, who, role, reason, opened, reviewed, reviewed_by: by, note }) {
    const words = element("span", {}, `${who} (${role}) opened ${recording}, ${at(opened)}: ${reason}`);
    if (reviewed) return element("li", { class: "lifted" }, words, element("span", {}, `Reviewed by ${by}, ${at(reviewed)}${note ? `: ${note}` : ""}`));
    const field = element("input", { maxlength: 256, placeholder: "What was found", "aria-label": `Finding on ${recording}` });
    const review = element("button", {}, "Reviewed");
    review.addEventListener("click", async () => {
      const path = ["break-glass", id, "review"].map(encodeURIComponent).join("/");
      if (await this.attempt(() => this.#client.ask(path, { method: "POST", body: { note: field.value.trim() } }))) await this.#load();
    });
    return element("li", { "data-opening": id }, words, field, review);
  }
}
