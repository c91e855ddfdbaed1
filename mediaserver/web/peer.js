/**
 * The one RTCPeerConnection of a client: what it publishes, what it subscribes to, and the offers that keep the
 * server in step. The client always offers, the server always answers, and one offer at a time is on its way;
 * whatever changes meanwhile goes into the next.
 */

/** @type {RTCConfiguration} */
const CONFIGURATION = { bundlePolicy: "max-bundle", rtcpMuxPolicy: "require" };
const ABS_CAPTURE_TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";
/** A path that is gone for this long is tried anew, before the browser itself calls it failed. */
const RESTART_AFTER_MS = 2_500;
/** Senders report every second, whatever there is to see; when nothing at all comes for so long, the path is gone. */
const SILENT_MS = 1_500;
/** Where packets come all the time, media or feedback about what is sent, much less says so. */
const CUT_OFF_MS = 500;
const LISTEN_EVERY_MS = 150;
/** Packets from one look to the next with which they come all the time: 7 a second. */
const FLOWING = 1;
/** So long it is remembered that a path was thought to be gone. */
const ALARM_MS = 30_000;
/** When the network has changed, what still flows is heard within this. */
const PROOF_MS = 300;
/** ICE restarts in a row without success after which the session is given up for a new one. */
const RESTARTS_AT_MOST = 2;
/** An encoding that nobody wants is sent for so long: a viewer may come back, and a new one begins with a keyframe. */
const UNWANTED_FOR_MS = 10_000;

/**
 * Browsers built on libwebrtc repair lost sound both ways (RFC 4585, generic NACK) when the answer says so, though they
 * do not offer it. So it is offered for them; others let it lie.
 * @param {string} sdp
 */
function withSoundRepair(sdp) {
  return sdp.replaceAll(/^a=rtpmap:(\d+) opus\/48000\/2\r\n(?![^]*^a=rtcp-fb:\1 nack\r\n)/gm, "$&a=rtcp-fb:$1 nack\r\n");
}

/**
 * @typedef {object} Outgoing a published track on this connection
 * @property {RTCRtpTransceiver} transceiver
 * @property {string} source
 * @property {string} label
 * @property {string | null} id the server's name of the track, once answered
 * @property {boolean} answered
 * @property {Set<string> | null} wanted rids of the encodings that the server has a use for; null: all
 * @property {number} trimming timer
 * @property {Promise<void>} changing one change of the sender's parameters after the other
 */
/**
 * @typedef {object} Incoming a subscribed track on this connection
 * @property {RTCRtpTransceiver} transceiver
 * @property {string} id the server's name of the track
 * @property {boolean} bound whether the server sends it here
 * @property {number} attempts offers that asked for it in vain
 */

/**
 * Events: `media` (detail: the Incoming), `unavailable` (detail: the track's id and the reason), `state` (detail:
 * RTCPeerConnectionState), `doubt` when nothing has come for half as long as makes it `silent`: then nothing comes any more
 * and a new path is looked for, and `dead` when no ICE restart brought the connection back.
 */
export class Peer extends EventTarget {
  #exchange;
  #running = false;
  /** @type {{promise: Promise<void>, resolve: () => void, reject: (error: unknown) => void} | null} */
  #next = null;
  /** @type {Set<RTCRtpTransceiver>} receivers that the next answer sets free */
  #freed = new Set();
  /** @type {RTCRtpTransceiver[]} receivers for the next subscriptions */
  #idle = [];
  /** @type {Map<string, Map<string, string>>} by kind: the direction of each header extension */
  #extensions = new Map();
  #restarts = 0;
  #restartTimer = 0;
  #listenTimer = 0;
  /** what has come, and when it was last found to be more */
  #heard = { packets: 0, at: 0, flow: 0, doubted: false, lost: false };
  /** how often the path was thought to be gone of late, and when last */
  #alarms = { count: 0, at: 0 };

  /**
   * @param {(offer: {sdp: string, publish: object[], subscribe: object[]}) => Promise<import("./protocol.d.ts").Answer>} exchange
   *   carries an offer to the server and brings its answer; rejects when the server refuses
   */
  constructor(exchange) {
    super();
    this.#exchange = exchange;
    /** @type {Set<Outgoing>} */
    this.outgoing = new Set();
    /** @type {Map<string, Incoming>} by the server's name of the track */
    this.incoming = new Map();
    this.connection = new RTCPeerConnection(CONFIGURATION);
    // The first m-line names the BUNDLE group, and Chromium ends the whole transport when it is stopped. So it is one
    // that carries nothing and stays.
    this.#extend(this.connection.addTransceiver("audio", { direction: "inactive" }));
    this.connection.addEventListener("connectionstatechange", () => this.#follow());
    // The first offer of a page takes long: the browser starts its media engine and makes a certificate. A peer is
    // made before it is needed, so this goes on while the server is asked for admission.
    this.connection.createOffer().catch(() => {});
    this.#listenTimer = setInterval(() => this.#listen(), LISTEN_EVERY_MS);
  }

  /** @param {RTCIceServer[]} iceServers to be used from the next offer on */
  useIceServers(iceServers) {
    if (iceServers.length) this.connection.setConfiguration({ ...CONFIGURATION, iceServers });
  }

  /**
   * @param {MediaStreamTrack} track
   * @param {{ source: string, label: string, encodings: RTCRtpEncodingParameters[], degradation?: string }} options
   * @returns {Promise<Outgoing>} when the server has accepted it
   */
  async publish(track, { source, label, encodings, degradation }) {
    const transceiver = this.#transceiver(track, encodings);
    this.#extend(transceiver);
    const changing = Promise.resolve();
    const outgoing = { transceiver, source, label, id: null, answered: false, wanted: null, trimming: 0, changing };
    this.outgoing.add(outgoing);
    await this.negotiate();
    if (degradation) await this.#change(outgoing, (parameters) => (parameters.degradationPreference = degradation));
    return outgoing;
  }

  #transceiver(track, encodings) {
    try {
      return this.connection.addTransceiver(track, { direction: "sendonly", sendEncodings: encodings });
    } catch {
      // No codec of this browser knows such layers.
      const plain = encodings.map(({ scalabilityMode, ...rest }) => rest);
      return this.connection.addTransceiver(track, { direction: "sendonly", sendEncodings: plain });
    }
  }

  /**
   * Sends the encodings that somebody wants at once, and after a while no others; of those that nobody wants the lowest
   * stays, so that a viewer who comes has a picture.
   * @param {Outgoing} outgoing @param {string[]} rids
   */
  want(outgoing, rids) {
    outgoing.wanted = new Set(rids);
    clearTimeout(outgoing.trimming);
    this.#activate(outgoing, false);
    outgoing.trimming = setTimeout(() => this.#activate(outgoing, true), UNWANTED_FOR_MS);
  }

  #activate(outgoing, trims) {
    return this.#change(outgoing, ({ encodings }) => {
      if (encodings.length < 2) return false;
      const before = encodings.map(({ active }) => active);
      encodings.forEach((encoding, index) => {
        const wanted = outgoing.wanted.has(encoding.rid) || (index === 0 && outgoing.wanted.size === 0);
        if (wanted || trims) encoding.active = wanted;
      });
      return encodings.some(({ active }, index) => active !== before[index]);
    });
  }

  /** @param {Outgoing} outgoing @returns {Promise<void>} */
  unpublish(outgoing) {
    if (!this.outgoing.delete(outgoing)) return Promise.resolve();
    clearTimeout(outgoing.trimming);
    outgoing.transceiver.stop();
    this.#heard.flow = 0;
    return this.negotiate();
  }

  /** @param {string} id the server's name of the track @param {"audio" | "video"} kind @returns {Promise<void>} */
  subscribe(id, kind) {
    if (this.incoming.has(id)) return Promise.resolve();
    const spare = this.#idle.findIndex((transceiver) => transceiver.receiver.track.kind === kind);
    let transceiver;
    if (spare >= 0) {
      [transceiver] = this.#idle.splice(spare, 1);
      transceiver.direction = "recvonly";
    } else {
      transceiver = this.connection.addTransceiver(kind, { direction: "recvonly" });
      this.#extend(transceiver);
    }
    this.incoming.set(id, { transceiver, id, bound: false, attempts: 0 });
    return this.negotiate();
  }

  /** Gives the receiver of a removed track back. @param {string} id @returns {Promise<void>} */
  release(id) {
    const incoming = this.incoming.get(id);
    if (!incoming) return Promise.resolve();
    this.incoming.delete(id);
    this.#heard.flow = 0; // less will come, or nothing
    incoming.transceiver.direction = "inactive";
    this.#freed.add(incoming.transceiver);
    return this.negotiate();
  }

  /** Looks for a new path to the server; media goes on over the old one as long as it carries. */
  restartIce() {
    clearTimeout(this.#restartTimer);
    this.#restartTimer = 0;
    this.connection.restartIce();
    return this.negotiate();
  }

  /** The device may be in another network now: unless media still flows, a new path is looked for at once. */
  async networkChanged() {
    const state = this.connection.connectionState;
    if (state === "disconnected" || state === "failed") return void this.restartIce().catch(() => {});
    await this.#listen(Infinity);
    setTimeout(() => this.#listen(0), PROOF_MS);
    return undefined;
  }

  close() {
    clearInterval(this.#listenTimer);
    clearTimeout(this.#restartTimer);
    for (const { trimming } of this.outgoing) clearTimeout(trimming);
    this.connection.close();
  }

  /**
   * Asks for the capture time of every frame, where the browser lets a page choose header extensions. What else is
   * asked for is what the first transceiver of the kind began with: to later ones Chromium hands down what the first
   * one agreed on, and the first of all carries nothing.
   */
  #extend(transceiver) {
    if (!transceiver.setHeaderExtensionsToNegotiate) return;
    const { kind } = transceiver.receiver.track;
    const extensions = transceiver.getHeaderExtensionsToNegotiate();
    if (!this.#extensions.has(kind)) {
      const usual = extensions.map(({ uri, direction }) => [uri, uri === ABS_CAPTURE_TIME ? "sendrecv" : direction]);
      this.#extensions.set(kind, new Map(usual));
    }
    const wanted = this.#extensions.get(kind);
    for (const extension of extensions) extension.direction = wanted?.get(extension.uri) ?? extension.direction;
    transceiver.setHeaderExtensionsToNegotiate(extensions);
  }

  get #closed() {
    return this.connection.signalingState === "closed";
  }

  /** @returns {Promise<void>} when an answer has come to an offer with all that is wanted now */
  negotiate() {
    if (!this.#next) {
      let resolve = () => {};
      let reject = (/** @type {unknown} */ _error) => {};
      const promise = new Promise((yes, no) => {
        [resolve, reject] = [() => yes(undefined), no];
      });
      promise.catch(() => {});
      this.#next = { promise, resolve, reject };
    }
    const { promise } = this.#next;
    if (!this.#running) this.#run();
    return promise;
  }

  async #run() {
    this.#running = true;
    await Promise.resolve(); // what one turn of the event loop asks for goes into one offer
    while (this.#next && !this.#closed) {
      const batch = this.#next;
      this.#next = null;
      try {
        await this.#round();
        batch.resolve();
      } catch (error) {
        batch.reject(error);
      }
    }
    this.#running = false;
  }

  async #round() {
    const offer = await this.connection.createOffer();
    await this.connection.setLocalDescription(offer);
    const publish = [...this.outgoing].filter((out) => out.transceiver.mid !== null);
    const subscribe = [...this.incoming.values()].filter((incoming) => incoming.transceiver.mid !== null);
    const freed = [...this.#freed];
    let answer;
    try {
      answer = await this.#exchange({
        sdp: withSoundRepair(offer.sdp ?? ""),
        publish: publish.map(({ transceiver, source, label }) => ({ mid: transceiver.mid, source, label })),
        subscribe: subscribe.map(({ transceiver, id }) => ({ mid: transceiver.mid, track: id })),
      });
    } catch (error) {
      if (!this.#closed) await this.#takeBack(publish, subscribe);
      throw error;
    }
    if (this.#closed) throw new DOMException("the connection was closed", "AbortError");
    await this.connection.setRemoteDescription({ type: "answer", sdp: answer.sdp });
    this.#settle(answer, publish, subscribe);
    for (const transceiver of freed) {
      this.#freed.delete(transceiver);
      if (transceiver.direction === "inactive") this.#idle.push(transceiver);
    }
  }

  /** Takes over what the answer says. */
  #settle(answer, publish, subscribe) {
    const bound = new Map(answer.bound.map(({ mid, track }) => [mid, track]));
    const refused = new Map(answer.refused?.map(({ mid, reason }) => [mid, reason]));
    for (const outgoing of publish) {
      outgoing.answered = true;
      outgoing.id = bound.get(outgoing.transceiver.mid) ?? outgoing.id;
    }
    for (const incoming of subscribe) {
      if (this.incoming.get(incoming.id) !== incoming) continue; // released while the offer was on its way
      if (bound.get(incoming.transceiver.mid) !== incoming.id) {
        const reason = refused.get(incoming.transceiver.mid) ?? "";
        this.dispatchEvent(new CustomEvent("unavailable", { detail: { id: incoming.id, reason } }));
        this.release(incoming.id);
      } else if (!incoming.bound) {
        incoming.bound = true;
        this.dispatchEvent(new CustomEvent("media", { detail: incoming }));
      }
    }
  }

  /** After a refused offer: what was new in it is given up, subscriptions after a second try. */
  async #takeBack(publish, subscribe) {
    await this.connection.setLocalDescription({ type: "rollback" });
    for (const outgoing of publish.filter(({ answered }) => !answered)) {
      this.outgoing.delete(outgoing);
      outgoing.transceiver.stop();
    }
    for (const incoming of subscribe.filter(({ bound }) => !bound)) {
      incoming.attempts += 1;
      if (incoming.attempts < 2) {
        this.negotiate();
      } else {
        this.incoming.delete(incoming.id);
        incoming.transceiver.stop();
        const detail = { id: incoming.id, reason: "the server refused the offer" };
        this.dispatchEvent(new CustomEvent("unavailable", { detail }));
      }
    }
  }

  /** @param {Outgoing} outgoing @param {(parameters: any) => any} edit false: there is nothing to change */
  #change(outgoing, edit) {
    outgoing.changing = outgoing.changing.then(async () => {
      const { sender } = outgoing.transceiver;
      const parameters = sender.getParameters();
      // Browsers that do not know a parameter refuse it; they then do as they see fit.
      if (edit(parameters) !== false) await sender.setParameters(parameters).catch(() => {});
    });
    return outgoing.changing;
  }

  #follow() {
    const state = this.connection.connectionState;
    if (state === "connected") {
      this.#restarts = 0;
      clearTimeout(this.#restartTimer);
      this.#restartTimer = 0;
    } else if (state === "disconnected" && !this.#restartTimer) {
      this.#restartTimer = setTimeout(() => this.#tryAgain(), RESTART_AFTER_MS);
    } else if (state === "failed") {
      this.#tryAgain();
    }
    this.dispatchEvent(new CustomEvent("state", { detail: state }));
  }

  /**
   * How long (ms) nothing may come. A line that only stutters is not to cost an offer each time, so after each alarm it
   * is twice as long.
   */
  #patience(now) {
    if (this.#heard.flow < FLOWING) return SILENT_MS;
    const alarms = now - this.#alarms.at < ALARM_MS ? this.#alarms.count : 0;
    return Math.min(SILENT_MS, CUT_OFF_MS * 2 ** alarms);
  }

  /** Restarts ICE when nothing has come for so long (ms) where something came before; once for each silence. */
  async #listen(patience = -1) {
    if (this.connection.connectionState !== "connected") return;
    let packets = 0;
    for (const stats of (await this.connection.getStats()).values()) {
      if (stats.type === "candidate-pair") packets += stats.packetsReceived ?? stats.bytesReceived ?? 0;
    }
    const now = performance.now();
    if (packets !== this.#heard.packets) {
      // Over the last second or so; another pair counts from nothing.
      const flow = 0.85 * this.#heard.flow + 0.15 * Math.max(0, packets - this.#heard.packets);
      this.#heard = { packets, at: now, flow, doubted: false, lost: false };
      return;
    }
    if (!packets || this.#heard.lost) return;
    const most = patience < 0 ? this.#patience(now) : patience;
    const silence = now - this.#heard.at;
    if (silence > most) {
      this.#heard.lost = true;
      this.#alarms = { count: now - this.#alarms.at < ALARM_MS ? this.#alarms.count + 1 : 1, at: now };
      this.dispatchEvent(new CustomEvent("silent"));
      this.restartIce().catch(() => {});
    } else if (silence > most / 2 && !this.#heard.doubted) {
      this.#heard.doubted = true;
      this.dispatchEvent(new CustomEvent("doubt"));
    }
  }

  #tryAgain() {
    if (this.#closed) return;
    this.#restarts += 1;
    if (this.#restarts > RESTARTS_AT_MOST) this.dispatchEvent(new CustomEvent("dead"));
    else this.restartIce().catch(() => {});
  }
}
