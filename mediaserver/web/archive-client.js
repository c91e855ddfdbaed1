/** The archive's interface as the pages use it (`/openapi.json`, tag "archive"). */

const BASE = new URL("../api/archive/", import.meta.url);

export class ArchiveClient {
  #token;

  /** @param {string} token */
  constructor(token) {
    this.#token = token;
  }

  /**
   * @param {string} path below the archive's interface
   * @param {{ method?: string, body?: any, signal?: AbortSignal }} [options] `body` is sent as JSON
   */
  async ask(path, { method = "GET", body, signal } = {}) {
    const headers = { Authorization: `Bearer ${this.#token}`, ...(body && { "Content-Type": "application/json" }) };
    const response = await fetch(new URL(path, BASE), { method, headers, signal, body: body && JSON.stringify(body) });
    if (response.status === 401 || response.status === 403) throw new Error("This token does not open the archive, or not this part of it.");
    if (response.status === 204) return null;
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) throw new Error(answer.detail ?? answer.title ?? `the server answered ${response.status}`);
    return answer;
  }

  /** Media elements and downloads can't carry a header, so the token goes into the address. */
  address(path, query = {}) {
    return `${new URL(path, BASE)}?${new URLSearchParams({ ...query, token: this.#token })}`;
  }
}

/** The path of a recording, or of something below it. @param {string} id @param {...string} below */
export const of = (id, ...below) => ["recordings", id, ...below].map(encodeURIComponent).join("/");
