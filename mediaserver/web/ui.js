/** What the pages share: elements, parameters, keyboard, messages, and how figures are written. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * @param {string} tag
 * @param {Record<string, any>} [attributes] `class`, `on<event>` listeners, booleans, and plain attributes
 * @param {...(Node | string | null | undefined)} children
 * @returns {any} the element
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (typeof value === "boolean") made.toggleAttribute(name, value);
    else if (value != null) made.setAttribute(name, String(value));
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

/** An icon of `icons.svg`; decoration only, so the button needs its own words. */
export function icon(name) {
  const made = document.createElementNS(SVG, "svg");
  made.setAttribute("class", "icon");
  made.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", new URL(`icons.svg#${name}`, import.meta.url).href);
  made.append(use);
  return made;
}

/** Changes the icon and the words of a button that has both. */
export function relabel(button, iconName, words) {
  button.replaceChildren(icon(iconName), element("span", {}, words));
}

/** @param {string} id @returns {any} */
export const byId = (id) => document.getElementById(id);

/** Writes a text only where it differs, so that nothing is laid out anew without need. */
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Room and token of this page's address: `?room=R#token=T`. The token may stand in the query too; in the fragment it
 * stays out of logs and referrers. `simulcast` is for the cart's page alone: `1`, or sources with commas between them.
 * @returns {{ room: string, token: string, name: string, simulcast: string }}
 */
export function parameters() {
  const query = new URLSearchParams(location.search);
  const fragment = new URLSearchParams(location.hash.slice(1));
  const get = (name) => fragment.get(name) ?? query.get(name) ?? "";
  return { room: get("room"), token: get("token"), name: get("name"), simulcast: get("simulcast") };
}

/** Marks who speaks in the list of people. @param {string | null} participant */
export function showSpeaker(participant) {
  for (const row of /** @type {any} */ (byId("people").children)) {
    const speaks = row.dataset.participant === participant;
    row.classList.toggle("speaking", speaks);
    if (speaks) row.title = "Speaks";
    else row.removeAttribute("title");
  }
}

/** The address of a page with a room and a token. @param {string} page @param {{room?: string, token: string, name?: string, simulcast?: string}} to */
export function pageAddress(page, { room, token, name, simulcast }) {
  const address = new URL(page, location.href);
  address.search = new URLSearchParams({ ...(room && { room }), ...(simulcast && { simulcast }) }).toString();
  address.hash = new URLSearchParams({ ...(name && { name }), token }).toString();
  return address.href;
}

/** Fills the links of a page's head with the room and token that this page has. */
export function carryOver() {
  const { room, token } = parameters();
  for (const link of /** @type {NodeListOf<HTMLAnchorElement>} */ (document.querySelectorAll("a[data-page]"))) {
    link.href = token ? pageAddress(link.dataset.page ?? "", { room, token }) : (link.dataset.page ?? "");
  }
}

/**
 * Shows a form for what the address lacks, and resolves with it. The address is brought up to date, so that a reload
 * needs no form.
 * @param {HTMLFormElement} form with inputs named `room` and `token`, and maybe `name`
 * @param {boolean} needsRoom
 * @returns {Promise<{ room: string, token: string, name: string, simulcast: string }>}
 */
export async function entrance(form, needsRoom = true) {
  const given = parameters();
  if (given.token && (given.room || !needsRoom)) return given;
  form.hidden = false;
  const input = (name) => /** @type {HTMLInputElement | null} */ (form.elements.namedItem(name));
  for (const name of ["room", "token", "name"]) {
    const field = input(name);
    if (field) field.value = given[name];
  }
  (given.room || !needsRoom ? input("token") : input("room"))?.focus();
  await new Promise((resolve) => {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      resolve(undefined);
    });
  });
  form.hidden = true;
  const entered = {
    room: input("room")?.value.trim() ?? "",
    token: input("token")?.value.trim() ?? "",
    name: input("name")?.value.trim() ?? "",
    simulcast: given.simulcast,
  };
  history.replaceState(null, "", pageAddress(location.pathname, entered));
  carryOver();
  return entered;
}

/** A message in the corner; alarms stay until they are dismissed. @param {string} text @param {"note" | "alarm"} kind */
export function notify(text, kind = "note") {
  let shelf = byId("messages");
  if (!shelf) {
    shelf = element("div", { id: "messages", role: "log", "aria-label": "Messages" });
    document.body.append(shelf);
  }
  const message = element("div", { class: `message ${kind}`, role: kind === "alarm" ? "alert" : "status" }, text);
  const dismiss = element("button", { class: "plain", "aria-label": "Dismiss this message" }, "×");
  dismiss.addEventListener("click", () => message.remove());
  message.append(dismiss);
  shelf.append(message);
  if (kind === "note") setTimeout(() => message.remove(), 6000);
}

/**
 * Shortcuts of one key each; `?` lists them. Keys do nothing while something is being typed.
 * @param {{ keys: string, does: string, run: (key: string) => void, shown?: string }[]} shortcuts `shown`: how the list names the keys
 */
export function keyboard(shortcuts) {
  const rows = [...shortcuts, { shown: "?", keys: "?", does: "This list" }].map(({ shown, keys, does }) =>
    element("div", {}, element("dt", {}, element("kbd", {}, shown ?? keys.toUpperCase())), element("dd", {}, does)),
  );
  const close = element("button", { class: "primary", autofocus: true }, "Close");
  const dialog = element(
    "dialog",
    { class: "help", "aria-labelledby": "help-title" },
    element("h2", { id: "help-title" }, "Keyboard"),
    element("dl", {}, ...rows),
    close,
  );
  close.addEventListener("click", () => dialog.close());
  document.body.append(dialog);
  byId("help")?.addEventListener("click", () => dialog.showModal());
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || dialog.open) return;
    const target = /** @type {HTMLElement} */ (event.target);
    if (target.closest("input:not([type=range]):not([type=checkbox]), select, textarea")) return;
    if (event.key === "?") return void dialog.showModal();
    const match = shortcuts.find(({ keys }) => keys.includes(event.key.toLowerCase()));
    // The space bar presses the button that has the focus, so it is no shortcut there.
    if (!match || (event.key === " " && target.closest("button, a, summary, input"))) return;
    event.preventDefault();
    match.run(event.key.toLowerCase());
  });
}

/** The line under the head that says what is wrong with the connection; empty text hides it. */
export function banner(text, kind = "warn") {
  const line = byId("banner");
  line.hidden = !text;
  line.className = `banner ${kind}`;
  write(line, text);
}

/**
 * Shows the state of the room's recording in the head.
 * @param {{state: string, detail?: string, whose?: string, tracks?: string[]}} recording
 */
export function showRecording({ state, detail, whose, tracks }) {
  const sign = byId("recording");
  const nobody = whose === "consent" && !tracks?.length && (state === "starting" || state === "on");
  sign.dataset.state = nobody ? "starting" : state;
  sign.title = detail ?? "";
  const words = { off: "Not recording", starting: "Recording starts", on: "Recording", alarm: "Recording in trouble" };
  write(sign, nobody ? "Recording nobody yet: no consent" : (words[state] ?? state));
}

/** Shows the state of the connection in the head. */
export function showConnection(state, words) {
  const sign = byId("connection");
  sign.dataset.state = state;
  write(sign, words);
}

/** Says that the server lets nobody more in for now. @param {{message: string, seconds: number}} waiting */
export function showWaiting({ message, seconds }) {
  showConnection("warn", "Waiting to be let in");
  const text = `${message.charAt(0).toUpperCase()}${message.slice(1)}.`;
  banner(`${text} This page tries again by itself every ${Math.round(seconds)} s.`, "alarm");
}

let mediaCameOnce = false;

/**
 * Says plainly what is lost: the signalling, the media, or both.
 * @param {import("./client.js").MediaClient} client
 * @param {{ noMedia: string, noServer: string }} texts for the banner
 */
export function showClient({ state, transport }, { noMedia, noServer }) {
  mediaCameOnce ||= transport === "connected";
  if (transport === "disconnected" || transport === "failed") {
    showConnection("lost", "Connection lost");
    banner(noMedia, "alarm");
  } else if (state === "reconnecting") {
    showConnection("warn", "Reconnecting");
    banner(noServer);
  } else if (transport === "connecting") {
    showConnection("warn", "Connecting");
    banner(mediaCameOnce ? noMedia : "", "alarm");
  } else {
    showConnection("good", "Connected");
    banner("");
  }
}

/** Why there are no devices here, or "" where there may be some. */
export function whyNoDevices() {
  if (navigator.mediaDevices) return "";
  return "Browsers give cameras and microphones to secure pages only: open this page by https:// or on localhost.";
}

// -- figures -----------------------------------------------------------------------------------------------------

const NONE = "–";

/** @param {number | null | undefined} ms */
export function age(ms) {
  if (ms == null) return NONE;
  if (ms < 995) return `${Math.round(ms)} ms`;
  return ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : duration(ms);
}

/** @param {number | null | undefined} bits per second */
export function bitrate(bits) {
  if (bits == null) return NONE;
  return bits < 999_500 ? `${Math.round(bits / 1000)} kbit/s` : `${(bits / 1e6).toFixed(1)} Mbit/s`;
}

/** @param {number | null | undefined} share of 1 */
export function percent(share) {
  return share == null ? NONE : `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;
}

/** @param {number | null | undefined} frames per second */
export function frameRate(frames) {
  return frames == null ? NONE : `${Math.round(frames)} fps`;
}

/** @param {number | null | undefined} width @param {number | null | undefined} height */
export function pictureSize(width, height) {
  return width && height ? `${width}×${height}` : NONE;
}

/** @param {number | null | undefined} ms */
export function milliseconds(ms) {
  return ms == null ? NONE : `${ms < 9.95 ? ms.toFixed(1) : Math.round(ms)} ms`;
}

/** @param {number} ms as h:mm:ss or m:ss */
export function duration(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const two = (value) => String(value).padStart(2, "0");
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  return hours ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}

/** @param {number} bytes */
export function byteSize(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  let value = bytes;
  for (; value >= 1000 && unit < units.length - 1; unit++) value /= 1000;
  return `${value < 10 && unit ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}
