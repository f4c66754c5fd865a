// @ts-check
// Searching inside a trace: what the page knows of every span at once, what only the store knows a moment later.
import { useEffect, useMemo, useState, valueOf } from "../html.js";
import { ask, embedded } from "../api.js";
import { count, valueText } from "../model/format.js";

const TYPING_MS = 200;

/**
 * @param {import("../model/trace.js").Trace} trace
 * @param {(span: number) => void} reveal
 */
export function useSearch(trace, reveal) {
  const [text, setText] = useState("");
  const [hit, setHit] = useState(-1);
  const [deep, setDeep] = useState({ text: "", spans: /** @type {Set<string>} */ (new Set()), complete: true });
  const id = trace.data.id;
  useEffect(() => {
    const wanted = text.trim();
    if (wanted.length < 2) return setDeep({ text: "", spans: new Set(), complete: true });
    if (embedded) return setDeep({ text: wanted, spans: inFile(wanted.toLowerCase()), complete: true });
    const abort = new AbortController();
    const timer = setTimeout(() => {
      ask(`traces/${id}/search`, { q: wanted }, { signal: abort.signal }).then(
        (answer) => setDeep({ text: wanted, spans: new Set(answer.spans), complete: answer.complete }),
        () => undefined,
      );
    }, TYPING_MS);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [text, id]);
  const hits = useMemo(() => trace.search(text, deep.spans), [trace, text, deep]);
  const found = useMemo(() => new Set(hits), [hits]);
  const step = (/** @type {number} */ by) => {
    if (!hits.length) return;
    const next = hit < 0 ? (by > 0 ? 0 : hits.length - 1) : (hit + by + hits.length) % hits.length;
    setHit(next);
    reveal(hits[next]);
  };
  return {
    text,
    found,
    step,
    told: hits.length ? `${hit >= 0 ? count(Math.min(hit, hits.length - 1) + 1) : "–"} of ${count(hits.length)}${deep.complete ? "" : "+"}` : deep.complete ? "nothing" : "nothing so far",
    onInput: (/** @type {Event} */ event) => {
      setText(valueOf(event));
      setHit(-1);
    },
    onKey: (/** @type {KeyboardEvent} */ event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      step(event.shiftKey ? -1 : 1);
    },
  };
}

/** @param {string} wanted */
function inFile(wanted) {
  const holds = (/** @type {import("../answers.js").Attributes} */ attributes) =>
    Object.entries(attributes).some(([key, value]) => key.toLowerCase().includes(wanted) || valueText(value)[0].toLowerCase().includes(wanted));
  const found = Object.values(embedded?.spans ?? {}).filter((span) => holds(span.attributes) || span.events.some((event) => holds(event.attributes)));
  return new Set(found.map((span) => span.id));
}
