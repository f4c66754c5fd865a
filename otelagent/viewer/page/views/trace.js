// @ts-check
import { html, useEffect, useMemo, useRef, useState } from "../html.js";
import { ApiError, ask, embedded } from "../api.js";
import { Trace } from "../model/trace.js";
import { count, date, duration, moment } from "../model/format.js";
import { address, changed, colour, connected, go, place, unnamed, useNews } from "../state.js";
import { Minimap } from "./minimap.js";
import { SpanDetail } from "./span.js";
import { Waterfall } from "./waterfall.js";

/** @param {{id: string}} properties */
export function TracePage({ id }) {
  const [trace, setTrace] = useState(/** @type {Trace | null} */ (null));
  const [error, setError] = useState(/** @type {ApiError | null} */ (null));
  const seen = useNews(Math.max(changed.value.get(id) ?? 0, unnamed.value));
  useEffect(() => {
    const abort = new AbortController();
    ask(`traces/${id}`, {}, { signal: abort.signal }).then(
      (data) => {
        setTrace(new Trace(data));
        setError(null);
      },
      (problem) => problem.name !== "AbortError" && setError(problem),
    );
    return () => abort.abort();
  }, [id, seen, connected.value]);
  if (error && !trace)
    return html`<div class="page empty"><h1>${error.status === 404 ? "This trace is not here" : "The trace can't be shown"}</h1><p role="alert">${error.message}</p><p><a href=${address(["traces"])}>All traces</a></p></div>`;
  if (!trace) return html`<div class="page"><p class="dim" role="status">Loading…</p></div>`;
  return html`<${Loaded} trace=${trace} />`;
}

/** @param {{trace: Trace}} properties */
function Loaded({ trace }) {
  const { data } = trace;
  const query = place.value.query;
  const root = trace.roots[0] ?? 0;
  const [collapsed, setCollapsed] = useState(() => new Set());
  const [open, setOpen] = useState(() => new Set());
  const [fold, setFold] = useState(true);
  const [critical, setCritical] = useState(true);
  const [text, setText] = useState("");
  const [hit, setHit] = useState(0);
  const [range, setRange] = useState(/** @type {[number, number]} */ ([0, trace.duration]));
  const chosen = trace.position.get(query.get("span") ?? "") ?? -1;
  const field = useRef(/** @type {HTMLInputElement | null} */ (null));
  useEffect(() => setRange([0, trace.duration]), [trace.duration]);

  const rows = useMemo(() => trace.rows({ collapsed, fold, open }), [trace, collapsed, fold, open]);
  const hits = useMemo(() => trace.search(text), [trace, text]);
  const found = useMemo(() => new Set(hits), [hits]);

  const choose = (/** @type {number} */ span, replace = true) =>
    go(["trace", data.id], span < 0 ? {} : { span: data.spans.id[span] }, replace);
  /** Shows a span wherever it is hidden, and chooses it. @param {number} span */
  const reveal = (span) => {
    const above = trace.path(span).slice(0, -1);
    if (above.some((one) => collapsed.has(one))) setCollapsed(new Set([...collapsed].filter((one) => !above.includes(one))));
    const folded = rows.flatMap((row) => (row.type === "group" && !row.open && row.spans.some((one) => one === span || above.includes(one)) ? [row.key] : []));
    if (folded.length) setOpen(new Set([...open, ...folded]));
    choose(span);
  };
  const step = (/** @type {number} */ by) => {
    if (!hits.length) return;
    // Backwards from nowhere is the last one.
    const next = (Math.max(hit, by < 0 ? 0 : -1) + by + hits.length) % hits.length;
    setHit(next);
    reveal(hits[next]);
  };
  useEffect(() => {
    const onKey = (/** @type {KeyboardEvent} */ event) => {
      if (event.target instanceof HTMLInputElement || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "n") step(1);
      else if (event.key === "N") step(-1);
      else if (event.key === "Escape" && chosen >= 0) choose(-1);
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  });

  const services = useMemo(() => {
    /** @type {Map<string, number>} */
    const counts = new Map();
    for (let i = 0; i < trace.size; i++) counts.set(trace.service(i), (counts.get(trace.service(i)) ?? 0) + 1);
    return [...counts].sort((a, b) => b[1] - a[1]);
  }, [trace]);
  const orphans = Object.keys(data.missing).length;
  const toggle = (/** @type {number} */ span) => {
    const next = new Set(collapsed);
    if (!next.delete(span)) next.add(span);
    setCollapsed(next);
  };
  const toggleGroup = (/** @type {string} */ key) => {
    const next = new Set(open);
    if (!next.delete(key)) next.add(key);
    setOpen(next);
  };
  const zoomed = range[0] > 0 || range[1] < trace.duration;
  return html`<div class=${`page trace ${chosen >= 0 ? "with-detail" : ""}`}>
    <div class="head">
      ${!embedded && html`<a class="back" href=${address(["traces"])} aria-label="All traces">‹</a>`}
      <h1><i class="dot" style=${`background:${colour(trace.service(root))}`}></i>${trace.size ? trace.name(root) : "Empty trace"}<small>${trace.size ? trace.service(root) : ""}</small></h1>
      <span class="grow"></span>
      ${!embedded &&
      html`<a class="button" href=${`/api/traces/${data.id}/otlp`} download title="OTLP/JSON">Export</a>
        <a class="button" href=${`/api/traces/${data.id}/share`} download title="One HTML file with this trace, to send to someone">Share</a>`}
    </div>
    <dl class="facts">
      <div><dt>Duration</dt><dd>${duration(data.duration)}</dd></div>
      <div><dt>Start</dt><dd title=${date(data.start).toISOString()}>${moment(data.start)}</dd></div>
      <div><dt>Spans</dt><dd>${count(trace.size)}</dd></div>
      <div><dt>Errors</dt><dd class=${data.errors ? "bad" : ""}>${count(data.errors)}</dd></div>
      <div><dt>Trace id</dt><dd><code>${data.id}</code></dd></div>
      <div class="legend"><dt>Services</dt><dd>${services.map(([name, spans]) => html`<span class="chip" title=${`${count(spans)} spans`}><i class="dot" style=${`background:${colour(name)}`}></i>${name}</span>`)}</dd></div>
    </dl>
    ${data.truncated && html`<p class="problem" role="note">The trace has ${count(data.truncated.spans)} more spans, which are not shown. The export has them all.</p>`}
    ${orphans > 0 && html`<p class="note" role="note">${count(orphans)} ${orphans === 1 ? "span's parent has" : "spans' parents have"} not come; ${orphans === 1 ? "it is" : "they are"} kept at the top level and marked <span class="tag">parent missing</span>.</p>`}
    <${Minimap} trace=${trace} range=${range} onRange=${setRange} found=${found} />
    <div class="tools" role="toolbar" aria-label="Trace">
      <label class="search"><span class="sr">Search in this trace</span><input ref=${field} type="search" placeholder="Search in this trace  ( / )" value=${text}
        onInput=${(/** @type {any} */ e) => { setText(e.target.value); setHit(-1); }}
        onKeyDown=${(/** @type {KeyboardEvent} */ e) => e.key === "Enter" && (e.preventDefault(), step(e.shiftKey ? -1 : 1))} /></label>
      ${text && html`<span class="hits" role="status">${hits.length ? `${hit >= 0 ? hit + 1 : "–"} of ${count(hits.length)}` : "nothing"}</span>
        <button class="quiet" aria-label="Previous" onClick=${() => step(-1)} title="N">↑</button><button class="quiet" aria-label="Next" onClick=${() => step(1)} title="n">↓</button>`}
      <span class="grow"></span>
      <button class=${`toggle ${critical ? "on" : ""}`} aria-pressed=${critical} onClick=${() => setCritical(!critical)} title="What the end of the trace waited for">Critical path</button>
      <button class=${`toggle ${fold ? "on" : ""}`} aria-pressed=${fold} onClick=${() => setFold(!fold)} title="Repeated siblings in one row">Fold repeated</button>
      <button class="quiet" onClick=${() => setCollapsed(new Set(trace.order.filter((i) => trace.children[i].length && trace.depth[i] > 0)))}>Collapse</button>
      <button class="quiet" onClick=${() => (setCollapsed(new Set()), setOpen(new Set()))}>Expand</button>
      ${zoomed && html`<button class="quiet" onClick=${() => setRange([0, trace.duration])}>Whole trace</button>`}
    </div>
    <div class="split">
      <${Waterfall} trace=${trace} rows=${rows} collapsed=${collapsed} chosen=${chosen} found=${found} critical=${critical} range=${range}
        onChoose=${choose} onToggle=${toggle} onToggleGroup=${toggleGroup} onRange=${setRange} />
      ${chosen >= 0 && html`<${SpanDetail} trace=${trace} span=${chosen} onClose=${() => choose(-1)} onReveal=${reveal} />`}
    </div>
  </div>`;
}
