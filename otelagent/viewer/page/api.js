// @ts-check
// What the page asks the viewer. The token of the address is swapped for a cookie before anything else.

export class ApiError extends Error {
  /** @param {number} status @param {string} code @param {string} message */
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** A shared file has its trace inside, and no viewer behind it. */
export const embedded = read();

/** @returns {{trace: any, spans: Record<string, any>} | null} */
function read() {
  const text = document.getElementById("embedded")?.textContent;
  return text ? JSON.parse(text) : null;
}

/** @param {string} path */
function fromFile(path) {
  const [, trace, , span] = path.split("/");
  if (path.startsWith("traces/") && trace === embedded?.trace.id) {
    if (!span) return embedded.trace;
    if (embedded.spans[span]) return embedded.spans[span];
  }
  throw new ApiError(404, "not_here", "This file has one trace, and of a very large one not every detail.");
}

let session = Promise.resolve();

/** Swaps the token in the address for a cookie, and takes it out of the address. */
export function begin() {
  if (embedded) {
    if (!location.hash) location.hash = `#/trace/${embedded.trace.id}`;
    return;
  }
  const address = new URL(location.href);
  const token = address.searchParams.get("token");
  if (!token) return;
  address.searchParams.delete("token");
  history.replaceState(null, "", address);
  session = fetch("/api/session", { method: "POST", body: token }).then(() => undefined);
}

/**
 * @param {string} path below /api/
 * @param {Record<string, unknown>} [query] what is empty is left out
 * @param {RequestInit} [options]
 * @returns {Promise<any>}
 */
export async function ask(path, query = {}, options = {}) {
  if (embedded) return fromFile(path);
  await session.catch(() => undefined);
  const address = new URL(`/api/${path}`, location.origin);
  for (const [name, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined && one !== null && one !== "" && one !== false) address.searchParams.append(name, String(one === true ? 1 : one));
    }
  }
  let answer;
  try {
    answer = await fetch(address, { credentials: "same-origin", ...options });
  } catch (error) {
    if (/** @type {Error} */ (error).name === "AbortError") throw error;
    throw new ApiError(0, "gone", "The viewer doesn't answer: it may have ended. Start it again with “otelagent ui”.");
  }
  const text = await answer.text();
  if (!answer.ok) {
    let told;
    try {
      told = JSON.parse(text).error;
    } catch {
      told = undefined;
    }
    throw new ApiError(answer.status, told?.code ?? "failed", told?.message ?? `The viewer answered ${answer.status}.`);
  }
  return JSON.parse(text);
}

/**
 * Has a function called with what changes, as long as the page is open. One tab holds the stream and tells the others:
 * a browser allows only six connections to one host. A change with `more` doesn't name every trace that it touched.
 *
 * @param {(change: {traces: string[], more: boolean, spans: number, logs: number, points: number}) => void} listener
 * @param {(connected: boolean) => void} onState
 */
export function watch(listener, onState) {
  if (embedded) return;
  const channel = new BroadcastChannel("otelagent-changes");
  channel.onmessage = (event) => {
    if (event.data.change) listener(event.data.change);
    else onState(event.data.connected);
  };
  // Whether changes may have come that nobody has heard of: another tab held the stream, or it was broken.
  let missed = false;
  const hold = () =>
    new Promise(() => {
      const source = new EventSource("/api/events");
      const tell = (/** @type {boolean} */ connected) => {
        onState(connected);
        channel.postMessage({ connected });
      };
      const spread = (/** @type {any} */ change) => {
        listener(change);
        channel.postMessage({ change });
      };
      source.onopen = () => {
        tell(true);
        spread({ traces: [], more: missed, spans: 0, logs: 0, points: 0 });
        missed = true;
      };
      source.onerror = () => tell(false);
      source.onmessage = (event) => spread(JSON.parse(event.data));
    });
  session.catch(() => undefined).then(() => {
    const wait = () => {
      missed = true;
      navigator.locks.request("otelagent-changes", hold);
    };
    navigator.locks.request("otelagent-changes", { ifAvailable: true }, (lock) => (lock ? hold() : null)).then(wait);
  });
}
