/** The viewer's page: all tracks of a room, the examination large, the rest beside it. */

import { Attention } from "./attention.js";
import { MediaClient } from "./client.js";
import { ConsentStrip, participantMark, recordedState } from "./consent.js";
import { Sounds } from "./sound.js";
import { profile } from "./sources.js";
import { Tile } from "./tile.js";
import * as ui from "./ui.js";

const { byId, element, icon, relabel } = ui;
/** Often enough that STALE stands on the screen within 500 ms of the last frame. */
const JUDGE_EVERY_MS = 50;
const DESCRIBE_EVERY_MS = 250;
const STATS_EVERY_MS = 1000;

/** @type {Map<string, Tile>} by track */
const tiles = new Map();
const sounds = new Sounds();
/** @type {MediaClient} */
let client;
/** @type {Attention} */
let attention;
let chosen = /** @type {string | null} */ (null);
let voice = /** @type {import("./client.js").Publication | null} */ (null);

// -- pictures ----------------------------------------------------------------------------------------------------

const ownerOf = (info) => client.participants.get(info.participant)?.name ?? "";
const ordered = () => [...tiles.values()].sort((one, two) => profile(one.info.source).rank - profile(two.info.source).rank);

/** Puts the chosen picture, or the clinically first one, on the stage and the rest into the strip. */
function arrange() {
  const order = ordered();
  const large = (chosen !== null && tiles.get(chosen)) || order[0];
  const [stage, strip] = [byId("stage"), byId("strip")];
  for (const tile of order) {
    // Moving a video element pauses it, so only what has to move is moved.
    const place = tile === large ? stage : strip;
    if (tile.root.parentElement !== place) {
      place.append(tile.root);
      tile.video.play().catch(() => {});
    }
  }
  order.filter((tile) => tile !== large).forEach((tile, index) => tile.root.style.setProperty("order", String(index)));
  byId("empty").hidden = order.length > 0;
  document.body.classList.toggle("single", order.length < 2);
}

function choose(tile) {
  chosen = tile.info.id;
  attention.choose(chosen);
  arrange();
}

function addTile(info) {
  const tile = new Tile(info, ownerOf(info), client.joined?.budgets?.[info.source], choose, client);
  tiles.set(info.id, tile);
  tile.allow(client.qualities.get(info.id) ?? null);
  tile.record(recordedState(client, info.id));
  arrange();
  attention.watch(tile);
  return tile;
}

function onTrackAdded({ detail: { track } }) {
  if (track.participant !== client.participant && track.kind === "video") addTile(track);
}

function onMedia({ detail: { info, track, receiver } }) {
  if (info.kind === "audio") {
    sounds.add(info, ownerOf(info), track, receiver, client);
    sounds.record((id) => recordedState(client, id));
  } else (tiles.get(info.id) ?? addTile(info)).show(track);
}

function onTrackChanged({ detail: { track } }) {
  tiles.get(track.id)?.update(track, ownerOf(track));
  sounds.update(track, ownerOf(track));
}

function onQuality({ detail: { quality } }) {
  tiles.get(quality.track)?.allow(quality);
}

function onTrackRemoved({ detail: { track } }) {
  const tile = tiles.get(track.id);
  if (tile) attention.forget(tile);
  tile?.remove();
  tiles.delete(track.id);
  sounds.remove(track.id);
  if (chosen === track.id) {
    chosen = null;
    attention.choose(null);
  }
  arrange();
}

function onUnavailable({ detail: { info } }) {
  const tile = tiles.get(info.id);
  if (tile) tile.trouble = `This browser can't show this picture${info.codec ? ` (${info.codec})` : ""}`;
  else ui.notify(`This browser can't play the sound of ${profile(info.source).title}.`, "alarm");
}

// -- people and state ---------------------------------------------------------------------------------------------

function listPeople() {
  const rows = [...client.participants.values()].map(({ id, name, role }) =>
    element(
      "li",
      { "data-participant": id },
      element("span", { class: "name" }, name || role, id === client.participant ? element("small", {}, "you") : null),
      participantMark(client, client.participants.get(id) ?? { id, name, role }),
      element("span", { class: `role ${role}` }, role),
    ),
  );
  byId("people").replaceChildren(...rows);
  ui.showSpeaker(client.speaker);
  for (const tile of tiles.values()) tile.update(tile.info, ownerOf(tile.info));
  const cart = [...client.participants.values()].some(({ role }) => role === "cart");
  ui.write(byId("empty"), cart ? "The cart is here and sends no picture yet." : "Waiting for the cart to join.");
}

const showState = () =>
  ui.showClient(client, {
    noMedia: "The media connection is lost. What you see is not live. Trying to come back.",
    noServer: "The server can't be reached. Pictures that still move are live; talking and recording wait. Trying to come back.",
  });

function onClosed({ detail: { code, message } }) {
  ui.showConnection("lost", "Disconnected");
  if (code === "left") ui.banner("You have left the consultation. Reload the page to come back.", "warn");
  else ui.banner(`Disconnected: ${message}. What you see is not live. Reload the page to try again.`, "alarm");
  for (const id of ["talk", "record", "leave"]) byId(id).disabled = true;
}

/** Who and what is recorded now. */
function showRecorded() {
  for (const [id, tile] of tiles) tile.record(recordedState(client, id));
  sounds.record((id) => recordedState(client, id));
  listPeople();
}

function onRecording({ detail }) {
  ui.showRecording(detail);
  showRecorded();
  const running = detail.state !== "off";
  byId("record").setAttribute("aria-pressed", String(running));
  relabel(byId("record"), running ? "stop" : "record", running ? "Stop recording" : "Record");
  if (detail.state === "alarm") ui.notify(`Recording in trouble. ${detail.detail ?? ""}`, "alarm");
}

// -- what the viewer does -------------------------------------------------------------------------------------------

function showSound() {
  byId("sound").setAttribute("aria-pressed", String(sounds.on && !sounds.blocked));
  relabel(byId("sound"), sounds.on && !sounds.blocked ? "sound" : "sound-off", sounds.on && !sounds.blocked ? "Sound on" : "Sound off");
  byId("unlock").hidden = !sounds.blocked;
}

function showVoice() {
  const talking = voice !== null && !voice.muted;
  byId("talk").setAttribute("aria-pressed", String(talking));
  relabel(byId("talk"), talking ? "mic" : "mic-off", talking ? "Talking" : "Talk");
}

/** The first press opens the microphone; later ones mute and unmute it. */
async function talk() {
  const button = byId("talk");
  if (button.hidden || button.disabled) return;
  const obstacle = ui.whyNoDevices();
  if (obstacle) return void ui.notify(obstacle, "alarm");
  button.disabled = true;
  try {
    if (voice) {
      await voice.mute(!voice.muted);
    } else {
      const stream = await navigator.mediaDevices.getUserMedia({ audio: profile("microphone").constraints });
      voice = await client.publish(stream.getAudioTracks()[0], { source: "microphone" });
    }
  } catch (error) {
    ui.notify(`The microphone can't be used: ${error.message}`, "alarm");
  } finally {
    button.disabled = client.state === "closed";
    showVoice();
  }
}

async function stopTalking() {
  const ended = voice;
  voice = null;
  showVoice();
  ended?.track.stop();
  await ended?.stop();
}

async function record() {
  if (byId("record").hidden || byId("record").disabled) return;
  try {
    await client.record(client.recording.state === "off");
  } catch (error) {
    ui.notify(`The recording can't be switched: ${error.message}`, "alarm");
  }
}

function fullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else byId("stage").requestFullscreen().catch(() => ui.notify("This browser allows no full screen here."));
}

async function leave() {
  voice?.track.stop();
  await client.leave();
}

// -- starting -----------------------------------------------------------------------------------------------------

function decorate() {
  ui.carryOver();
  relabel(byId("sound"), "sound", "Sound on");
  relabel(byId("record"), "record", "Record");
  relabel(byId("unlock"), "sound", "Turn the sound on");
  showVoice();
  for (const [id, name, words] of [
    ["full", "full", "Full screen"],
    ["help", "keys", "Keyboard"],
    ["leave", "leave", "Leave"],
  ]) {
    byId(id).replaceChildren(icon(name));
    byId(id).setAttribute("aria-label", words);
    byId(id).title = words;
  }
  byId("sound").addEventListener("click", () => sounds.toggle());
  byId("unlock").addEventListener("click", () => sounds.toggle(true));
  byId("talk").addEventListener("click", talk);
  byId("record").addEventListener("click", record);
  byId("full").addEventListener("click", fullScreen);
  byId("leave").addEventListener("click", leave);
  sounds.addEventListener("change", showSound);
  sounds.addEventListener("blocked", showSound);
  ui.keyboard([
    { keys: "123456789", shown: "1 – 9", does: "Show that picture large, in clinical order", run: (key) => {
      const tile = ordered()[Number(key) - 1];
      if (tile) choose(tile);
    } },
    { keys: "s", does: "Sound on or off", run: () => sounds.toggle() },
    { keys: "t", does: "Talk, or stop talking", run: talk },
    { keys: "r", does: "Start or stop the recording", run: record },
    { keys: "f", does: "Full screen", run: fullScreen },
  ]);
}

function listen() {
  const on = (name, act) => client.addEventListener(name, act);
  on("track-added", onTrackAdded);
  on("media", onMedia);
  on("track-changed", onTrackChanged);
  on("track-removed", onTrackRemoved);
  on("quality", onQuality);
  on("unavailable", onUnavailable);
  on("participant-joined", listPeople);
  on("participant-left", listPeople);
  on("speaker", ({ detail: { participant } }) => ui.showSpeaker(participant));
  on("recording", onRecording);
  on("consent", showRecorded);
  on("transport", showState);
  on("reconnecting", () => {
    for (const tile of tiles.values()) tile.unheard();
    sounds.unheard();
    showState();
  });
  on("resumed", showState);
  on("joined", () => {
    byId("talk").hidden = !client.may("publish");
    byId("record").hidden = !client.may("record");
    showState();
    listPeople();
  });
  on("waiting", ({ detail }) => ui.showWaiting(detail));
  on("closed", onClosed);
  on("publication-ended", ({ detail: { publication, reason } }) => {
    if (publication === voice) voice = null;
    showVoice();
    ui.notify(`Your microphone stopped: ${reason}.`, "alarm");
  });
  on("error", ({ detail: { error } }) => ui.notify(error.message, "alarm"));
}

function keepTime() {
  setInterval(() => {
    const now = performance.now();
    for (const tile of tiles.values()) tile.judge(now);
  }, JUDGE_EVERY_MS);
  setInterval(() => {
    const now = performance.now();
    for (const tile of tiles.values()) tile.describe(now);
  }, DESCRIBE_EVERY_MS);
  setInterval(async () => {
    if (client.state === "closed") return;
    const figures = await client.stats();
    for (const [id, tile] of tiles) tile.note(figures.get(id));
    sounds.note(figures);
  }, STATS_EVERY_MS);
  document.addEventListener("visibilitychange", () => {
    const now = performance.now();
    if (!document.hidden) for (const tile of tiles.values()) tile.seen(now);
  });
}

async function start() {
  decorate();
  const { room, token, name } = await ui.entrance(byId("entrance"));
  ui.write(byId("room"), room);
  document.title = `${room} · Viewer`;
  byId("consultation").hidden = false;
  ui.showConnection("warn", "Connecting");
  client = new MediaClient({ room, token, name });
  attention = new Attention(client, tiles);
  byId("banner").after(new ConsentStrip(client, stopTalking, ["microphone"]).root);
  listen();
  ui.write(byId("empty"), "Joining the room.");
  performance.mark("join");
  try {
    await client.connect();
  } catch {
    return; // `closed` has said why
  }
  keepTime();
  // A browser with no sound to play yet tells nothing; with sound it does at the first track.
  showSound();
}

await start();
