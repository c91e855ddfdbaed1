/**
 * A client of the media server for applications in a browser.
 *
 *     import { MediaClient } from "/static/client.js";
 *     const client = new MediaClient({ room: "exam-7", token });
 *     client.addEventListener("media", ({ detail: { info, track } }) => show(info, track));
 *     await client.connect();
 *     await client.publish(cameraTrack, { source: "camera", label: "USB camera" });
 *
 * It joins over a WebSocket, keeps one RTCPeerConnection, subscribes to what others publish, and comes back by
 * itself: over a new socket without a break in the media when the old one dropped, over a new network path by an ICE
 * restart, and with a new session when the server has given the old one up.
 *
 * Events (CustomEvent; `detail` in braces):
 * - `joined` {joined}: the first join and every join with a new session; `resumed` {joined}: the old session goes on
 * - `waiting` {message, seconds}: the server is at its limit and lets nobody more in; another try comes after so long
 * - `reconnecting` {reason}: the socket is lost; media may still flow
 * - `closed` {code, message}: the client has ended for good, by `leave()` or by the server's word
 * - `transport` {state}: of the media connection, an RTCPeerConnectionState
 * - `participant-joined` {participant}, `participant-left` {participant, reason}
 * - `track-added` {track}, `track-changed` {track}, `track-removed` {track}: the server's TrackInfo; its `freshness` is
 *   what the server sees arrive ("live", "stale", "unchanging"), and of no worth while `reconnecting`
 * - `media` {info, track, receiver, mid}: a subscribed track; `track` is the MediaStreamTrack
 * - `unavailable` {info, reason}: a track that can't be received here, for want of its codec most of all
 * - `publication-ended` {publication, reason}: the device is gone, or the server refused it after a new join
 * - `quality` {quality}: what arrives of a track is another than before: a TrackQuality, also in `qualities`
 * - `speaker` {participant}: who speaks now, by id; null: nobody
 * - `recording` {state, recording, detail, whose, tracks}: also when other tracks go into it
 * - `consent-asked` {terms, by}: the user is to be asked whether it may be recorded; `giveConsent` answers
 * - `consent` {participant, consent, sources}: somebody has been asked, has agreed ("given", to these sources or, null, to
 *   all), refused or withdrawn; by id
 * - `error` {error}: a SignallingError that belongs to no call
 */

import { AgeReport, ServerClock } from "./ages.js";
import { Peer } from "./peer.js";
import { Signalling, SignallingError } from "./signalling.js";
import { profile } from "./sources.js";
import { StatsReader } from "./stats.js";

export { SignallingError };

const VERSION = 1;
const LABEL_AT_MOST = 80;
/** Tells of a change of the network; Firefox and Safari lack it. */
const NETWORK = /** @type {any} */ (navigator).connection;
const BACKOFF_MS = [0, 250, 500, 1000, 2000, 4000];
const RETRY_SECONDS = 10;
/** What another try would not change: the server does not want this client. */
const FINAL = ["unauthorized", "forbidden", "removed", "unsupported-version", "bad-message", "already-joined"];

/** @typedef {import("./protocol.d.ts").TrackInfo} TrackInfo */
/** @typedef {import("./protocol.d.ts").ParticipantView} ParticipantView */
/** @typedef {import("./protocol.d.ts").Joined} Joined */
/** @typedef {import("./stats.js").TrackStats} TrackStats */

/** A track that this client publishes; it outlives a new session. */
export class Publication {
  #client;

  /** @param {MediaClient} client @param {MediaStreamTrack} track @param {string} source @param {string} label */
  constructor(client, track, source, label) {
    this.#client = client;
    this.track = track;
    this.source = source;
    this.label = label;
    this.simulcast = false;
    this.muted = false;
    /** @type {import("./peer.js").Outgoing | null} */
    this.outgoing = null;
  }

  /** the server's name of the track; null until the server has said it */
  get id() {
    return this.outgoing?.id ?? null;
  }

  get mid() {
    return this.outgoing?.transceiver.mid ?? null;
  }

  /** Sends another track of the same kind (another camera, say) in the place of this one. */
  async replace(track) {
    await this.outgoing?.transceiver.sender.replaceTrack(track);
    this.track = track;
    track.enabled = !this.muted;
  }

  /** Sends nothing until it is unmuted; the viewers are told. */
  async mute(muted) {
    this.muted = muted;
    this.track.enabled = !muted;
    if (this.id !== null) await this.#client.mute(this.id, muted);
  }

  stop() {
    return this.#client.stop(this);
  }
}

export class MediaClient extends EventTarget {
  #options;
  /** @type {Map<string, import("./protocol.d.ts").ViewWish>} by track; a new session is told again */
  #wishes = new Map();
  /** @type {Signalling | null} */
  #signalling = null;
  /** @type {Peer | null} */
  #peer = null;
  #stats = new StatsReader();
  #clock = new ServerClock();
  #ages = new AgeReport((tracks) => this.#signalling?.send({ type: "ages", tracks }));
  #resumeKey = /** @type {string | null} */ (null);
  /** @type {{ version: string, sources: import("./protocol.d.ts").Source[] | null } | null} what the user has agreed to */
  #agreed = null;
  #away = /** @type {{promise: Promise<void>, resolve: () => void} | null} */ (null);
  #wake = () => {};
  #onOnline = () => this.#networkChanged();
  #onPageHide = () => this.#signalling?.send({ type: "leave", id: 0 });

  /**
   * @param {object} options
   * @param {string} options.room
   * @param {string} options.token
   * @param {string} [options.name] shown to others; else the token's
   * @param {string | URL} [options.url] of the WebSocket; `ws` beside this page by default
   * @param {boolean} [options.autoSubscribe] subscribe to every track of the room (default)
   */
  constructor({ room, token, name, url, autoSubscribe = true }) {
    super();
    const address = new URL(url ?? "ws", location.href);
    address.hash = "";
    if (!url) address.search = "";
    address.protocol = address.protocol.replace(/^http/, "ws");
    this.#options = { room, token, name, url: address, autoSubscribe };
    /** @type {"idle" | "connecting" | "joined" | "reconnecting" | "closed"} */
    this.state = "idle";
    /** @type {Joined | null} what the server said at the last join */
    this.joined = null;
    /** @type {Map<string, ParticipantView>} everybody in the room, this client too */
    this.participants = new Map();
    /** @type {Map<string, TrackInfo>} every track of the room, this client's too */
    this.tracks = new Map();
    /** @type {Map<string, import("./protocol.d.ts").TrackQuality>} what arrives here of each track, by its id */
    this.qualities = new Map();
    /** @type {string | null} the participant who speaks */
    this.speaker = null;
    /** @type {Set<Publication>} */
    this.publications = new Set();
    /** @type {import("./protocol.d.ts").RecordingView} */
    this.recording = { state: "off", recording: null, detail: "", whose: "required", tracks: [] };
  }

  /** what to show before the user agrees to be recorded; null before the first join */
  get terms() {
    return this.joined?.consent ?? null;
  }

  /** what a consent that is given is for, null for everything */
  get consentSources() {
    return this.participants.get(this.participant ?? "")?.consent_sources ?? null;
  }

  /** what this client has said to being recorded: unasked, asked, given, refused or withdrawn */
  get consent() {
    return this.participants.get(this.participant ?? "")?.consent ?? "unasked";
  }

  /** this client's participant id; null before the first join */
  get participant() {
    return this.joined?.participant ?? null;
  }

  /** @param {"publish" | "subscribe" | "record" | "admin"} right */
  may(right) {
    return this.joined?.rights.includes(right) ?? false;
  }

  /** RTCPeerConnectionState of the media connection */
  get transport() {
    return this.#peer?.connection.connectionState ?? "new";
  }

  /**
   * Joins the room. Rejects when the server can't be reached or refuses; from then on the client comes back by itself.
   * While the server is at its limit it waits and tries again (`waiting`); `leave` gives up.
   * @returns {Promise<Joined>}
   */
  async connect() {
    if (this.state !== "idle") throw new Error("connect() was called before");
    this.state = "connecting";
    const peer = this.#newPeer();
    try {
      const joined = await this.#enter();
      this.#begin(joined, peer);
      addEventListener("online", this.#onOnline);
      NETWORK?.addEventListener("change", this.#onOnline);
      addEventListener("pagehide", this.#onPageHide);
      return joined;
    } catch (error) {
      peer.close();
      this.#close(error.code ?? "failed", error.message);
      throw error;
    }
  }

  /**
   * @param {MediaStreamTrack} track
   * @param {object} options
   * @param {string} options.source
   * @param {string} [options.label]
   * @param {number} [options.maxBitrate] bit/s
   * @param {boolean} [options.simulcast] several encodings of the picture, so that viewers on thin lines get a smaller
   *   one; each costs this machine an encoder
   * @returns {Promise<Publication>} when the server has accepted it
   */
  async publish(track, { source, label, maxBitrate, simulcast = false }) {
    if (!this.#peer) throw new SignallingError("disconnected", "join first");
    const publication = new Publication(this, track, source, (label ?? track.label).slice(0, LABEL_AT_MOST));
    publication.simulcast = simulcast;
    const { hint } = profile(source);
    if ("contentHint" in track) track.contentHint = hint;
    this.publications.add(publication);
    track.addEventListener("ended", () => {
      if (publication.track === track) this.#lose(publication, "the device has ended");
    });
    try {
      await this.#send(publication, maxBitrate);
    } catch (error) {
      this.publications.delete(publication);
      throw error;
    }
    return publication;
  }

  /** Stops publishing; the track itself is the caller's. @param {Publication} publication */
  async stop(publication) {
    this.publications.delete(publication);
    const { outgoing } = publication;
    publication.outgoing = null;
    if (outgoing && this.#peer) await this.#peer.unpublish(outgoing);
  }

  /**
   * Receives a track, or goes on receiving it after `unsubscribe`.
   * @param {string} id of the track @returns {Promise<void>}
   */
  async subscribe(id) {
    const info = this.tracks.get(id);
    if (!info || !this.#peer) throw new SignallingError("not-found", `there is no track ${id}`);
    if (this.#peer.incoming.get(id)?.bound) await this.#request({ type: "subscribe", track: id });
    else await this.#peer.subscribe(id, info.kind);
  }

  /** The server stops sending the track here; `subscribe` goes on at once. @param {string} id of the track */
  async unsubscribe(id) {
    await this.#request({ type: "unsubscribe", track: id });
  }

  /**
   * Says what is looked at: `height` of a picture as it is shown, in device pixels; `rank`, 0 for the most important;
   * `paused`. What is left out of a wish stays as it was. The room's policy bounds it.
   * @param {import("./protocol.d.ts").ViewWish[]} wishes
   * @returns {Promise<import("./protocol.d.ts").ViewGrant[]>} what holds now
   */
  async view(wishes) {
    for (const wish of wishes) this.#wishes.set(wish.track, { ...this.#wishes.get(wish.track), ...wish });
    return (await this.#request({ type: "view", tracks: wishes })).tracks;
  }

  /** @param {string} id of a track of this client @param {boolean} muted */
  async mute(id, muted) {
    await this.#request({ type: "mute", track: id, muted });
  }

  /** Switches the room's recording; needs the right `record`. @param {boolean} on */
  async record(on) {
    await this.#request({ type: "record", on });
  }

  /**
   * Agrees to be recorded, refuses, or withdraws. A consent is given again by itself when a lost connection makes a new
   * session necessary.
   * @param {boolean} given @param {string} [version] of the text that was shown; the server's own by default
   * @param {import("./protocol.d.ts").Source[] | null} [sources] a yes is for these and no others, a no for these alone;
   * null: for everything
   */
  async giveConsent(given, version = this.terms?.version ?? "", sources = null) {
    this.#agreed = null; // whatever becomes of the request, a withdrawal holds
    await this.#request({ type: "consent", given, version, sources });
    this.#agreed = this.consent === "given" ? { version, sources: this.consentSources } : null;
  }

  /** Has a participant asked again; needs the right `record`. @param {string} participant its id */
  async askConsent(participant) {
    await this.#request({ type: "ask-consent", participant });
  }

  /** Asks the publisher for a new picture from which decoding can start. @param {string} id of the track */
  requestKeyframe(id) {
    this.#signalling?.send({ type: "keyframe", track: id });
  }

  /** @returns {Promise<Map<string, TrackStats>>} by the server's name of the track */
  async stats() {
    const named = new Map();
    if (!this.#peer) return named;
    const figures = await this.#stats.read(this.#peer.connection);
    const of = (transceiver) => figures.get(transceiver.mid);
    for (const { id, transceiver } of this.#peer.incoming.values()) if (of(transceiver)) named.set(id, of(transceiver));
    for (const publication of this.publications) {
      const { id, outgoing } = publication;
      if (id !== null && outgoing && of(outgoing.transceiver)) named.set(id, of(outgoing.transceiver));
    }
    return named;
  }

  /**
   * When something of a subscribed track was captured, on performance.now()'s clock.
   * @param {string} id of the track @param {number} rtpTimestamp of the frame
   * @returns {number | null} null where it is not known
   */
  capturedAt(id, rtpTimestamp) {
    const incoming = this.#peer?.incoming.get(id);
    return incoming ? this.#clock.capturedAt(incoming.transceiver.receiver, rtpTimestamp) : null;
  }

  /** Tells the server how old something of a track was when it was shown or played. @param {string} id @param {number} ms */
  noteAge(id, ms) {
    this.#ages.note(id, ms);
  }

  /** Leaves the room and ends the client. */
  async leave() {
    await this.#signalling?.request({ type: "leave" }, 1000).catch(() => {});
    this.#close("left", "left the room");
  }

  // -- joining ------------------------------------------------------------------------------------------------------

  /** Joins as soon as the server lets it in. */
  async #enter() {
    for (;;) {
      try {
        return await this.#join(null);
      } catch (error) {
        if (error.code !== "overloaded") throw error;
        await this.#wait(error);
        if (this.state !== "connecting") throw new SignallingError("left", "left before the server let it in");
      }
    }
  }

  /** The server is at its limit: waits as long as it says. */
  #wait({ message, retrySeconds }) {
    const seconds = retrySeconds ?? RETRY_SECONDS;
    this.#emit("waiting", { message, seconds });
    return this.#pause(seconds * 1000);
  }

  async #join(resume) {
    const { url, room, token, name } = this.#options;
    const signalling = new Signalling(url);
    try {
      await signalling.opened;
      const message = { type: "join", version: VERSION, room, token, ...(name && { name }), ...(resume && { resume }) };
      // What the server says right behind `joined` must not be lost, so the listeners are there before it.
      signalling.addEventListener("message", (/** @type {any} */ event) => this.#receive(signalling, event.detail));
      signalling.addEventListener("close", (/** @type {any} */ event) => this.#dropped(signalling, event.detail));
      signalling.addEventListener("time", (/** @type {any} */ { detail }) => this.#clock.note(detail.sent, detail.received, detail.time));
      const joined = await signalling.request(message);
      this.#signalling = signalling;
      this.#resumeKey = joined.resume ?? null;
      signalling.watch();
      return joined;
    } catch (error) {
      signalling.close();
      throw error;
    }
  }

  #newPeer() {
    const peer = new Peer((offer) => this.#exchange(peer, offer));
    const on = (name, act) => {
      peer.addEventListener(name, (event) => {
        if (this.#peer === peer) act(/** @type {CustomEvent} */ (event).detail);
      });
    };
    on("media", (incoming) => this.#onMedia(incoming));
    on("unavailable", ({ id, reason }) => {
      const info = this.tracks.get(id);
      if (info) this.#emit("unavailable", { info, reason });
    });
    on("state", (state) => this.#emit("transport", { state }));
    on("doubt", () => this.#signalling?.ask());
    on("silent", () => this.#signalling?.probeInSilence());
    on("dead", () => this.#startAnew());
    return peer;
  }

  /** A new session: everything is set up anew, publications are taken along. */
  #begin(joined, peer = this.#newPeer()) {
    this.#peer?.close();
    this.#peer = null;
    for (const id of [...this.tracks.keys()]) this.#trackRemoved(id);
    this.#stats = new StatsReader();
    this.#peer = peer;
    peer.useIceServers(joined.ice_servers);
    this.joined = joined;
    this.state = "joined";
    this.#emit("joined", { joined });
    if (this.#agreed !== null && joined.recording.whose === "consent") {
      const { version, sources } = this.#agreed;
      this.giveConsent(true, version, sources).catch((error) => this.#emit("error", { error }));
    }
    for (const publication of this.publications) {
      this.#send(publication).catch((error) => this.#lose(publication, error.message));
    }
    this.#catchUp(joined);
    const wishes = [...this.#wishes.values()];
    if (wishes.length) this.view(wishes).catch((error) => this.#emit("error", { error }));
  }

  /** Brings participants, tracks and recording in line with what the server says now. */
  #catchUp(joined) {
    const here = new Set(joined.participants.map(({ id }) => id));
    for (const id of this.participants.keys()) if (!here.has(id)) this.#participantLeft(id, "gone");
    for (const participant of joined.participants) this.#participantJoined(participant);
    const there = new Set(joined.tracks.map(({ id }) => id));
    for (const id of [...this.tracks.keys()]) if (!there.has(id)) this.#trackRemoved(id);
    for (const track of joined.tracks) this.#trackSeen(track);
    for (const quality of joined.qualities) this.#onQuality(quality);
    this.#onSpeaker(joined.speaker);
    this.#onRecording(joined.recording);
    if (this.consent === "asked" && this.#agreed === null) this.#emit("consent-asked", { terms: joined.consent, by: null });
  }

  /** Carries one offer over whichever socket is there, again after a drop, as long as its session lives. */
  async #exchange(peer, offer) {
    for (;;) {
      await this.#away?.promise;
      if (this.#peer !== peer || !this.#signalling) throw new SignallingError("disconnected", "the session has ended");
      try {
        return await this.#signalling.request({ type: "offer", ...offer });
      } catch (error) {
        if (error.code !== "disconnected") throw error;
        await new Promise((resolve) => setTimeout(resolve)); // the close event comes before the next try
      }
    }
  }

  async #request(message) {
    await this.#away?.promise;
    if (!this.#signalling) throw new SignallingError("disconnected", "not connected");
    return this.#signalling.request(message);
  }

  // -- coming back --------------------------------------------------------------------------------------------------

  #dropped(signalling, { code, reason }) {
    if (signalling !== this.#signalling || this.state === "closed") return;
    this.#signalling = null;
    this.#goAway(reason || `the connection to the server was lost (${code})`);
    this.#comeBack();
  }

  #goAway(reason) {
    this.state = "reconnecting";
    if (!this.#away) {
      let resolve = () => {};
      const promise = new Promise((yes) => {
        resolve = () => yes(undefined);
      });
      this.#away = { promise, resolve };
    }
    this.#emit("reconnecting", { reason });
  }

  async #comeBack() {
    for (let attempt = 0; this.state === "reconnecting"; attempt++) {
      await this.#pause(BACKOFF_MS[Math.min(attempt, BACKOFF_MS.length - 1)]);
      if (this.state !== "reconnecting") return;
      try {
        const joined = await this.#join(this.#resumeKey);
        if (/** @type {string} */ (this.state) === "closed") return void this.#signalling?.close();
        this.#returned(joined);
        return;
      } catch (error) {
        if (error.code === "resume-failed") this.#resumeKey = null; // the old session is gone; a new one is welcome
        else if (error.code === "overloaded") await this.#wait(error);
        else if (FINAL.includes(error.code)) return void this.#close(error.code, error.message);
      }
    }
  }

  #returned(joined) {
    const away = this.#away;
    this.#away = null;
    if (joined.resumed && this.#peer) {
      this.joined = joined;
      this.state = "joined";
      this.#peer.useIceServers(joined.ice_servers); // with credentials that are good for a while again
      this.#emit("resumed", { joined });
      this.#catchUp(joined);
    } else {
      this.#begin(joined);
    }
    away?.resolve();
  }

  /** The media connection can't be saved: leave the session and join with a new one. */
  #startAnew() {
    if (this.state === "closed") return;
    this.#resumeKey = null;
    const signalling = this.#signalling;
    this.#signalling = null;
    signalling?.send({ type: "leave", id: 0 });
    signalling?.close();
    if (this.state === "reconnecting") return;
    this.#goAway("the media connection was lost");
    this.#comeBack();
  }

  #networkChanged() {
    this.#wake();
    this.#signalling?.probe();
    this.#peer?.networkChanged();
  }

  /** Waits, but no longer than until the network is back. */
  #pause(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms * (0.75 + 0.5 * Math.random()));
      this.#wake = () => {
        clearTimeout(timer);
        resolve(undefined);
      };
    });
  }

  #close(code, message) {
    if (this.state === "closed") return;
    this.state = "closed";
    removeEventListener("online", this.#onOnline);
    NETWORK?.removeEventListener("change", this.#onOnline);
    removeEventListener("pagehide", this.#onPageHide);
    this.#wake();
    const signalling = this.#signalling;
    this.#signalling = null;
    this.#away?.resolve();
    this.#ages.close();
    signalling?.close();
    this.#peer?.close();
    this.#emit("closed", { code, message });
  }

  // -- what the server says -----------------------------------------------------------------------------------------

  #receive(signalling, message) {
    if (this.#signalling && signalling !== this.#signalling) return;
    switch (message.type) {
      case "participant-joined":
        return this.#participantJoined(message.participant);
      case "participant-left":
        return this.#participantLeft(message.participant, message.reason);
      case "track-added":
      case "track-changed":
        return this.#trackSeen(message.track);
      case "track-freshness":
        return this.#trackFreshness(message);
      case "track-removed":
        this.#wishes.delete(message.track);
        return this.#trackRemoved(message.track);
      case "quality":
        return this.#onQuality(message.quality);
      case "encodings":
        return this.#onEncodings(message);
      case "speaker":
        return this.#onSpeaker(message.participant);
      case "recording":
        return this.#onRecording(message);
      case "consent-asked":
        return this.#emit("consent-asked", { terms: message.terms, by: message.by });
      case "participant-consent":
        return this.#onConsent(message);
      case "error":
        return this.#onError(signalling, message);
      default:
        return undefined; // a newer server may say more than this client knows
    }
  }

  #participantJoined(participant) {
    const known = this.participants.has(participant.id);
    this.participants.set(participant.id, participant);
    if (!known) this.#emit("participant-joined", { participant });
  }

  #participantLeft(id, reason) {
    const participant = this.participants.get(id);
    if (this.participants.delete(id)) this.#emit("participant-left", { participant, reason });
  }

  #trackSeen(track) {
    const known = this.tracks.has(track.id);
    this.tracks.set(track.id, track);
    this.#emit(known ? "track-changed" : "track-added", { track });
    const remote = track.participant !== this.participant;
    if (!known && remote && this.#options.autoSubscribe && this.may("subscribe")) {
      this.subscribe(track.id).catch((error) => this.#emit("error", { error }));
    }
  }

  #trackFreshness({ track: id, state }) {
    const known = this.tracks.get(id);
    if (known) this.#trackSeen({ ...known, freshness: state });
  }

  #trackRemoved(id) {
    const track = this.tracks.get(id);
    if (!this.tracks.delete(id)) return;
    this.qualities.delete(id);
    this.#ages.forget(id);
    if (track.source === "microphone" && track.participant === this.speaker) this.#onSpeaker(null);
    this.#emit("track-removed", { track });
    this.#peer?.release(id).catch((error) => this.#emit("error", { error }));
  }

  #onQuality(quality) {
    this.qualities.set(quality.track, quality);
    this.#emit("quality", { quality });
  }

  #onEncodings({ track, wanted }) {
    const publication = [...this.publications].find(({ id }) => id === track);
    if (publication?.outgoing) this.#peer?.want(publication.outgoing, wanted);
  }

  /** @param {string | null} participant */
  #onSpeaker(participant) {
    if (participant === this.speaker) return;
    this.speaker = participant;
    this.#emit("speaker", { participant });
  }

  #onRecording({ state, recording, detail, whose, tracks }) {
    this.recording = { state, recording, detail, whose, tracks };
    this.#emit("recording", this.recording);
  }

  #onConsent({ participant, consent, sources }) {
    const known = this.participants.get(participant);
    if (known) this.participants.set(participant, { ...known, consent, consent_sources: sources });
    if (participant === this.participant) {
      this.#agreed = consent === "given" && this.#agreed ? { ...this.#agreed, sources } : null;
    }
    this.#emit("consent", { participant, consent, sources });
  }

  #onError(signalling, { code, message, line, fatal }) {
    if (!fatal) return this.#emit("error", { error: new SignallingError(code, message, { line }) });
    if (FINAL.includes(code)) return this.#close(code, message);
    if (code === "timeout") this.#resumeKey = null; // the media fell silent for so long that the session was ended
    return signalling.close(message);
  }

  // -- media --------------------------------------------------------------------------------------------------------

  async #send(publication, maxBitrate) {
    const peer = /** @type {Peer} */ (this.#peer);
    const { source, label, track, simulcast } = publication;
    const { degradation, rank, maxBitrate: usual, ...rest } = profile(source);
    const encodings = (simulcast && rest.encodings) || [{}];
    const most = maxBitrate ?? usual;
    const priority = /** @type {RTCPriorityType} */ (rank === 0 ? "high" : "medium");
    publication.outgoing = await peer.publish(track, {
      source,
      label,
      degradation,
      // The priority is the sender's: Chromium refuses it at any encoding but the first.
      encodings: encodings.map((one, index) => ({
        ...one,
        maxBitrate: Math.min(one.maxBitrate ?? most, most),
        ...(index === 0 ? { priority } : {}),
      })),
    });
    if (publication.muted) await publication.mute(true);
  }

  #onMedia(incoming) {
    const info = this.tracks.get(incoming.id);
    const { receiver, mid } = incoming.transceiver;
    if (info) this.#emit("media", { info, track: receiver.track, receiver, mid });
  }

  #lose(publication, reason) {
    if (!this.publications.has(publication)) return;
    this.stop(publication).catch(() => {});
    this.#emit("publication-ended", { publication, reason });
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
