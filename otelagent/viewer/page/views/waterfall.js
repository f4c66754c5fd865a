// @ts-check
// The rows of a trace. Only those in view exist: they stand in a layer that stays in place while the page behind it
// scrolls, so that the fastest scrolling never shows an empty one.
import { html, useEffect, useLayoutEffect, useRef, useState } from "../html.js";
import { count, duration, KINDS } from "../model/format.js";
import { colour } from "../state.js";

export const ROW = 28;
const MARGIN = 4;

/**
 * @param {{trace: import("../model/trace.js").Trace, rows: import("../model/trace.js").Row[], collapsed: Set<number>,
 *   chosen: number, found: Set<number>, critical: boolean, range: [number, number], onChoose: (span: number) => void,
 *   onToggle: (span: number) => void, onToggleGroup: (key: string) => void, onRange: (range: [number, number]) => void}} properties
 */
export function Waterfall({ trace, rows, collapsed, chosen, found, critical, range, onChoose, onToggle, onToggleGroup, onRange }) {
  const box = useRef(/** @type {HTMLDivElement | null} */ (null));
  const [top, setTop] = useState(0);
  const [height, setHeight] = useState(600);
  const [cursor, setCursor] = useState(0);
  const first = Math.max(0, Math.floor(top / ROW) - MARGIN);
  const last = Math.min(rows.length, Math.ceil((top + height) / ROW) + MARGIN);

  useLayoutEffect(() => {
    const element = /** @type {HTMLDivElement} */ (box.current);
    const measure = () => setHeight(element.clientHeight);
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => observer.disconnect();
  }, []);

  const show = (/** @type {number} */ row) => {
    const element = /** @type {HTMLDivElement} */ (box.current);
    const at = row * ROW;
    const view = element.clientHeight - ROW;
    if (at < element.scrollTop) element.scrollTop = at;
    else if (at > element.scrollTop + view - ROW) element.scrollTop = at - view + ROW;
  };
  useEffect(() => {
    if (chosen < 0) return;
    const row = rows.findIndex((one) => one.type === "span" && one.span === chosen);
    if (row >= 0) {
      setCursor(row);
      show(row);
    }
  }, [chosen, rows]);

  const onKey = (/** @type {KeyboardEvent} */ event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const row = rows[cursor];
    const page = Math.max(1, Math.floor(height / ROW) - 2);
    /** @type {Record<string, number>} */
    const moves = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: page, PageUp: -page, Home: -rows.length, End: rows.length };
    if (event.key in moves) {
      const next = Math.max(0, Math.min(rows.length - 1, cursor + moves[event.key]));
      setCursor(next);
      show(next);
      const target = rows[next];
      if (chosen >= 0 && target?.type === "span") onChoose(target.span);
    } else if (event.key === "ArrowRight" && row) {
      if (row.type === "group") !row.open && onToggleGroup(row.key);
      else if (row.children && collapsed.has(row.span)) onToggle(row.span);
      else if (row.children) setCursor(cursor + 1);
    } else if (event.key === "ArrowLeft" && row) {
      if (row.type === "group" && row.open) onToggleGroup(row.key);
      else if (row.type === "span" && row.children && !collapsed.has(row.span)) onToggle(row.span);
      else {
        let above = cursor - 1;
        while (above > 0 && rows[above].depth >= row.depth) above--;
        setCursor(Math.max(0, above));
        show(Math.max(0, above));
      }
    } else if ((event.key === "Enter" || event.key === " ") && row) {
      if (row.type === "group") onToggleGroup(row.key);
      else onChoose(row.span);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  };

  const [from, until] = range;
  const scale = 100 / Math.max(until - from, 1);
  const percent = (/** @type {number} */ ns) => (ns - from) * scale;
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((part) => from + (until - from) * part);

  return html`<div class="waterfall" ref=${box} onScroll=${(/** @type {any} */ e) => setTop(e.target.scrollTop)} onKeyDown=${onKey}
    tabindex="0" role="treegrid" aria-label="Spans" aria-rowcount=${rows.length + 1} aria-activedescendant=${`wf-${cursor}`}>
    <div class="ruler" role="row" aria-rowindex="1"><span class="w-name" role="columnheader">Span</span><span class="w-time" role="columnheader"><span class="sr">Time</span>${ticks.map((at, i) => html`<i style=${`left:${i * 25}%`} class=${i === 4 ? "end" : ""}>${duration(at)}</i>`)}</span></div>
    <div class="space" style=${`height:${rows.length * ROW}px`} role="presentation">
      <div class="layer" style=${`transform:translateY(${first * ROW - top}px)`} role="rowgroup">
        ${rows.slice(first, last).map((row, offset) => {
          const number = first + offset;
          const shared = { id: `wf-${number}`, key: row.type === "group" ? row.key : row.span, role: "row", "aria-level": row.depth + 1, "aria-rowindex": number + 2 };
          return row.type === "group"
            ? html`<${GroupRow} ...${shared} row=${row} trace=${trace} at=${cursor === number} percent=${percent} scale=${scale} onToggle=${() => (setCursor(number), onToggleGroup(row.key))} />`
            : html`<${SpanRow} ...${shared} row=${row} trace=${trace} at=${cursor === number} chosen=${chosen === row.span} found=${found.has(row.span)}
                collapsed=${collapsed.has(row.span)} critical=${critical} percent=${percent} scale=${scale}
                onChoose=${() => (setCursor(number), onChoose(row.span))} onToggle=${() => onToggle(row.span)} />`;
        })}
      </div>
    </div>
  </div>`;
}

/** @param {any} properties */
function SpanRow({ row, trace, at, chosen, found, collapsed, critical, percent, scale, onChoose, onToggle, ...rest }) {
  const span = row.span;
  const failed = trace.failed(span);
  const start = percent(trace.start[span]);
  const width = (trace.end[span] - trace.start[span]) * scale;
  const paint = colour(trace.service(span));
  const segments = critical ? trace.critical.get(span) : undefined;
  const logs = trace.logsOf.get(span);
  const kind = KINDS[trace.data.spans.kind[span]];
  const label = `${trace.name(span)}, ${trace.service(span)}, ${duration(trace.end[span] - trace.start[span])}${failed ? ", failed" : ""}`;
  return html`<div ...${rest} class=${`w-row ${at ? "at" : ""} ${chosen ? "chosen" : ""} ${found ? "found" : ""} ${failed ? "failed" : ""}`}
    aria-selected=${chosen} aria-expanded=${row.children ? !collapsed : undefined} aria-label=${label} onClick=${onChoose}>
    <span class="w-name" role="gridcell" style=${`padding-left:${6 + Math.min(row.depth, 40) * 12}px`}>
      ${row.children
        ? html`<button tabindex="-1" class="twist" aria-label=${collapsed ? "Expand" : "Collapse"} onClick=${(/** @type {Event} */ e) => (e.stopPropagation(), onToggle())}>${collapsed ? "▸" : "▾"}</button>`
        : html`<span class="twist"></span>`}
      <i class="edge" style=${`background:${paint}`}></i><b>${trace.name(span)}</b>
      ${collapsed && row.children ? html`<span class="tag">${count(trace.below[span])}</span>` : ""}
      ${collapsed && trace.errorsBelow[span] > 0 ? html`<span class="tag bad">${count(trace.errorsBelow[span])} failed</span>` : ""}
      ${failed ? html`<span class="sign bad" title="Failed">✗</span>` : ""}
      ${trace.orphan(span) ? html`<span class="tag" title="The span's parent has not come">parent missing</span>` : ""}
      <small>${trace.service(span)}${kind && kind !== "internal" ? ` · ${kind}` : ""}</small>
    </span>
    <span class="w-time" role="gridcell">
      <i class="bar" style=${`left:${start}%;width:max(2px,${width}%);background:${paint}`}></i>
      ${segments?.map((/** @type {[number, number]} */ [a, b]) => html`<i class="crit" style=${`left:${percent(a)}%;width:max(1px,${(b - a) * scale}%)`}></i>`)}
      ${logs?.slice(0, 50).map((/** @type {[number, number, string, number]} */ [when, severity]) => html`<i class=${`mark ${severity >= 17 ? "bad" : ""}`} style=${`left:${percent(when)}%`}></i>`)}
      <span class=${start + width > 82 ? "label before" : "label"} style=${start + width > 82 ? `right:${100 - Math.min(start, 100)}%` : `left:${Math.max(start + width, 0)}%`}>${duration(trace.end[span] - trace.start[span])}</span>
    </span>
  </div>`;
}

/** @param {any} properties */
function GroupRow({ row, trace, at, percent, scale, onToggle, ...rest }) {
  const first = row.spans[0];
  const paint = colour(trace.service(first));
  let total = 0;
  let failed = 0;
  for (const span of row.spans) {
    total += trace.end[span] - trace.start[span];
    failed += trace.failed(span) ? 1 : 0;
  }
  const shown = row.spans.length > 300 ? row.spans.filter((/** @type {number} */ _, /** @type {number} */ i) => i % Math.ceil(row.spans.length / 300) === 0) : row.spans;
  return html`<div ...${rest} class=${`w-row group ${at ? "at" : ""}`} aria-expanded=${row.open} onClick=${onToggle}
    aria-label=${`${count(row.spans.length)} times ${trace.name(first)}, together ${duration(total)}`}>
    <span class="w-name" role="gridcell" style=${`padding-left:${6 + Math.min(row.depth, 40) * 12}px`}>
      <button tabindex="-1" class="twist" aria-label=${row.open ? "Fold" : "Unfold"}>${row.open ? "▾" : "▸"}</button>
      <i class="edge" style=${`background:${paint}`}></i><span class="tag strong">${count(row.spans.length)} ×</span><b>${trace.name(first)}</b>
      ${failed ? html`<span class="tag bad">${count(failed)} failed</span>` : ""}
      <small>${duration(total)} together</small>
    </span>
    <span class="w-time" role="gridcell">${shown.map((/** @type {number} */ span) => html`<i class="bar thin" style=${`left:${percent(trace.start[span])}%;width:max(1px,${(trace.end[span] - trace.start[span]) * scale}%);background:${paint}`}></i>`)}</span>
  </div>`;
}
