// @ts-check
// What the whole page shares: where it is (in the address), what has changed, how it looks.
import { effect, signal, useRef } from "./html.js";

/**
 * The place: `#/traces?service=shop`, `#/trace/<id>?span=<id>`.
 *
 * @returns {{path: string[], query: URLSearchParams}}
 */
function read() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?", 2);
  return { path: path ? path.split("/").map(decodeURIComponent) : ["traces"], query: new URLSearchParams(query ?? "") };
}

export const place = signal(read());
addEventListener("hashchange", () => {
  place.value = read();
});

/** @param {string[]} path @param {Record<string, any> | URLSearchParams} [query] */
export function address(path, query = {}) {
  const parameters = query instanceof URLSearchParams ? query : new URLSearchParams();
  if (!(query instanceof URLSearchParams)) {
    for (const [name, value] of Object.entries(query)) {
      for (const one of Array.isArray(value) ? value : [value]) {
        if (one !== undefined && one !== null && one !== "" && one !== false) parameters.append(name, String(one === true ? 1 : one));
      }
    }
  }
  const text = parameters.toString();
  return `#/${path.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

/** Goes there; `replace` leaves no step in the history. @param {string[]} path @param {any} [query] @param {boolean} [replace] */
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
export const connected = signal(true);
export const live = signal(true);

/** As `changes`, but at most once a second: for what takes the viewer longer to answer. */
export const changesSlowly = signal(0);
let due = false;
effect(() => {
  if (due || changes.value === changesSlowly.peek()) return;
  due = true;
  setTimeout(() => {
    due = false;
    changesSlowly.value = changes.peek();
  }, 1000);
});

/** A number that grows with what has changed; while the page is paused it is the last one before. @param {number} now */
export function useNews(now) {
  const shown = useRef(now);
  if (live.value) shown.current = now;
  return shown.current;
}

export const theme = signal(stored("theme") ?? "auto");

/** @param {string} name */
function stored(name) {
  try {
    return localStorage.getItem(`otelagent-${name}`);
  } catch {
    return null;
  }
}

/** @param {string} value auto, light or dark */
export function setTheme(value) {
  theme.value = value;
  document.documentElement.dataset.theme = value;
  try {
    localStorage.setItem("otelagent-theme", value);
  } catch {
    // A browser that keeps nothing.
  }
}
document.documentElement.dataset.theme = theme.value;

const HUES = [250, 150, 30, 320, 200, 75, 0, 275, 175, 110, 345, 225];
/** @type {Map<string, number>} */
const hues = new Map();

/** A service's colour: of the first twelve each has its own. @param {string} service */
export function colour(service) {
  if (!hues.has(service)) hues.set(service, HUES[hues.size % HUES.length]);
  return `oklch(var(--bar-l) var(--bar-c) ${hues.get(service)})`;
}
