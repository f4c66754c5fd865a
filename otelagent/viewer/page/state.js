// @ts-check
// What the whole page shares: where it is (in the address), what has changed, what it tells, how it looks.
import { signal, useRef } from "./html.js";
import { keep, kept } from "./kept.js";

/**
 * The place: `#/traces?service=shop`, `#/trace/<id>?span=<id>`.
 *
 * @returns {{path: string[], query: URLSearchParams}}
 */
function read() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?", 2);
  return { path: path ? path.split("/").map(decoded) : ["traces"], query: new URLSearchParams(query ?? "") };
}

/** @param {string} part */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export const place = signal(read());
addEventListener("hashchange", () => {
  place.value = read();
});

/** @typedef {Record<string, unknown> | URLSearchParams} Query what is empty is left out, a list repeats its name */

/** @param {Query} query */
export function parameters(query) {
  if (query instanceof URLSearchParams) return query;
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined && one !== null && one !== "" && one !== false) found.append(name, String(one === true ? 1 : one));
    }
  }
  return found;
}

/** @param {string[]} path @param {Query} [query] */
export function address(path, query = {}) {
  const text = parameters(query).toString();
  return `#/${path.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

/** Goes there; `replace` leaves no step in the history. @param {string[]} path @param {Query} [query] @param {boolean} [replace] */
export function go(path, query, replace = false) {
  const target = address(path, query);
  if (target === location.hash) return;
  if (replace) {
    history.replaceState(null, "", target);
    place.value = read();
  } else {
    location.hash = target;
  }
}

/** Grows with each change of the store. */
export const changes = signal(0);
/** The number of the last change that didn't name every trace that it touched. */
export const unnamed = signal(0);
/** Traces that have changed since the page was opened: id -> the number of the change. */
export const changed = signal(/** @type {Map<string, number>} */ (new Map()));
/** Whether the viewer answers: `yes`, `no` (it may come back), `token` (another run of it, which doesn't know this page). */
export const connection = signal(/** @type {"yes" | "no" | "token"} */ ("yes"));
/** Whether the page follows what comes. */
export const live = signal(true);

/** A number that grows with what has changed; while the page is paused it is the last one before. @param {number} now */
export function useNews(now) {
  const shown = useRef(now);
  if (live.value) shown.current = now;
  return shown.current;
}

export const helping = signal(false);

/** @typedef {{text: string, bad?: boolean, href?: string, link?: string}} Notice */
export const notice = signal(/** @type {Notice | null} */ (null));
let ends = 0;

/** Tells something for a while. @param {Notice} what */
export function tell(what) {
  notice.value = what;
  clearTimeout(ends);
  ends = setTimeout(() => (notice.value = null), what.bad || what.href ? 12_000 : 4_000);
}

/** @param {string} text */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    tell({ text: "Copied." });
  } catch {
    tell({ text: "The browser doesn't let this page copy.", bad: true });
  }
}

/** @typedef {"auto" | "light" | "dark"} Theme */
const first = kept("theme");
export const theme = signal(/** @type {Theme} */ (first === "light" || first === "dark" ? first : "auto"));
document.documentElement.dataset.theme = theme.value;

/** @param {Theme} value */
export function setTheme(value) {
  theme.value = value;
  document.documentElement.dataset.theme = value;
  keep("theme", value);
}

/** Grows when the system's colours change, which what is drawn on a canvas must follow. */
export const look = signal(0);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => (look.value += 1));
