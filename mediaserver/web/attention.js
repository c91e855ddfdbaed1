/**
 * Tells the server what is looked at: how large each picture is on the screen, and which one is the large one. What
 * the line does not carry is then left out where it is least missed; the room's policy has the last word.
 */

/** A window that is being dragged changes its size many times a second; the encoder's layers need not follow. */
const SETTLE_MS = 300;
/** Sizes are told in steps, so that a pixel more is no news. */
const STEP = 20;
/** Of a picture that has not come yet. */
const USUAL_SHAPE = 9 / 16;
const FIRST_RANK = 0;

/**
 * The height of the picture itself in a box that it fills as far as its shape allows, in device pixels.
 * @param {HTMLVideoElement} video
 */
function shownHeight(video) {
  const shape = video.videoWidth ? video.videoHeight / video.videoWidth : USUAL_SHAPE;
  const height = Math.min(video.clientHeight, video.clientWidth * shape) * devicePixelRatio;
  return Math.ceil(height / STEP) * STEP;
}

export class Attention {
  #client;
  /** @type {Map<string, import("./tile.js").Tile>} */
  #tiles;
  #observer = new ResizeObserver(() => this.#later());
  #timer = 0;
  #large = /** @type {string | null} */ (null);
  /** @type {Map<string, string>} what was told of each track */
  #told = new Map();

  /** @param {import("./client.js").MediaClient} client @param {Map<string, import("./tile.js").Tile>} tiles by track */
  constructor(client, tiles) {
    this.#client = client;
    this.#tiles = tiles;
  }

  /** @param {import("./tile.js").Tile} tile */
  watch(tile) {
    this.#observer.observe(tile.video);
    tile.video.addEventListener("resize", () => this.#later()); // another shape
  }

  /** @param {import("./tile.js").Tile} tile */
  forget(tile) {
    this.#observer.unobserve(tile.video);
    this.#told.delete(tile.info.id);
  }

  /** @param {string | null} track the one that the viewer has chosen; null: none in particular */
  choose(track) {
    this.#large = track;
    this.#later();
  }

  #later() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#tell(), SETTLE_MS);
  }

  #tell() {
    const wishes = [];
    for (const [track, { info, video }] of this.#tiles) {
      const height = shownHeight(video);
      if (!height) continue; // not on the page now
      const usual = this.#client.joined?.budgets?.[info.source]?.rank ?? FIRST_RANK;
      const wish = { track, height, rank: track === this.#large ? FIRST_RANK : usual };
      const words = JSON.stringify(wish);
      if (this.#told.get(track) === words) continue;
      this.#told.set(track, words);
      wishes.push(wish);
    }
    // It is a wish: without it the pictures come all the same.
    if (wishes.length) this.#client.view(wishes).catch(() => {});
  }
}
