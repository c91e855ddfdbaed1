/** The archive's page: find a recording, play it, verify it, take a copy. */

import { Player } from "./player.js";
import { SOURCES, profile } from "./sources.js";
import * as ui from "./ui.js";

const { byId, element, icon, relabel } = ui;
const PAGE = 20;
const STATES = { complete: "", recording: "being recorded", recovered: "recovered after a crash" };

let token = "";
let offset = 0;
let total = 0;
let counted = "";
let more = false;
/** @type {Player | null} */
let player = null;

/** @param {string} path below the archive's API @param {RequestInit} [options] */
async function ask(path, options = {}) {
  const response = await fetch(`api/archive/${path}`, { ...options, headers: { Authorization: `Bearer ${token}` } });
  if (response.status === 401 || response.status === 403) throw new Error("This token does not open the archive.");
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.detail ?? answer.title ?? `the server answered ${response.status}`);
  return answer;
}

/** Media elements and downloads can't carry a header, so the token goes into the address. */
const address = (path, query = {}) => `api/archive/${path}?${new URLSearchParams({ ...query, token })}`;

const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

// -- searching ---------------------------------------------------------------------------------------------------

function query() {
  const form = /** @type {HTMLFormElement} */ (byId("search"));
  const values = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (value) values.set(name, String(value));
  // A day given as the end is meant to its last second, and both in the time of this page.
  const { from, to } = Object.fromEntries(values);
  if (from) values.set("from", new Date(`${from}T00:00:00`).toISOString());
  if (to) values.set("to", new Date(`${to}T23:59:59.999`).toISOString());
  values.set("limit", String(PAGE));
  values.set("offset", String(offset));
  return values;
}

async function search() {
  try {
    const found = await ask(`recordings?${query()}`);
    ui.banner("");
    total = found.total;
    counted = found.at_least ? `more than ${total}` : String(total);
    more = found.cursor !== "";
    list(found.recordings);
  } catch (error) {
    ui.banner(error.message, "alarm");
  }
}

function list(recordings) {
  ui.write(byId("count"), total === 0 ? "Nothing found." : total === 1 ? "1 recording" : `${counted} recordings`);
  byId("recordings").replaceChildren(...recordings.map(row));
  byId("pages").hidden = total <= PAGE;
  byId("earlier").disabled = offset === 0;
  byId("later").disabled = !more;
  ui.write(byId("page"), `${offset + 1} – ${more ? offset + PAGE : Math.max(offset, total)} of ${counted}`);
}

function row(recording) {
  const sources = [...new Set(recording.tracks.map(({ source }) => profile(source).title))];
  const state = STATES[recording.state] ?? recording.state;
  const button = element(
    "button",
    { "data-recording": recording.id },
    element("strong", {}, recording.room),
    element("span", { class: "length" }, ui.duration(recording.duration_ms)),
    element("span", { class: "what" }, sources.join(", ")),
    element("span", { class: "when" }, day.format(new Date(recording.started))),
    state ? element("span", { class: "what" }, state) : null,
  );
  button.addEventListener("click", () => show(recording.id));
  return element("li", {}, button);
}

// -- one recording -----------------------------------------------------------------------------------------------

async function show(id) {
  for (const button of document.querySelectorAll("#recordings button")) {
    button.setAttribute("aria-current", String(/** @type {HTMLElement} */ (button).dataset.recording === id));
  }
  try {
    const recording = await ask(`recordings/${encodeURIComponent(id)}`);
    player?.close();
    const path = `recordings/${encodeURIComponent(id)}`;
    player = new Player(recording, (track, { n }) =>
      address(`${path}/tracks/${encodeURIComponent(track.id)}/media`, { segment: n }),
    );
    byId("player").replaceChildren(head(recording), player.root, details(recording));
  } catch (error) {
    ui.notify(`The recording can't be opened: ${error.message}`, "alarm");
  }
}

function head(recording) {
  const verdict = element("p", { class: "verdict", role: "status", hidden: true });
  const verify = element("button", { id: "verify" });
  relabel(verify, "check", "Verify");
  verify.addEventListener("click", () => check(recording.id, verify, verdict));
  const href = address(`recordings/${encodeURIComponent(recording.id)}/export`, { format: "mkv" });
  const download = element("a", { class: "button", download: "", id: "export", href });
  relabel(download, "download", "Export MKV");
  const title = element(
    "div",
    {},
    element("h2", {}, recording.room),
    element("p", { class: "hint" }, `${day.format(new Date(recording.started))} · ${ui.duration(recording.duration_ms)} · ${recording.id}`),
  );
  return element("div", { class: "player" }, element("header", {}, title, verify, download), verdict);
}

async function check(id, button, verdict) {
  button.disabled = true;
  verdict.hidden = false;
  verdict.className = "verdict";
  ui.write(verdict, "Verifying: every byte is read and compared with the manifest.");
  try {
    const result = await ask(`recordings/${encodeURIComponent(id)}/verify`, { method: "POST" });
    const problems = result.problems.map(({ name, detail }) => `${name}: ${detail}`).join("; ");
    verdict.className = `verdict ${result.ok ? "good" : "bad"}`;
    ui.write(verdict, result.ok ? "Verified: every byte is as it was recorded." : `Not as recorded: ${problems}`);
  } catch (error) {
    verdict.className = "verdict bad";
    ui.write(verdict, `It could not be verified: ${error.message}`);
  } finally {
    button.disabled = false;
  }
}

function details(recording) {
  const rows = recording.tracks.map((track) =>
    element(
      "tr",
      {},
      ...[
        profile(track.source).title,
        track.label || track.participant || "",
        track.codec,
        ui.pictureSize(track.width, track.height),
        ui.duration(track.duration_ms),
        ui.byteSize(track.bytes),
        String(track.gaps.length),
      ].map((cell) => element("td", {}, cell)),
    ),
  );
  const heads = ["Source", "Label", "Codec", "Size", "Length", "Bytes", "Gaps"].map((name) => element("th", { scope: "col" }, name));
  return element("div", { class: "scroll" }, element("table", {}, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows)));
}

// -- starting ----------------------------------------------------------------------------------------------------

function decorate() {
  ui.carryOver();
  byId("help").replaceChildren(icon("keys"));
  byId("help").setAttribute("aria-label", "Keyboard");
  const form = /** @type {HTMLFormElement} */ (byId("search"));
  const choice = /** @type {HTMLSelectElement} */ (form.elements.namedItem("source"));
  choice.append(...Object.entries(SOURCES).map(([source, { title }]) => element("option", { value: source }, title)));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    offset = 0;
    search();
  });
  const turn = (by) => {
    offset = Math.max(0, offset + by);
    search();
  };
  byId("earlier").addEventListener("click", () => turn(-PAGE));
  byId("later").addEventListener("click", () => turn(PAGE));
  ui.keyboard([
    { keys: " k", shown: "Space, K", does: "Play or pause", run: () => player?.toggle() },
    { keys: "j", does: "Five seconds back", run: () => player?.step(-Player.STEP_MS) },
    { keys: "l", does: "Five seconds on", run: () => player?.step(Player.STEP_MS) },
    { keys: ",", does: "One frame back (at 30 fps)", run: () => player?.step(-1000 / 30) },
    { keys: ".", does: "One frame on (at 30 fps)", run: () => player?.step(1000 / 30) },
    { keys: "/", does: "Search", run: () => /** @type {HTMLInputElement} */ (form.elements.namedItem("text")).focus() },
  ]);
}

async function start() {
  decorate();
  const entered = await ui.entrance(byId("entrance"), false);
  token = entered.token;
  byId("archive").hidden = false;
  const form = /** @type {HTMLFormElement} */ (byId("search"));
  if (entered.room) /** @type {HTMLInputElement} */ (form.elements.namedItem("room")).value = entered.room;
  await search();
}

await start();
