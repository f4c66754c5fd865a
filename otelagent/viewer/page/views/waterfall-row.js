// @ts-check
// One row of the waterfall: a span, or repeated siblings folded into one.
import { html } from "../html.js";
import { count, counted, duration, KINDS } from "../model/format.js";
import { colour } from "../colours.js";

const INDENT_PX = 14;
const MOST_INDENTS = 24;
const MOST_BARS = 300;
const MOST_MARKS = 50;

/** @param {any} properties */
export function SpanRow({ trace, row, place, at, odd, chosen, found, collapsed, critical, percent, onChoose, onToggle }) {
  const span = row.span;
  const failed = trace.failed(span);
  const state = trace.state(span);
  const service = trace.service(span);
  // When a lost one ended nobody knows.
  const took = state === "lost" ? "?" : duration(trace.took(span));
  const kind = KINDS[trace.data.spans.kind[span]];
  const how = [failed && "failed", state].filter(Boolean);
  const label = `${trace.name(span)}, ${service}, ${took}${how.map((one) => `, ${one}`).join("")}`;
  const classes = ["w-row", odd && "odd", at && "at", chosen && "chosen", found.has(span) && "found", failed && "failed", state === "running" && "runs", state];
  const left = percent(trace.start[span]);
  const right = percent(trace.end[span]);
  const segments = critical ? trace.critical.get(span) : undefined;
  const logs = trace.logsOf.get(span);
  return html`<div ...${place} class=${classes.filter(Boolean).join(" ")} aria-selected=${chosen} aria-expanded=${row.children ? !collapsed : undefined} aria-label=${label} onClick=${onChoose}>
    <span class="w-name" role="gridcell" style=${indent(row.depth)}>
      ${row.children ? html`<${Twist} open=${!collapsed} onToggle=${onToggle} />` : html`<span class="twist"></span>`}
      <i class="edge" style=${`background:${colour(service)}`}></i><b title=${trace.name(span)}>${trace.name(span)}</b>
      ${failed && html`<span class="sign bad" title=${trace.data.messages[span] ?? "Failed"}>!</span>`}
      ${state === "running" && html`<span class="tag running">running</span>`}
      ${state === "lost" && html`<span class="tag warn" title="Its process has stopped telling of it: it ended without the span's end, or can't reach the viewer">lost</span>`}
      ${collapsed && row.children ? html`<span class="tag">${counted(trace.below[span], "span")}</span>` : ""}
      ${collapsed && trace.errorsBelow[span] > 0 ? html`<span class="tag bad">${count(trace.errorsBelow[span])} failed</span>` : ""}
      ${trace.orphan(span) && html`<span class="tag warn" title="The span's parent has not come">parent missing</span>`}
      <small>${service}${kind && kind !== "internal" ? ` · ${kind}` : ""}</small>
    </span>
    <span class="w-took" role="gridcell">${took}</span><span class="w-self" role="gridcell">${state === "lost" ? "?" : duration(trace.self[span])}</span>
    <span class="w-time" role="gridcell">
      <i class="bar" style=${`left:min(${left}%,100% - 2px);width:max(2px,${right - left}%);background:${colour(service)}`}></i>
      ${segments?.map((/** @type {[number, number]} */ [from, until]) => html`<i class="crit" style=${`left:${percent(from)}%;width:max(1px,${percent(until) - percent(from)}%)`}></i>`)}
      ${logs?.slice(0, MOST_MARKS).map((/** @type {import("../model/trace.js").Log} */ log) => html`<i class=${`mark ${log.severity >= 17 ? "bad" : ""}`} title=${log.body} style=${`left:${percent(log.at)}%`}></i>`)}
    </span>
  </div>`;
}

/** @param {any} properties */
export function GroupRow({ trace, row, place, at, odd, found, percent, onToggle }) {
  const [first] = row.spans;
  const paint = colour(trace.service(first));
  let total = 0;
  let failed = 0;
  let own = 0;
  let hits = 0;
  for (const span of row.spans) {
    total += trace.took(span);
    own += trace.self[span];
    failed += trace.failed(span) ? 1 : 0;
    hits += found.has(span) ? 1 : 0;
  }
  const step = Math.ceil(row.spans.length / MOST_BARS);
  const label = `${count(row.spans.length)} times ${trace.name(first)}, ${trace.service(first)}, together ${duration(total)}${failed ? `, ${count(failed)} failed` : ""}`;
  return html`<div ...${place} class=${["w-row group", odd && "odd", at && "at", hits && "found"].filter(Boolean).join(" ")} aria-expanded=${row.open} aria-label=${label} onClick=${onToggle}>
    <span class="w-name" role="gridcell" style=${indent(row.depth)}>
      <${Twist} open=${row.open} onToggle=${onToggle} />
      <i class="edge" style=${`background:${paint}`}></i><span class="tag times">${count(row.spans.length)} ×</span><b>${trace.name(first)}</b>
      ${failed > 0 && html`<span class="tag bad">${count(failed)} failed</span>`}
      <small>${trace.service(first)} · ${duration(total / row.spans.length)} each</small>
    </span>
    <span class="w-took" role="gridcell" title="All of them together">Σ ${duration(total)}</span><span class="w-self" role="gridcell">Σ ${duration(own)}</span>
    <span class="w-time" role="gridcell">${row.spans
      .filter((/** @type {number} */ _, /** @type {number} */ i) => i % step === 0)
      .map((/** @type {number} */ span) => html`<i class=${`bar thin ${trace.failed(span) ? "bad" : ""}`} style=${`left:${percent(trace.start[span])}%;width:max(1px,${percent(trace.end[span]) - percent(trace.start[span])}%);background:${paint}`}></i>`)}</span>
  </div>`;
}

/** @param {{open: boolean, onToggle: () => void}} properties */
function Twist({ open, onToggle }) {
  const onClick = (/** @type {Event} */ event) => {
    event.stopPropagation();
    onToggle();
  };
  return html`<button tabindex="-1" class=${`twist ${open ? "open" : ""}`} aria-label=${open ? "Collapse" : "Expand"} onClick=${onClick}><svg viewBox="0 0 10 10" width="10" height="10" aria-hidden="true"><path d="M3 1.5 7 5 3 8.5" /></svg></button>`;
}

/** Guides mark the depth. A trace of a thousand levels still has its names in view. @param {number} depth */
function indent(depth) {
  const steps = Math.min(depth, MOST_INDENTS);
  return `padding-left:${6 + steps * INDENT_PX}px;--guides:${steps * INDENT_PX}px`;
}
