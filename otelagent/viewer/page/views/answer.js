// @ts-check
// What the viewer answers, asked again as its store changes, and what is shown in its place until then.
import { html, useEffect, useRef, useState } from "../html.js";
import { ask } from "../api.js";
import { since } from "../model/period.js";
import { changes, connection, live, useNews } from "../state.js";

const TYPING_MS = 120;

/**
 * @template T
 * @param {string | string[]} path below /api/; empty asks nothing, several answer as a list
 * @param {Record<string, any>} [query] `last` (15m) is asked as `from`
 * @param {{everyMs?: number, follow?: "live" | "always" | "never", turn?: number}} [how] how often it is asked again at most;
 *   whether each change of the store is a reason, even while the page is paused; what else is one when it changes
 * @returns {{answer: T | null, error: import("../api.js").ApiError | null, asking: boolean}} while another question is
 *   asked, the answer is still the one before
 */
export function useAnswer(path, query = {}, { everyMs = 1000, follow = "live", turn = 0 } = {}) {
  const key = `${path}?${JSON.stringify(query)}`;
  const [state, setState] = useState({ key: "", answer: /** @type {T | null} */ (null), error: /** @type {any} */ (null) });
  const own = useRef({ timer: 0, at: 0, asking: /** @type {AbortController | null} */ (null), stale: false, first: true, paused: false });
  const news = useNews(changes.value);
  const paused = follow === "live" && !live.value;
  const seen = follow === "always" ? changes.value : follow === "live" ? news : 0;
  const run = () => {
    const it = own.current;
    const abort = new AbortController();
    Object.assign(it, { timer: 0, at: performance.now(), asking: abort, stale: false });
    const { last, ...rest } = query;
    const one = (/** @type {string} */ path) => ask(path, last ? { from: since(last), ...rest } : rest, { signal: abort.signal });
    (Array.isArray(path) ? Promise.all(path.map(one)) : one(path))
      .then(
        (answer) => it.asking === abort && setState({ key, answer, error: null }),
        (error) => it.asking === abort && setState((before) => ({ key, answer: before.key === key ? before.answer : null, error })),
      )
      .finally(() => {
        if (it.asking !== abort) return;
        it.asking = null;
        if (it.stale) it.timer = setTimeout(run, everyMs);
      });
  };
  const drop = () => {
    const it = own.current;
    clearTimeout(it.timer);
    it.asking?.abort();
    Object.assign(it, { timer: 0, asking: null, stale: false });
  };
  useEffect(() => {
    drop();
    if (path) own.current.timer = setTimeout(run, own.current.first ? 0 : TYPING_MS);
    own.current.first = false;
  }, [key]);
  useEffect(() => {
    const it = own.current;
    const stops = paused && !it.paused;
    it.paused = paused;
    if (stops) {
      // What was about to be asked again would move the page that somebody has just stopped.
      if (state.key === key) drop();
      it.stale = false;
    } else if (it.asking) it.stale = true;
    else if (!it.timer && path) it.timer = setTimeout(run, Math.max(0, it.at + everyMs - performance.now()));
  }, [seen, turn, connection.value, paused]);
  useEffect(() => drop, []);
  return { answer: state.answer, error: state.key === key ? state.error : null, asking: state.key !== key };
}

/** @param {{error: (Error & {status?: number}) | null}} properties */
export function Problem({ error }) {
  // That the viewer is gone or doesn't know the page is told once, above all pages.
  const told = connection.value !== "yes" && (error?.status === 0 || error?.status === 401);
  return error && !told ? html`<p class="problem" role="alert">${error.message}</p>` : null;
}

/** Grey lines where rows will be. @param {{rows?: number}} properties */
export function Waiting({ rows = 8 }) {
  return html`<div class="waiting" role="status"><span class="sr">Loading…</span>${Array.from({ length: rows }, () => html`<i></i>`)}</div>`;
}
