/**
 * The WebSocket to the server: requests with replies, messages from the server, and a heartbeat that finds a
 * dead connection. It knows nothing of media, and it does not reconnect by itself; `client.js` does.
 */

/** A request that the server refused, or that could not be carried. */
export class SignallingError extends Error {
  /**
   * @param {string} code stable, for programs; `disconnected` and `timeout` are made here, the rest by the server
   * @param {string} message for people
   * @param {{ line?: string | null, fatal?: boolean, retrySeconds?: number | null }} [more] `line`: the SDP line that an
   *   offer failed on; `retrySeconds`: when a server at its limit (`overloaded`) is worth another try
   */
  constructor(code, message, more = {}) {
    super(message);
    this.name = "SignallingError";
    this.code = code;
    this.line = more.line ?? null;
    this.fatal = more.fatal ?? false;
    this.retrySeconds = more.retrySeconds ?? null;
  }
}

const REQUEST_TIMEOUT_MS = 10_000;
const PING_EVERY_MS = 5_000;
const PONG_WITHIN_MS = 5_000;
/** A few at the beginning, so that the server's clock is soon known. */
const CLOCK_PINGS_MS = [0, 300, 900];
/** When there is cause for doubt. */
const PROBE_WITHIN_MS = 1_500;
/** When media are silent as well; and so many round trips at least. */
const SILENT_WITHIN_MS = 500;
const SILENT_ROUND_TRIPS = 3;

/**
 * One WebSocket connection. Events: `message` (detail: a server message that answers no request), `time` (detail:
 * `{sent, received, time}` of a ping: performance.now() here, and the server's clock in between) and `close` (detail:
 * `{code, reason}`), once, however the connection ended.
 */
export class Signalling extends EventTarget {
  #socket;
  #nextId = 1;
  /** @type {Map<number, {resolve: (reply: any) => void, reject: (error: Error) => void, timer: number}>} */
  #pending = new Map();
  #heartbeat = 0;
  #closed = false;
  /** @type {{sent: number, answer: Promise<boolean>} | null} the ping that is on its way; whether there is an answer */
  #asked = null;
  /** of the last ping, ms */
  #roundTrip = 0;

  /** @param {string | URL} url `ws:` or `wss:` */
  constructor(url) {
    super();
    this.#socket = new WebSocket(url);
    this.opened = new Promise((resolve, reject) => {
      this.#socket.addEventListener("open", () => resolve(undefined), { once: true });
      this.addEventListener("close", () => reject(new SignallingError("disconnected", "the server can't be reached")), {
        once: true,
      });
    });
    this.opened.catch(() => {});
    this.#socket.addEventListener("message", (event) => this.#receive(event.data));
    this.#socket.addEventListener("close", (event) => this.#end(event.code, event.reason));
  }

  /** Asks the server whether it is there. What comes of that counts for the next probe. */
  ask() {
    if (this.#asked) return this.#asked;
    const sent = performance.now();
    const answer = this.request({ type: "ping" }).then(
      ({ time }) => {
        const received = performance.now();
        this.#roundTrip = received - sent;
        this.dispatchEvent(new CustomEvent("time", { detail: { sent, received, time } }));
        return true;
      },
      (error) => error.code !== "timeout",
    );
    this.#asked = { sent, answer };
    answer.finally(() => (this.#asked = null));
    return this.#asked;
  }

  /**
   * Ends the connection unless the server has answered within `ms` of being asked: a network that is gone does not say
   * so.
   */
  probe(ms = PROBE_WITHIN_MS) {
    const { sent, answer } = this.ask();
    const end = () => this.#end(4000, "no answer to a ping");
    const timer = setTimeout(end, Math.max(0, sent + ms - performance.now()));
    answer.then((answered) => {
      clearTimeout(timer);
      if (!answered) end();
    });
  }

  /** The same when media are silent too, which leaves little doubt. */
  probeInSilence() {
    this.probe(Math.max(SILENT_WITHIN_MS, SILENT_ROUND_TRIPS * this.#roundTrip));
  }

  /** Starts the heartbeat; called once the server has accepted the join. */
  watch() {
    for (const after of CLOCK_PINGS_MS) setTimeout(() => this.probe(PONG_WITHIN_MS), after);
    this.#heartbeat = setInterval(() => this.probe(PONG_WITHIN_MS), PING_EVERY_MS);
  }

  /**
   * Sends a request and waits for the reply that carries its id.
   * @param {{ type: string, [field: string]: any }} message without the id
   * @returns {Promise<any>} the reply; rejects with a SignallingError
   */
  request(message, timeout = REQUEST_TIMEOUT_MS) {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#pending.delete(id);
        reject(new SignallingError("timeout", `no answer to ${message.type} within ${timeout / 1000} s`));
      }, timeout);
      this.#pending.set(id, { resolve, reject, timer });
      if (!this.send({ id, ...message })) this.#settle(id, null, new SignallingError("disconnected", "not connected"));
    });
  }

  /**
   * Sends a message that has no reply.
   * @param {object} message
   * @returns {boolean} whether the socket was open
   */
  send(message) {
    if (this.#closed || this.#socket.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  close(reason = "closed here") {
    this.#end(1000, reason);
  }

  #receive(data) {
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return this.#end(4001, "the server sent something that is not JSON");
    }
    if (message.id != null && this.#pending.has(message.id)) {
      const failed =
        message.type === "error"
          ? new SignallingError(message.code, message.message, {
              line: message.line,
              fatal: message.fatal,
              retrySeconds: message.retry_seconds,
            })
          : null;
      this.#settle(message.id, message, failed);
    } else {
      this.dispatchEvent(new CustomEvent("message", { detail: message }));
    }
    return undefined;
  }

  #settle(id, reply, error) {
    const waiting = this.#pending.get(id);
    if (!waiting) return;
    this.#pending.delete(id);
    clearTimeout(waiting.timer);
    if (error) waiting.reject(error);
    else waiting.resolve(reply);
  }

  #end(code, reason) {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#heartbeat);
    if (this.#socket.readyState <= WebSocket.OPEN) this.#socket.close(code === 1000 || code >= 4000 ? code : 1000);
    for (const id of [...this.#pending.keys()]) {
      this.#settle(id, null, new SignallingError("disconnected", "the connection to the server was lost"));
    }
    this.dispatchEvent(new CustomEvent("close", { detail: { code, reason } }));
  }
}
