// The way to the proxy: calls with the key, and the stream of events, which comes back by itself when it was lost.

const KEY = "ollama-proxy key";
const PATIENCE = 6000; // ms without a tick, of which there is one a second
const LONGEST_PAUSE = 10000;

export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
  clear: () => sessionStorage.removeItem(KEY),
};

/** The proxy said no; `status` is what it answered. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Call a path below this page; throws Refused, or TypeError where the proxy cannot be reached. */
export async function call(path, options = {}) {
  const headers = { ...options.headers };
  if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
  const response = await fetch(path, { ...options, headers, cache: "no-store", credentials: "same-origin" });
  if (!response.ok) {
    const text = await response.text();
    let message = text;
    try {
      const document = JSON.parse(text);
      message = document.error ?? document.problems?.join("\n") ?? text;
    } catch { /* the text says it as it is */ }
    throw new Refused(response.status, typeof message === "string" ? message : text);
  }
  return response;
}

/**
 * Follow the events.
 *
 * `on.event(name, data)` is called for each, `on.state(state, detail)` with "connecting", "live", "lost" (detail:
 * milliseconds until the next try) and "refused" (detail: the Refused); then nothing happens until `resume`.
 */
export class Events {
  #on;
  #failures = 0;
  #abort = null;
  #timer = null;

  constructor(on) {
    this.#on = on;
    addEventListener("online", () => this.#timer && this.resume());
  }

  /** Connect now, whatever was planned. */
  resume() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#abort?.abort();
    this.#follow();
  }

  stop() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#abort?.abort();
  }

  async #follow() {
    const abort = (this.#abort = new AbortController());
    this.#on.state("connecting");
    try {
      const response = await call("events", { signal: abort.signal });
      await this.#read(response.body.getReader(), abort);
      throw new TypeError("the stream ended");
    } catch (error) {
      if (abort !== this.#abort || (abort.signal.aborted && abort.signal.reason !== "silence")) return;
      if (error instanceof Refused && [401, 403, 404].includes(error.status)) {
        this.#on.state("refused", error);
        return;
      }
      this.#failures += 1;
      const pause = Math.min(LONGEST_PAUSE, 500 * 2 ** (this.#failures - 1));
      this.#on.state("lost", pause);
      this.#timer = setTimeout(() => this.resume(), pause);
    }
  }

  async #read(reader, abort) {
    const decoder = new TextDecoder();
    let text = "";
    for (;;) {
      const silence = setTimeout(() => abort.abort("silence"), PATIENCE);
      const { done, value } = await reader.read().finally(() => clearTimeout(silence));
      if (done) return;
      const events = (text + decoder.decode(value, { stream: true })).split("\n\n");
      text = events.pop();
      for (const event of events) this.#tell(event);
    }
  }

  #tell(event) {
    const fields = Object.fromEntries(event.split("\n").map((line) => line.split(/: (.*)/s, 2)));
    if (fields.event === "status") {
      this.#failures = 0;
      this.#on.state("live");
    }
    this.#on.event(fields.event, JSON.parse(fields.data));
  }
}
