/**
 * What the product knows of each kind of source: how it is called, how it is captured, how it is encoded, and in
 * which order clinicians want to see it.
 */

/** @typedef {"ultrasound" | "dermatoscope" | "otoscope" | "camera" | "screen" | "stethoscope" | "microphone" | "vitals"} Source */

/**
 * @typedef {object} SourceProfile
 * @property {string} title
 * @property {"audio" | "video"} kind
 * @property {number} rank lower is nearer to the middle of the viewer's page
 * @property {string} hint MediaStreamTrack.contentHint
 * @property {number} maxBitrate bit/s
 * @property {RTCRtpEncodingParameters[]} [encodings] of one picture, the lowest first, for viewers on lines of all kinds
 * @property {RTCDegradationPreference} [degradation] what gives way when the network or the machine is too slow
 * @property {MediaTrackConstraints} constraints for getUserMedia or getDisplayMedia, without the device
 */

/** Frames that no other needs, so that a line can carry half of the rate: where the browser knows of it. */
const HALVES = { scalabilityMode: "L1T2" };
const UNTOUCHED_SOUND = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };

/** What is said of a clinical sound that does not arrive as it was asked for, by the server's word for it. */
const FAULTS = {
  dtx: "silence is cut out",
  speech: "it is coded as speech",
  bandwidth: "high tones are cut off",
  bitrate: "its bitrate is too low",
  "long-packets": "it comes in long packets, and late",
  malformed: "it can't be read",
};

/** @param {string[]} [faults] of a TrackInfo @returns {string} a sentence; empty when all is well */
export const altered = (faults = []) =>
  faults.length ? `Sound is altered: ${faults.map((fault) => FAULTS[fault] ?? fault).join(", ")}. Do not trust it.` : "";

/** @type {Record<Source, SourceProfile>} */
export const SOURCES = {
  ultrasound: {
    title: "Ultrasound",
    kind: "video",
    rank: 0,
    hint: "detail",
    maxBitrate: 5_000_000,
    // Frames go before pixels: both have the size of the source. Where one has a limit of frames and the other none,
    // Chromium holds both to it, so the full one has one that no grabber exceeds.
    encodings: [
      { rid: "l", scaleResolutionDownBy: 1, maxFramerate: 15, maxBitrate: 1_000_000 },
      { rid: "f", scaleResolutionDownBy: 1, maxFramerate: 120, ...HALVES },
    ],
    degradation: "maintain-resolution",
    // The grabber's own picture, never scaled: what is measured on the picture must be measured on true pixels.
    constraints: { width: { ideal: 1920 }, height: { ideal: 1080 }, frameRate: { ideal: 30 } },
  },
  dermatoscope: {
    title: "Dermatoscope",
    kind: "video",
    rank: 1,
    hint: "detail",
    maxBitrate: 4_000_000,
    degradation: "maintain-resolution",
    constraints: { width: { ideal: 1920 }, height: { ideal: 1080 }, frameRate: { ideal: 30 } },
  },
  otoscope: {
    title: "Otoscope",
    kind: "video",
    rank: 2,
    hint: "detail",
    maxBitrate: 4_000_000,
    degradation: "maintain-resolution",
    constraints: { width: { ideal: 1920 }, height: { ideal: 1080 }, frameRate: { ideal: 30 } },
  },
  camera: {
    title: "Room camera",
    kind: "video",
    rank: 3,
    hint: "motion",
    maxBitrate: 2_000_000,
    encodings: [
      { rid: "q", scaleResolutionDownBy: 4, maxBitrate: 150_000, ...HALVES },
      { rid: "h", scaleResolutionDownBy: 2, maxBitrate: 600_000, ...HALVES },
      { rid: "f", scaleResolutionDownBy: 1, ...HALVES },
    ],
    degradation: "balanced",
    constraints: { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } },
  },
  screen: {
    title: "Screen",
    kind: "video",
    rank: 4,
    hint: "detail",
    maxBitrate: 3_000_000,
    degradation: "maintain-resolution",
    constraints: { frameRate: { ideal: 15 } },
  },
  stethoscope: {
    title: "Stethoscope",
    kind: "audio",
    rank: 5,
    hint: "music",
    maxBitrate: 128_000,
    constraints: { ...UNTOUCHED_SOUND, channelCount: { ideal: 1 }, sampleRate: { ideal: 48_000 } },
  },
  microphone: {
    title: "Microphone",
    kind: "audio",
    rank: 6,
    hint: "speech",
    maxBitrate: 40_000,
    constraints: { echoCancellation: true, noiseSuppression: true, autoGainControl: true },
  },
  vitals: {
    title: "Vital signs",
    kind: "video",
    rank: 7,
    hint: "detail",
    maxBitrate: 1_000_000,
    degradation: "maintain-resolution",
    constraints: {},
  },
};

/**
 * @param {string} source
 * @returns {SourceProfile} that of a camera for a source that this page does not know
 */
export function profile(source) {
  return SOURCES[/** @type {Source} */ (source)] ?? { ...SOURCES.camera, title: source, rank: 9 };
}
