/**
 * The cart's page: a device for each source, what each shows, and what is sent of it. With `?simulcast=camera` in its
 * address it sends the camera in several encodings, for viewers on thin lines, with `?simulcast=1` ultrasound too: three
 * and five video encoders.
 */

import * as capture from "./capture.js";
import { MediaClient } from "./client.js";
import { ConsentStrip, participantMark, recordedState } from "./consent.js";
import { Sounds } from "./sound.js";
import { altered, profile } from "./sources.js";
import * as ui from "./ui.js";

const { byId, element, icon, relabel } = ui;
const LEVEL_EVERY_MS = 80;
const STATS_EVERY_MS = 1000;
const ICONS = { microphone: "mic", dermatoscope: "camera", otoscope: "camera" };
/** In the order of the cards; a camera and a voice are chosen by themselves, the rest by a person. */
const CARDS = ["ultrasound", "camera", "stethoscope", "microphone", "screen", "dermatoscope", "otoscope"];
const CHOSEN_BY_DEFAULT = ["camera", "microphone"];

const sounds = new Sounds();
/** @type {MediaClient} */
let client;
let running = false;
/** Read before a form changes the address. */
const inEncodings = ui.parameters().simulcast.split(",");

/** One source: its device, its preview or level, its switch, and its figures. */
class SourceCard {
  /** @type {MediaStreamTrack | null} */
  track = null;
  /** @type {import("./client.js").Publication | null} */
  publication = null;
  /** @type {capture.Level | null} */
  #level = null;
  #busy = false;
  #altered = false;

  constructor(source) {
    this.source = source;
    const { title, kind } = profile(source);
    this.kind = kind;
    this.title = title;
    this.state = element("span", { class: "state", role: "status" }, "No device");
    this.button = element("button", { disabled: true });
    this.button.addEventListener("click", () => this.toggle());
    /** @type {any} a button for screens, a list for devices */
    this.choice = source === "screen" ? element("button", {}, "Choose a screen") : element("select", { "aria-label": `Device for ${title}` });
    this.choice.addEventListener(source === "screen" ? "click" : "change", () => this.open());
    this.fault = element("p", { class: "fault", role: "alert", hidden: true });
    this.figures = element("dl", { class: "sending-figures", hidden: true });
    this.look = kind === "video" ? this.#preview() : element("meter", { min: 0, max: 1, high: 0.9, optimum: 0.5, "aria-label": `Level of ${title}` });
    const heading = element("header", {}, icon(ICONS[source] ?? source), element("h2", { id: `${source}-title` }, title), this.state);
    const controls = element("div", { class: "choice" }, this.choice, this.button);
    this.root = element("section", { class: "card source", "data-source": source, "aria-labelledby": `${source}-title` }, heading, controls, this.look, this.fault, this.figures);
    this.show();
  }

  #preview() {
    this.video = element("video", { autoplay: true, playsinline: true, "aria-hidden": "true" });
    this.video.muted = true;
    return element("div", { class: "preview" }, this.video);
  }

  /** @param {MediaDeviceInfo[]} devices */
  offer(devices) {
    if (this.source === "screen") return;
    const mine = devices.filter(({ kind }) => kind === `${this.kind}input`);
    const before = this.choice.value;
    const options = mine.map(({ deviceId, label }, index) => element("option", { value: deviceId }, label || `${this.kind} ${index + 1}`));
    this.choice.replaceChildren(element("option", { value: "" }, "No device"), ...options);
    const wanted = capture.remembered()[this.source];
    const known = mine.find(({ label }) => label === wanted);
    if (mine.some(({ deviceId }) => deviceId === before)) this.choice.value = before;
    else if (known) this.choice.value = known.deviceId;
    else if (wanted === undefined && CHOSEN_BY_DEFAULT.includes(this.source) && mine.length) this.choice.value = mine[0].deviceId;
    if (this.choice.value !== before) this.open();
  }

  /** Opens the chosen device in the place of the one before; what is being sent goes on with the new one. */
  async open() {
    this.fault.hidden = true;
    try {
      let track = null;
      if (this.source === "screen") track = await capture.openScreen();
      else if (this.choice.value) track = await capture.open(this.source, this.choice.value);
      if (this.source !== "screen") capture.remember(this.source, this.choice.value ? this.choice.selectedOptions[0].text : "");
      await this.#take(track);
      const warning = track && capture.touched(this.source, track);
      if (warning) this.complain(warning);
    } catch (error) {
      if (this.source === "screen" && error.name === "NotAllowedError") return; // the person closed the dialog
      this.complain(capture.fault(error));
      await this.#take(null);
    }
    this.show();
  }

  async #take(track) {
    const before = this.track;
    this.track = track;
    this.#level?.close();
    this.#level = track && this.kind === "audio" ? new capture.Level(track) : null;
    if (this.video) this.video.srcObject = track && new MediaStream([track]);
    track?.addEventListener("ended", () => {
      if (this.track !== track) return;
      this.complain("The device has ended.");
      this.#take(null).then(() => this.show());
    });
    if (this.publication && track) await this.publication.replace(track);
    else if (this.publication) await this.stop();
    else if (track && running) await this.start();
    before?.stop();
  }

  toggle() {
    return this.publication ? this.stop() : this.start();
  }

  async start() {
    if (this.publication || this.#busy || !this.track || client.state === "closed") return;
    this.#busy = true;
    this.show();
    try {
      const label = this.source === "screen" ? "" : this.choice.selectedOptions[0].text;
      const simulcast = inEncodings.includes("1") || inEncodings.includes(this.source);
      this.publication = await client.publish(this.track, { source: this.source, label, simulcast });
      running = true;
    } catch (error) {
      this.complain(`The server did not take it: ${error.message}`);
    } finally {
      this.#busy = false;
      this.show();
    }
  }

  async stop() {
    const { publication } = this;
    this.publication = null;
    this.show();
    await publication?.stop().catch((error) => this.complain(error.message));
  }

  /** What arrives at the server of what is sent here. @param {string[]} faults of the TrackInfo */
  hear(faults) {
    const words = altered(faults);
    if (words) this.complain(words);
    else if (this.#altered) this.fault.hidden = true;
    this.#altered = words !== "";
  }

  complain(text) {
    this.fault.hidden = false;
    ui.write(this.fault, text);
  }

  show() {
    const sending = this.publication !== null;
    this.root.classList.toggle("sending", sending);
    this.button.disabled = this.#busy || !(this.track || sending) || client?.state === "closed";
    relabel(this.button, sending ? "stop" : "play", sending ? "Stop" : "Send");
    this.button.setAttribute("aria-label", `${sending ? "Stop sending" : "Send"} ${this.title}`);
    const recorded = sending ? recordedState(client, this.publication?.id ?? null) : "";
    this.root.dataset.recorded = recorded;
    const said = { on: "Sending · REC", starting: "Sending · REC starts", off: "Sending · not recorded", "": "Sending" };
    ui.write(this.state, sending ? said[recorded] : this.#busy ? "Starting" : this.track ? "Ready" : "No device");
    this.look.hidden = this.track === null;
    this.figures.hidden = !sending;
    if (this.source === "screen") ui.write(this.choice, this.track ? "Choose another screen" : "Choose a screen");
    showLead();
  }

  measure() {
    if (this.#level) this.look.value = this.#level.read();
    else if (this.kind === "audio") this.look.value = 0;
  }

  /** @param {import("./stats.js").TrackStats | undefined} stats */
  describe(stats) {
    if (!stats || !this.publication) return;
    /** @type {[string, string, boolean?][]} */
    const rows = [
      ["Sent", ui.bitrate(stats.bitrate)],
      ["Rate", this.kind === "video" ? ui.frameRate(stats.framesPerSecond) : ""],
      ["Size", this.kind === "video" ? ui.pictureSize(stats.width, stats.height) : ""],
      ["Round trip", ui.milliseconds(stats.rtt)],
      ["Loss", ui.percent(stats.loss), (stats.loss ?? 0) > 0.02],
      ["Codec", stats.codec ?? "–"],
      ["Limited by", { cpu: "this machine", bandwidth: "the network" }[stats.limitedBy ?? ""] ?? "", true],
    ];
    const filled = rows.filter(([, value]) => value);
    this.figures.replaceChildren(
      ...filled.map(([name, value, bad]) => element("div", {}, element("dt", {}, name), element("dd", { class: bad ? "bad" : null }, value))),
    );
  }
}

/** @type {SourceCard[]} */
let cards = [];

// -- the whole cart ---------------------------------------------------------------------------------------------

function showLead() {
  const sending = cards.filter(({ publication }) => publication);
  relabel(byId("start"), sending.length ? "stop" : "play", sending.length ? "Stop sending" : "Start consultation");
  byId("start").classList.toggle("danger", sending.length > 0);
  byId("start").classList.toggle("primary", sending.length === 0);
  byId("start").disabled = !client || client.state === "closed" || !cards.some(({ track, publication }) => track || publication);
}

async function startOrStop() {
  const sending = cards.filter(({ publication }) => publication);
  running = sending.length === 0;
  // All at once, so that one offer carries them.
  await Promise.all(sending.length ? sending.map((card) => card.stop()) : cards.map((card) => card.start()));
}

function listPeople() {
  const rows = [...client.participants.values()].map(({ id, name, role }) =>
    element(
      "li",
      { "data-participant": id },
      element("span", { class: "name" }, name || role, id === client.participant ? element("small", {}, "this cart") : null),
      participantMark(client, client.participants.get(id) ?? { id, name, role }),
      element("span", { class: `role ${role}` }, role),
    ),
  );
  byId("people").replaceChildren(...rows);
  ui.showSpeaker(client.speaker);
}

const showState = () =>
  ui.showClient(client, {
    noMedia: "The media connection is lost: the doctors see a frozen picture. Trying to come back.",
    noServer: "The server can't be reached. Pictures may still arrive there. Trying to come back.",
  });

function onClosed({ detail: { code, message } }) {
  ui.showConnection("lost", "Disconnected");
  if (code === "left") ui.banner("This cart has left the room. Reload the page to come back.", "warn");
  else ui.banner(`Disconnected: ${message}. Nothing is sent. Reload the page to try again.`, "alarm");
  byId("leave").disabled = true;
  for (const card of cards) {
    card.publication = null;
    card.show();
  }
}

async function describe() {
  if (client.state === "closed") return;
  const figures = await client.stats();
  sounds.note(figures);
  let total = 0;
  let rtt = null;
  for (const card of cards) {
    const stats = card.publication?.id != null ? figures.get(card.publication.id) : undefined;
    card.describe(stats);
    total += stats?.bitrate ?? 0;
    rtt = stats?.rtt ?? rtt;
  }
  const sending = cards.filter(({ publication }) => publication).length;
  const sources = sending === 1 ? "1 source" : `${sending} sources`;
  ui.write(byId("total"), sending ? `Sending ${sources} · ${ui.bitrate(total)} · round trip ${ui.milliseconds(rtt)}` : "Nothing is sent yet.");
}

const ownerOf = (info) => client.participants.get(info.participant)?.name ?? "";

function hear(on) {
  on("track-added", ({ detail: { track } }) => {
    if (track.kind !== "audio" || track.participant === client.participant || !client.may("subscribe")) return;
    client.subscribe(track.id).catch((error) => ui.notify(error.message, "alarm"));
  });
  on("media", ({ detail: { info, track, receiver } }) => sounds.add(info, ownerOf(info), track, receiver, client));
  on("track-changed", ({ detail: { track } }) => {
    sounds.update(track, ownerOf(track));
    cards.find(({ publication }) => publication?.id === track.id)?.hear(track.faults ?? []);
  });
  on("track-removed", ({ detail: { track } }) => sounds.remove(track.id));
}

function listen() {
  const on = (name, act) => client.addEventListener(name, act);
  hear(on);
  on("joined", () => {
    showState();
    listPeople();
    showLead();
  });
  on("participant-joined", listPeople);
  on("participant-left", listPeople);
  on("speaker", ({ detail: { participant } }) => ui.showSpeaker(participant));
  on("consent", listPeople);
  on("recording", ({ detail }) => {
    ui.showRecording(detail);
    listPeople();
    for (const card of cards) card.show();
    sounds.record((id) => recordedState(client, id));
    if (detail.state === "alarm") ui.notify(`Recording in trouble. ${detail.detail ?? ""}`, "alarm");
  });
  on("reconnecting", () => sounds.unheard());
  for (const name of ["transport", "reconnecting", "resumed"]) on(name, showState);
  on("waiting", ({ detail }) => ui.showWaiting(detail));
  on("closed", onClosed);
  on("publication-ended", ({ detail: { publication, reason } }) => {
    const card = cards.find((candidate) => candidate.publication === publication);
    if (!card) return;
    card.publication = null;
    card.complain(`No longer sent: ${reason}.`);
    card.show();
  });
  on("error", ({ detail: { error } }) => ui.notify(error.message, "alarm"));
}

async function offerDevices() {
  const found = await capture.devices();
  for (const card of cards) card.offer(found);
}

function decorate() {
  ui.carryOver();
  for (const [id, name, words] of [
    ["help", "keys", "Keyboard"],
    ["leave", "leave", "Leave"],
  ]) {
    byId(id).replaceChildren(icon(name));
    byId(id).setAttribute("aria-label", words);
    byId(id).title = words;
  }
  relabel(byId("unlock"), "sound", "Turn the sound on");
  byId("unlock").addEventListener("click", () => sounds.toggle(true));
  const showSound = () => (byId("unlock").hidden = !sounds.blocked);
  sounds.addEventListener("change", showSound);
  sounds.addEventListener("blocked", showSound);
  byId("start").addEventListener("click", startOrStop);
  byId("leave").addEventListener("click", async () => {
    await client.leave();
    for (const card of cards) card.track?.stop();
  });
  ui.keyboard([
    { keys: "s", does: "Start or stop sending everything", run: startOrStop },
    { keys: "1234567", shown: "1 – 7", does: "Send or stop that source, in the order of the cards", run: (key) => cards[Number(key) - 1]?.toggle() },
  ]);
}

async function start() {
  decorate();
  const { room, token, name } = await ui.entrance(byId("entrance"));
  ui.write(byId("room"), room);
  document.title = `${room} · Cart`;
  byId("cart").hidden = false;
  // The cart hears the doctors; pictures of others would cost it what its own need.
  client = new MediaClient({ room, token, name, autoSubscribe: false });
  const stopSending = () => Promise.all(cards.filter(({ publication }) => publication).map((card) => card.stop()));
  byId("banner").after(new ConsentStrip(client, stopSending, CARDS).root);
  cards = CARDS.map((source) => new SourceCard(source));
  byId("sources").append(...cards.map(({ root }) => root));
  showLead();
  listen();
  const obstacle = ui.whyNoDevices();
  if (obstacle) ui.banner(obstacle, "alarm");
  else navigator.mediaDevices.addEventListener("devicechange", offerDevices);
  ui.showConnection("warn", "Connecting");
  const offered = obstacle ? null : offerDevices();
  try {
    await client.connect();
  } catch {
    return; // `closed` has said why
  }
  await offered;
  setInterval(() => cards.forEach((card) => card.measure()), LEVEL_EVERY_MS);
  setInterval(describe, STATS_EVERY_MS);
}

await start();
