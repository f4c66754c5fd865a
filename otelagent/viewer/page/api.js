// @ts-check
// What the page asks the viewer. The token of the address is swapped for a cookie before anything else.
import { parameters } from "./state.js";

export class ApiError extends Error {
  /** @param {number} status @param {string} code @param {string} message */
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/**
 * A shared file has its trace inside, and no viewer behind it.
 *
 * @type {{trace: import("./answers.js").TraceData, spans: Record<string, import("./answers.js").SpanData>} | null}
 */
export const embedded = read();

function read() {
  const text = document.getElementById("embedded")?.textContent;
  return text ? JSON.parse(text) : null;
}

/** @param {string} path */
function fromFile(path) {
  const [kind, trace, , span] = path.split("/");
  if (kind === "traces" && trace === embedded?.trace.id) {
    if (!span) return embedded.trace;
    if (embedded.spans[span]) return embedded.spans[span];
  }
  throw new ApiError(404, "not_here", "This file has one trace, and of a very large one not every detail.");
}

/** How long a browser may take to begin with a file. */
const REVOKE_MS = 60_000;

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
  session = fetch("/api/session", { method: "POST", body: token }).then(
    () => undefined,
    () => undefined,
  );
}

/** When the page may ask. */
export function ready() {
  return session;
}

/**
 * @param {string} path below /api/
 * @param {import("./state.js").Query} [query]
 * @param {RequestInit} [options]
 * @returns {Promise<any>}
 */
export async function ask(path, query = {}, options = {}) {
  if (embedded) return fromFile(path);
  await session;
  const address = new URL(`/api/${path}`, location.origin);
  address.search = parameters(query).toString();
  return JSON.parse(await (await fetched(address, options)).text());
}

/** Saves what the viewer answers as a file. @param {string} address @param {string} name of the file */
export async function save(address, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await (await fetched(address, {})).blob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), REVOKE_MS);
}

/** @param {URL | string} address @param {RequestInit} options */
async function fetched(address, options) {
  let answer;
  try {
    answer = await fetch(address, { credentials: "same-origin", ...options });
  } catch (error) {
    if (/** @type {Error} */ (error).name === "AbortError") throw error;
    throw new ApiError(0, "gone", "The viewer doesn't answer: it may have ended. “otelagent ui” starts another one and prints its address.");
  }
  if (answer.ok) return answer;
  let told;
  try {
    told = JSON.parse(await answer.text()).error;
  } catch {
    told = undefined;
  }
  throw new ApiError(answer.status, told?.code ?? "failed", told?.message ?? `The viewer answered ${answer.status}.`);
}
