/** Devices of this machine: which there are, how each source opens one, and how loud a sound is. */

import { profile } from "./sources.js";

const MEMORY = "mediaserver.devices";

/** A device that can't be used, in words for the person at the cart. */
export function fault(error) {
  switch (error.name) {
    case "NotAllowedError":
      return "The browser was told not to use this device. Allow it in the address bar.";
    case "NotFoundError":
    case "OverconstrainedError":
      return "The device is not connected any more.";
    case "NotReadableError":
      return "Another program uses this device.";
    default:
      return error.message || String(error);
  }
}

/**
 * Asks for the permission without which devices have no names.
 * @returns {Promise<void>}
 */
async function unlock() {
  for (const wish of [{ audio: true, video: true }, { video: true }, { audio: true }]) {
    try {
      const stream = await navigator.mediaDevices.getUserMedia(wish);
      for (const track of stream.getTracks()) track.stop();
      return;
    } catch (error) {
      if (error.name === "NotAllowedError") return; // the cards say so when they open their device
    }
  }
}

/** @returns {Promise<MediaDeviceInfo[]>} cameras, grabbers and microphones, with their names where permitted */
export async function devices() {
  let found = await navigator.mediaDevices.enumerateDevices();
  if (found.some(({ kind, label }) => kind !== "audiooutput" && !label)) {
    await unlock();
    found = await navigator.mediaDevices.enumerateDevices();
  }
  return found.filter(({ kind, deviceId }) => kind !== "audiooutput" && deviceId !== "communications");
}

/**
 * Opens a device for a source, with what the source asks of it.
 * @param {string} source @param {string} deviceId
 * @returns {Promise<MediaStreamTrack>}
 */
export async function open(source, deviceId) {
  const { kind, constraints } = profile(source);
  const exact = { ...constraints, deviceId: { exact: deviceId } };
  const stream = await navigator.mediaDevices.getUserMedia(kind === "video" ? { video: exact } : { audio: exact });
  return stream.getTracks()[0];
}

/**
 * What the browser or the system does to a sound that should be left alone: an application asks, and may be refused.
 * @param {string} source @param {MediaStreamTrack} track @returns {string} a sentence; empty when all is as asked
 */
export function touched(source, track) {
  const { constraints } = profile(source);
  const names = { echoCancellation: "echo cancellation", noiseSuppression: "noise suppression", autoGainControl: "automatic gain" };
  const settings = /** @type {Record<string, unknown>} */ (track.getSettings());
  const on = Object.keys(names).filter((key) => constraints[key] === false && settings[key] === true);
  return on.length ? `This sound is altered by ${on.map((key) => names[key]).join(" and ")}: do not trust it. Try another device.` : "";
}

/** Lets the person choose a screen or window. @returns {Promise<MediaStreamTrack>} */
export async function openScreen() {
  const stream = await navigator.mediaDevices.getDisplayMedia({ video: profile("screen").constraints, audio: false });
  return stream.getVideoTracks()[0];
}

/** @returns {Record<string, string>} the device's name that was last chosen for each source */
export function remembered() {
  try {
    return JSON.parse(localStorage.getItem(MEMORY) ?? "{}");
  } catch {
    return {};
  }
}

/** Names outlive the identifiers, which a browser may change. @param {string} source @param {string} label */
export function remember(source, label) {
  try {
    localStorage.setItem(MEMORY, JSON.stringify({ ...remembered(), [source]: label }));
  } catch {
    // a browser without storage asks again next time
  }
}

let context = /** @type {AudioContext | null} */ (null);

/** The level of a sound track: `read()` gives 0 to 1 on a scale of 60 dB. */
export class Level {
  #analyser;
  #source;
  #samples;

  /** @param {MediaStreamTrack} track */
  constructor(track) {
    context ??= new AudioContext();
    context.resume().catch(() => {});
    this.#analyser = context.createAnalyser();
    this.#analyser.fftSize = 1024;
    this.#samples = new Float32Array(this.#analyser.fftSize);
    this.#source = context.createMediaStreamSource(new MediaStream([track]));
    this.#source.connect(this.#analyser);
  }

  read() {
    this.#analyser.getFloatTimeDomainData(this.#samples);
    let most = 0;
    for (const sample of this.#samples) most = Math.max(most, Math.abs(sample));
    return most > 0.001 ? 1 + (20 * Math.log10(most)) / 60 : 0;
  }

  close() {
    this.#source.disconnect();
  }
}
