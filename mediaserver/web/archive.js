/** The archive's page: find a recording, and open it. */

import { ArchiveClient, of } from "./archive-client.js";
import { GlassSheet, RetentionSheet } from "./oversight.js";
import { RecordingView } from "./recording.js";
import { SOURCES, profile } from "./sources.js";
import * as ui from "./ui.js";

const { byId, element, icon } = ui;
const PAGE = 30;
const STATES = { recording: "Being recorded", recovered: "Recovered after a crash" };

/** @type {ArchiveClient} */
let client;
/** @type {GlassSheet} */
let glass;
/** Where the next page of results begins; empty when there is none. */
let cursor = "";
/** @type {RecordingView | null} */
let view = null;
/** Which search is the last: answers to earlier ones are dropped. */
let asked = 0;

const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const form = /** @type {HTMLFormElement} */ (byId("search"));
const field = (name) => /** @type {HTMLInputElement} */ (form.elements.namedItem(name));

// -- searching ---------------------------------------------------------------------------------------------------

function query() {
  const values = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (String(value).trim()) values.set(name, String(value).trim());
  // A day given as the end is meant to its last second, and both in the time of this page.
  const { from, to } = Object.fromEntries(values);
  if (from) values.set("from", new Date(`${from}T00:00:00`).toISOString());
  if (to) values.set("to", new Date(`${to}T23:59:59.999`).toISOString());
  values.set("limit", String(PAGE));
  return values;
}

async function search(more = false) {
  const mine = (asked += 1);
  byId("more").disabled = true;
  try {
    const values = query();
    if (more) values.set("cursor", cursor);
    const found = await client.ask(`recordings?${values}`);
    if (mine === asked) list(found, more);
    ui.banner("");
  } catch (error) {
    if (mine === asked) ui.banner(error.message, "alarm");
  } finally {
    byId("more").disabled = false;
  }
}

function list({ total, recordings, at_least: atLeast, cursor: next }, more) {
  const rows = recordings.map(row);
  if (more) byId("recordings").append(...rows);
  else byId("recordings").replaceChildren(...rows);
  cursor = next;
  ui.write(byId("count"), total === 0 ? "Nothing found." : total === 1 ? "1 recording" : `${atLeast ? "More than " : ""}${total} recordings`);
  byId("more").hidden = !next;
  // Who asked for more by keyboard goes on where the new ones begin.
  if (more && rows.length) rows[0].querySelector("button")?.focus();
}

function row(recording) {
  const { id, room, started, duration_ms: length, state, tracks, identifiers, held } = recording;
  const sources = [...new Set(tracks.map(({ source }) => profile(source).title))];
  const gaps = tracks.reduce((sum, track) => sum + track.gaps, 0);
  const signs = [
    state !== "complete" && element("span", { class: `sign-${state}` }, STATES[state] ?? state),
    held && element("span", { class: "sign-held" }, "On hold"),
    gaps > 0 && element("span", { class: "sign-gaps" }, gaps === 1 ? "1 gap" : `${gaps} gaps`),
  ].filter(Boolean);
  const button = element(
    "button",
    { "data-recording": id },
    element("span", { class: "thumb" }, thumbnail(recording) ?? icon("sound")),
    element(
      "span",
      { class: "facts" },
      element("strong", {}, room),
      identifiers ? element("span", { class: "whom" }, [identifiers.patient_name, identifiers.patient_id, identifiers.accession].filter(Boolean).join(" · ")) : null,
      element("span", { class: "when" }, day.format(new Date(started))),
      element("span", { class: "what" }, sources.join(", ")),
      element("span", { class: "signs" }, ...signs),
    ),
    element("span", { class: "length" }, ui.duration(length)),
  );
  button.addEventListener("click", () => show(id));
  return element("li", {}, button);
}

/** A picture from the middle of what is looked at first; null where there is none. */
function thumbnail({ id, state, duration_ms: length, tracks }) {
  const pictures = tracks.filter(({ kind, segments }) => kind === "video" && segments > 0);
  const [track] = pictures.sort((one, two) => profile(one.source).rank - profile(two.source).rank);
  if (!track || state === "recording") return null;
  const address = client.address(of(id, "tracks", track.id, "thumbnail"), { at: Math.round(length / 2), width: 320 });
  const image = element("img", { loading: "lazy", alt: "", src: address });
  image.addEventListener("error", () => image.replaceWith(icon("archive")));
  return image;
}

// -- one recording -----------------------------------------------------------------------------------------------

async function show(id) {
  try {
    const [recording, timeline] = await Promise.all([client.ask(of(id)), client.ask(of(id, "timeline.json"))]);
    if (recording.state === "recording") return void ui.notify("This recording goes on. It can be played once it is closed.");
    view?.close();
    view = new RecordingView(client, recording, timeline, leave);
    byId("player").replaceChildren(view.root);
    swap(true);
    view.root.querySelector("#play")?.focus({ preventScroll: true });
    document.title = `${recording.room} – Archive`;
  } catch (error) {
    glass.field.value = id;
    ui.notify(`The recording can't be opened: ${error.message}`, "alarm");
  }
}

/** Back to the list, to the recording that was open. */
function leave() {
  if (!view) return;
  const { id } = view.recording;
  view.close();
  view = null;
  swap(false);
  document.title = "Archive";
  /** @type {HTMLElement | null} */ (document.querySelector(`#recordings button[data-recording="${CSS.escape(id)}"]`))?.focus();
}

function swap(playing) {
  byId("player").hidden = !playing;
  byId("found").hidden = playing;
  byId("archive").classList.toggle("playing", playing);
}

// -- starting ----------------------------------------------------------------------------------------------------

function keys() {
  /** @type {(name: string) => (key: string) => void} */
  const play = (name) => (key) => view?.keys()[name]?.(Number(key));
  ui.keyboard([
    { keys: " k", shown: "Space, K", does: "Play or pause", run: play("toggle") },
    { keys: "j", does: "Five seconds back", run: play("back") },
    { keys: "l", does: "Five seconds on", run: play("on") },
    { keys: ",", does: "One frame back, of the large picture", run: play("frameBack") },
    { keys: ".", does: "One frame on, of the large picture", run: play("frameOn") },
    { keys: "[", does: "Slower", run: play("slower") },
    { keys: "]", does: "Faster", run: play("faster") },
    { keys: "123456789", shown: "1 – 9", does: "Make that picture large", run: play("large") },
    { keys: "b", does: "Set a bookmark", run: play("bookmark") },
    { keys: "s", does: "Keep the large picture as PNG", run: play("snapshot") },
    { keys: "e", does: "Export", run: play("export") },
    { keys: "q", does: "Back to the results", run: leave },
    {
      keys: "/",
      does: "Search",
      run: () => {
        leave();
        field("text").focus();
      },
    },
  ]);
}

function decorate() {
  ui.carryOver();
  byId("help").replaceChildren(icon("keys"));
  byId("help").setAttribute("aria-label", "Keyboard");
  const choice = /** @type {any} */ (field("source"));
  choice.append(...Object.entries(SOURCES).map(([source, { title }]) => element("option", { value: source }, title)));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    search();
  });
  form.addEventListener("reset", () => setTimeout(search));
  byId("more").addEventListener("click", () => search(true));
  byId("recordings").addEventListener("keydown", walk);
  keys();
}

/** The arrow keys go through the list. @param {KeyboardEvent} event */
function walk(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  const rows = /** @type {HTMLElement[]} */ ([...document.querySelectorAll("#recordings button")]);
  const next = rows[rows.indexOf(/** @type {any} */ (document.activeElement)) + step];
  if (!next) return;
  event.preventDefault();
  next.focus();
}

async function start() {
  decorate();
  const entered = await ui.entrance(byId("entrance"), false);
  client = new ArchiveClient(entered.token);
  glass = new GlassSheet(client, show);
  const sheets = { retention: new RetentionSheet(client), glass };
  for (const [name, sheet] of Object.entries(sheets)) {
    byId(name).hidden = false;
    byId(name).addEventListener("click", () => sheet.open());
  }
  byId("archive").hidden = false;
  if (entered.room) field("room").value = entered.room;
  await search();
}

await start();
