// @ts-check
// A trace: what it is, where its time went, its spans, its errors, its log records.
import { html, typing, useEffect, useLayoutEffect, useMemo, useRef, useState } from "../html.js";
import { embedded, save } from "../api.js";
import { Trace } from "../model/trace.js";
import { rowsOf } from "../model/rows.js";
import { byService } from "../model/times.js";
import { count, counted, date, duration, moment } from "../model/format.js";
import { colour } from "../colours.js";
import { address, changed, copy, go, helping, live, place, tell, unnamed, useNews } from "../state.js";
import { useAnswer, Waiting } from "./answer.js";
import { Errors } from "./errors.js";
import { Icon } from "./icon.js";
import { Minimap } from "./minimap.js";
import { SpanDetail } from "./span.js";
import { useSearch } from "./search.js";
import { Tabs } from "./tabs.js";
import { TraceLogs } from "./trace-logs.js";
import { Waterfall } from "./waterfall.js";

/** @typedef {[number, number]} Range nanoseconds since the trace's start */

const RUNNING_MS = 500;
const MANY_SPANS = 5_000;
const SERVICES_SHOWN = 6;

/** @param {{id: string}} properties */
export function TracePage({ id }) {
  // Asked again when this trace has changed, and not whenever any has.
  const seen = useNews(Math.max(changed.value.get(id) ?? 0, unnamed.value));
  const size = useRef(0);
  const { answer, error } = useAnswer(`traces/${encodeURIComponent(id)}`, {}, { follow: "never", turn: seen, everyMs: size.current > MANY_SPANS ? 10_000 : 1_000 });
  size.current = answer?.spans.id.length ?? 0;
  const now = useNow(/** @type {import("../answers.js").TraceData | null} */ (answer));
  const trace = useMemo(() => {
    if (!answer) return null;
    performance.mark("trace-answered");
    const made = new Trace(answer, now);
    performance.measure("trace-modelled", "trace-answered");
    return made;
  }, [answer, now]);
  if (trace) return html`<${Loaded} trace=${trace} />`;
  if (error)
    return html`<div class="page"><div class="empty"><h1>${error.status === 404 ? "This trace is not here" : "The trace can't be shown"}</h1><p role="alert">${error.message}</p>
      ${!embedded && html`<p><a href=${address(["traces"])}>All traces</a></p>`}</div></div>`;
  return html`<div class="page"><${Waiting} rows=${14} /></div>`;
}

/** The time, as long as spans run: their bars grow. @param {import("../answers.js").TraceData | null} data */
function useNow(data) {
  const [now, setNow] = useState(Date.now());
  const runs = !embedded && live.value && Object.values(data?.states ?? {}).includes("running");
  useEffect(() => {
    if (!runs || !data) return;
    setNow(Date.now());
    const timer = setInterval(() => setNow(Date.now()), data.spans.id.length > MANY_SPANS ? 10 * RUNNING_MS : RUNNING_MS);
    return () => clearInterval(timer);
  }, [runs, data]);
  return now;
}

/** @param {{trace: Trace}} properties */
function Loaded({ trace }) {
  const { data } = trace;
  const query = place.value.query;
  const view = query.get("view") ?? "spans";
  const chosen = trace.position.get(query.get("span") ?? "") ?? -1;
  const [collapsed, setCollapsed] = useState(/** @type {Set<string>} */ (new Set()));
  const [open, setOpen] = useState(/** @type {Set<string>} */ (new Set()));
  const [fold, setFold] = useState(true);
  const [critical, setCritical] = useState(true);
  const [zoom, setZoom] = useState(/** @type {Range | null} */ (null));
  const range = /** @type {Range} */ (zoom && zoom[0] < trace.duration ? zoom : [0, trace.duration]);
  const setRange = (/** @type {Range} */ next) => setZoom(next[0] <= 0 && next[1] >= trace.duration ? null : next);
  const field = useRef(/** @type {HTMLInputElement | null} */ (null));

  const closed = useMemo(() => new Set([...collapsed].map((id) => trace.position.get(id) ?? -1)), [trace, collapsed]);
  const rows = useMemo(() => rowsOf(trace, { collapsed: closed, fold, open }), [trace, closed, fold, open]);
  const show = (/** @type {Record<string, string>} */ changes, replace = true) => {
    const next = { span: query.get("span") ?? "", view: view === "spans" ? "" : view, ...changes };
    go(["trace", data.id], next, replace);
  };
  const choose = (/** @type {number} */ span) => show({ span: span < 0 ? "" : data.spans.id[span] });
  /** Shows a span wherever it is hidden, and chooses it. @param {number} span */
  const reveal = (span) => {
    const above = new Set(trace.path(span).slice(0, -1));
    if ([...above].some((one) => closed.has(one))) setCollapsed(new Set([...collapsed].filter((id) => !above.has(trace.position.get(id) ?? -1))));
    const hidden = new Set([...above, span]);
    // What is collapsed hides groups too, so that all the groups are asked, not those in view.
    const groups = rowsOf(trace, { collapsed: new Set(), fold, open: new Set() }).filter((row) => row.type === "group" && row.spans.some((one) => hidden.has(one)));
    const keys = groups.map((row) => (row.type === "group" ? row.key : ""));
    if (keys.some((key) => !open.has(key))) setOpen(new Set([...open, ...keys]));
    if (zoom && (trace.end[span] < zoom[0] || trace.start[span] > zoom[1])) setZoom(null);
    show({ span: data.spans.id[span], view: "" });
  };
  const search = useSearch(trace, reveal);
  // An address may name a span that is folded away.
  const wanted = query.get("span") ?? "";
  useEffect(() => {
    if (chosen >= 0 && view === "spans" && !rows.some((row) => row.type === "span" && row.span === chosen)) reveal(chosen);
  }, [wanted, view]);
  const failures = useMemo(() => trace.failures, [trace]);
  const nextError = (/** @type {number} */ by) => {
    if (!failures.length) return;
    const at = failures.indexOf(chosen);
    reveal(failures[at < 0 ? (by > 0 ? 0 : failures.length - 1) : (at + by + failures.length) % failures.length]);
  };
  const zoomBy = (/** @type {number} */ factor) => {
    const middle = chosen >= 0 ? Math.min(range[1], Math.max(range[0], (trace.start[chosen] + trace.end[chosen]) / 2)) : (range[0] + range[1]) / 2;
    const half = Math.max(((range[1] - range[0]) * factor) / 2, 50);
    setRange([Math.max(0, middle - half), Math.min(trace.duration, middle + half)]);
  };
  // Before anyone can press the next key: it must find what is shown now.
  useLayoutEffect(() => {
    const keys = /** @type {Record<string, () => void>} */ ({
      n: () => search.step(1),
      N: () => search.step(-1),
      e: () => nextError(1),
      E: () => nextError(-1),
      c: () => setCritical(!critical),
      f: () => setFold(!fold),
      "+": () => zoomBy(0.5),
      "=": () => zoomBy(0.5),
      "-": () => zoomBy(2),
      0: () => setZoom(null),
    });
    const onKey = (/** @type {KeyboardEvent} */ event) => {
      if (typing(event) || event.defaultPrevented || helping.value) return;
      if (event.key === "Escape" && chosen >= 0) choose(-1);
      else if (keys[event.key]) keys[event.key]();
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  });

  const title = trace.head < 0 ? "Trace" : trace.name(trace.head);
  useEffect(() => {
    document.title = `${title} · otelagent`;
  }, [title]);

  const toggle = (/** @type {number} */ span) => {
    const next = new Set(collapsed);
    if (!next.delete(data.spans.id[span])) next.add(data.spans.id[span]);
    setCollapsed(next);
  };
  const toggleGroup = (/** @type {string} */ key) => {
    const next = new Set(open);
    if (!next.delete(key)) next.add(key);
    setOpen(next);
  };
  const collapseAll = () => setCollapsed(new Set(trace.order.filter((i) => trace.children[i].length && trace.depth[i] > 0).map((i) => data.spans.id[i])));
  const views = [
    { name: "spans", title: "Spans", note: count(trace.size) },
    { name: "errors", title: "Errors", note: count(failures.length), bad: failures.length > 0 },
    { name: "logs", title: "Logs", note: count(data.logs.length) },
  ];
  const orphans = Object.keys(data.missing).length;
  return html`<div class=${`page trace ${chosen >= 0 ? "with-detail" : ""}`}>
    <${Head} trace=${trace} />
    <${Facts} trace=${trace} />
    ${data.truncated?.spans ? html`<p class="note warn" role="note">The trace has ${counted(data.truncated.spans, "more span")} than can be shown here.</p>` : ""}
    ${data.truncated?.logs ? html`<p class="note warn" role="note">The trace has ${counted(data.truncated.logs, "more log record")} than are shown here. <a href=${address(["logs"], { trace: data.id })}>All of them</a></p>` : ""}
    ${orphans > 0 && html`<p class="note" role="note">${counted(orphans, "span's parent has", "spans' parents have")} not come; ${orphans === 1 ? "it is" : "they are"} kept at the top level and marked <span class="tag warn">parent missing</span></p>`}
    <${Minimap} trace=${trace} range=${range} onRange=${setRange} found=${search.found} />
    <div class="tools">
      <${Tabs} label="Views of the trace" panel="trace-view" chosen=${view} tabs=${views} onChoose=${(/** @type {string} */ name) => show({ view: name === "spans" ? "" : name })} />
      ${view === "spans" &&
      html`<div class="search"><label><span class="sr">Search in this trace</span><input ref=${field} type="search" placeholder="Search in this trace  ( / )" value=${search.text} onInput=${search.onInput} onKeyDown=${search.onKey} /></label>
          ${search.text && html`<span class="hits" role="status">${search.told}</span><button class="icon" aria-label="Previous" title="Previous ( N )" onClick=${() => search.step(-1)}><${Icon} name="up" /></button><button class="icon" aria-label="Next" title="Next ( n )" onClick=${() => search.step(1)}><${Icon} name="down" /></button>`}</div>
        <span class="grow"></span>
        <div class="switches" role="toolbar" aria-label="Trace">
          ${zoom && html`<button class="quiet" onClick=${() => setZoom(null)}>Whole trace</button>`}
          <button class=${`toggle ${critical ? "on" : ""}`} aria-pressed=${critical} onClick=${() => setCritical(!critical)} title="What the end of the trace waited for ( c )">Critical path</button>
          <button class=${`toggle ${fold ? "on" : ""}`} aria-pressed=${fold} onClick=${() => setFold(!fold)} title="Repeated siblings in one row ( f )">Fold repeated</button>
          <button class="quiet" onClick=${collapseAll}>Collapse</button>
          <button class="quiet" onClick=${() => (setCollapsed(new Set()), setOpen(new Set()))}>Expand</button>
        </div>`}
    </div>
    <div class="split" role="tabpanel" id="trace-view" aria-labelledby=${`trace-view-${view}`}>
      ${view === "errors" && html`<${Errors} trace=${trace} failures=${failures} onReveal=${reveal} />`}
      ${view === "logs" && html`<${TraceLogs} trace=${trace} only=${chosen} onReveal=${reveal} />`}
      ${view === "spans" &&
      html`<${Waterfall} trace=${trace} rows=${rows} collapsed=${closed} chosen=${chosen} found=${search.found} critical=${critical} range=${range}
        onChoose=${choose} onToggle=${toggle} onToggleGroup=${toggleGroup} onZoom=${zoomBy} />`}
      ${chosen >= 0 && html`<${SpanDetail} trace=${trace} span=${chosen} onClose=${() => choose(-1)} onReveal=${reveal} />`}
    </div>
  </div>`;
}

/** A refusal is told on the page, and not saved as the file. @param {string} name of the file */
function keepAs(name) {
  return (/** @type {Event} */ event) => {
    event.preventDefault();
    const link = /** @type {HTMLAnchorElement} */ (event.currentTarget);
    save(link.href, name).catch((problem) => tell({ text: problem.message, bad: true }));
  };
}

/** @param {{trace: Trace}} properties */
function Head({ trace }) {
  const { id } = trace.data;
  const head = trace.head;
  return html`<div class="head">
    ${!embedded && html`<a class="icon" href=${address(["traces"])} aria-label="All traces" title="All traces"><${Icon} name="back" /></a>`}
    <h1 title=${head < 0 ? "" : trace.name(head)}>${head < 0 ? "Empty trace" : trace.name(head)}</h1>
    ${head >= 0 && html`<span class="service"><i class="dot" style=${`background:${colour(trace.service(head))}`}></i>${trace.service(head)}</span>`}
    ${trace.running > 0 && html`<span class="tag running">${counted(trace.running, "span")} running</span>`}
    ${trace.lost > 0 && html`<span class="tag warn" title="Their process has stopped telling of them">${counted(trace.lost, "span")} lost</span>`}
    <span class="grow"></span>
    ${!embedded &&
    html`<a class="button" href=${address(["traces"], { ...(head < 0 ? {} : { service: trace.service(head), operation: trace.data.names[trace.data.spans.name[head]] }), mark: id })} title="Mark this trace and choose another of its kind"><${Icon} name="compare" /><span>Compare</span></a>
      <a class="button" href=${`/api/traces/${id}/otlp`} onClick=${keepAs(`trace-${id}.json`)} title="The trace as OTLP/JSON"><${Icon} name="export" /><span>Export</span></a>
      <a class="button" href=${`/api/traces/${id}/share`} onClick=${keepAs(`trace-${id}.html`)} title="One HTML file with this trace, to send to someone"><${Icon} name="share" /><span>Share</span></a>`}
  </div>`;
}

/** @param {{trace: Trace}} properties */
function Facts({ trace }) {
  const { data } = trace;
  const times = useMemo(() => byService(trace.critical, (span) => trace.service(span)), [trace]);
  const sum = times.reduce((all, [, ns]) => all + ns, 0);
  const others = trace.services.filter(([name]) => !times.some(([one]) => one === name)).map(([name]) => name);
  const rest = [...times.slice(SERVICES_SHOWN).map(([name]) => name), ...others.splice(Math.max(0, SERVICES_SHOWN - times.length))];
  return html`<dl class="facts">
    <div><dt>Duration</dt><dd>${duration(trace.duration)}</dd></div>
    <div><dt>Start</dt><dd title=${date(data.start).toISOString()}>${moment(data.start)}</dd></div>
    <div><dt>Spans</dt><dd>${count(trace.size)}</dd></div>
    <div><dt>Errors</dt><dd class=${data.errors ? "bad" : ""}>${count(data.errors)}</dd></div>
    <div><dt>Trace id</dt><dd><code>${data.id}</code><button class="icon small" aria-label="Copy the trace id" title="Copy" onClick=${() => copy(data.id)}><${Icon} name="copy" /></button></dd></div>
    <div class="legend"><dt>Critical path by service</dt><dd>${times.slice(0, SERVICES_SHOWN).map(([name, ns]) => html`<span class="part" title=${`${duration(ns)} of the critical path`}><i class="dot" style=${`background:${colour(name)}`}></i>${name} <small>${sum ? Math.round((100 * ns) / sum) : 0} %</small></span>`)}
      ${others.map((name) => html`<span class="part dim" title="Not on the critical path"><i class="dot" style=${`background:${colour(name)}`}></i>${name}</span>`)}
      ${rest.length > 0 && html`<span class="dim" title=${rest.join(", ")}>+${rest.length}</span>`}</dd></div>
  </dl>`;
}
