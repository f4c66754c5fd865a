// @ts-check
// The rows of a trace. Only those in view exist: they stand in a layer that stays in place while the page behind it
// scrolls, so that the fastest scrolling never shows an empty one.
import { html, useEffect, useKeys, useLayoutEffect, useRef, useState } from "../html.js";
import { ticks } from "../model/ticks.js";
import { keep, kept } from "../kept.js";
import { GroupRow, SpanRow } from "./waterfall-row.js";

export const ROW = 28;
const MARGIN = 4;
const TICK_PX = 64;
const TEXT_PX = 46;

/**
 * @param {{trace: import("../model/trace.js").Trace, rows: import("../model/rows.js").Row[], collapsed: Set<number>,
 *   chosen: number, found: Set<number>, critical: boolean, range: [number, number], onChoose: (span: number) => void,
 *   onToggle: (span: number) => void, onToggleGroup: (key: string) => void, onZoom: (factor: number) => void}} properties
 */
export function Waterfall({ trace, rows, collapsed, chosen, found, critical, range, onChoose, onToggle, onToggleGroup, onZoom }) {
  const box = useRef(/** @type {HTMLDivElement | null} */ (null));
  const time = useRef(/** @type {HTMLSpanElement | null} */ (null));
  const [top, setTop] = useState(0);
  const [height, setHeight] = useState(600);
  const [width, setWidth] = useState(600);
  const [cursor, setCursor] = useState(0);
  const at = Math.min(cursor, rows.length - 1);
  const first = Math.max(0, Math.min(Math.floor(top / ROW) - MARGIN, rows.length - 1));
  const last = Math.min(rows.length, Math.ceil((top + height) / ROW) + MARGIN);

  useLayoutEffect(() => {
    const element = /** @type {HTMLDivElement} */ (box.current);
    const measure = () => {
      setHeight(element.clientHeight);
      setWidth(time.current?.clientWidth ?? 0);
    };
    measure();
    performance.mark("trace-shown");
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    if (time.current) observer.observe(time.current);
    return () => observer.disconnect();
  }, []);

  const show = (/** @type {number} */ row, middle = false) => {
    const element = /** @type {HTMLDivElement} */ (box.current);
    const y = row * ROW;
    const view = element.clientHeight - ROW;
    if (y >= element.scrollTop && y <= element.scrollTop + view - ROW) return;
    if (middle) element.scrollTop = Math.max(0, y - view / 2);
    else element.scrollTop = y < element.scrollTop ? y : y - view + ROW;
  };
  const move = (/** @type {number} */ row) => {
    setCursor(row);
    show(row);
    const target = rows[row];
    if (chosen >= 0 && target?.type === "span") onChoose(target.span);
  };
  const lastChosen = useRef(-1);
  useEffect(() => {
    if (chosen < 0) {
      lastChosen.current = -1;
      return;
    }
    const row = rows.findIndex((one) => one.type === "span" && one.span === chosen);
    if (row < 0) return;
    setCursor(row);
    if (lastChosen.current !== chosen) show(row, true);
    lastChosen.current = chosen;
  }, [chosen, rows]);

  const onKey = (/** @type {KeyboardEvent} */ event) => {
    const inside = event.target !== box.current && box.current?.contains(/** @type {Node} */ (event.target));
    if (event.ctrlKey || event.metaKey || event.altKey || inside) return;
    const row = rows[at];
    // The first key on a page that has just been opened shows where the cursor is.
    const begins = event.target !== box.current;
    const page = Math.max(1, Math.floor(height / ROW) - 2);
    const moves = /** @type {Record<string, number>} */ ({ ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: page, PageUp: -page, Home: -rows.length, End: rows.length });
    if (event.key in moves) move(begins && chosen < 0 && Math.abs(moves[event.key]) === 1 ? at : Math.max(0, Math.min(rows.length - 1, at + moves[event.key])));
    else if (event.key === "ArrowRight" && row) {
      if (row.type === "group" ? !row.open : row.children && collapsed.has(row.span)) toggle(row);
      else if (rows[at + 1]?.depth > row.depth) move(at + 1);
    } else if (event.key === "ArrowLeft" && row) {
      if (row.type === "group" ? row.open : row.children && !collapsed.has(row.span)) toggle(row);
      else {
        let above = at - 1;
        while (above >= 0 && rows[above].depth >= row.depth) above--;
        if (above >= 0) move(above);
      }
    } else if ((event.key === "Enter" || (event.key === " " && !begins)) && row) {
      if (row.type === "group") onToggleGroup(row.key);
      else onChoose(row.span);
    } else return;
    if (begins) box.current?.focus({ preventScroll: true });
    event.preventDefault();
  };
  useKeys(box, onKey);
  const toggle = (/** @type {import("../model/rows.js").Row} */ row) => (row.type === "group" ? onToggleGroup(row.key) : onToggle(row.span));
  const onWheel = (/** @type {WheelEvent} */ event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    onZoom(event.deltaY < 0 ? 0.8 : 1.25);
  };
  const name = useNameWidth(box);

  const [from, until] = range;
  const scale = 100 / Math.max(until - from, 1);
  const percent = (/** @type {number} */ ns) => Math.max(-5, Math.min(105, (ns - from) * scale));
  const marks = ticks(from, until, Math.max(2, Math.floor(width / TICK_PX))).map((tick) => ({ ...tick, x: percent(tick.at) }));
  const stepPx = marks.length > 1 ? ((marks[1].x - marks[0].x) * width) / 100 : width;
  // The last tick's text stands before it where it has no room behind it.
  const atEnd = (/** @type {number} */ x) => ((100 - x) * width) / 100 < TEXT_PX;
  const share = { trace, percent, found };
  return html`<div class="rows" style=${name.width ? `--name:${name.width}px` : ""}>${name.handle}<div class="waterfall" ref=${box} onScroll=${(/** @type {Event} */ e) => setTop(/** @type {HTMLElement} */ (e.target).scrollTop)} onWheel=${onWheel}
    tabindex="0" role="treegrid" aria-label="Spans" aria-rowcount=${rows.length + 1} aria-activedescendant=${at >= first && at < last ? `wf-${at}` : undefined}>
    <div role="rowgroup" class="ruler-group"><div class="ruler" role="row" aria-rowindex="1">
      <span class="w-name" role="columnheader">Span</span><span class="w-took" role="columnheader">Duration</span><span class="w-self" role="columnheader">Self</span>
      <span class="w-time" role="columnheader" ref=${time}><span class="sr">Time</span>${marks.map(({ x, text }) => (atEnd(x) && stepPx < 2 * TEXT_PX ? "" : html`<i aria-hidden="true" style=${`left:${x}%`} class=${atEnd(x) ? "end" : ""}>${text}</i>`))}</span>
    </div></div>
    <div class="space" style=${`height:${rows.length * ROW}px`} role="presentation">
      <div class="layer" style=${`transform:translateY(${first * ROW - top}px)`} role="rowgroup">
        <div class="grid" aria-hidden="true" style=${`transform:translateY(${top - first * ROW}px);height:${Math.min(height, rows.length * ROW)}px`}>${marks.map(({ x }) => html`<i style=${`left:${x}%`}></i>`)}</div>
        ${rows.slice(first, last).map((row, offset) => {
          const number = first + offset;
          const place = { id: `wf-${number}`, role: "row", "aria-level": row.depth + 1, "aria-rowindex": number + 2 };
          return row.type === "group"
            ? html`<${GroupRow} key=${row.key} place=${place} ...${share} row=${row} at=${at === number} odd=${number % 2} onToggle=${() => (setCursor(number), onToggleGroup(row.key))} />`
            : html`<${SpanRow} key=${row.span} place=${place} ...${share} row=${row} at=${at === number} odd=${number % 2} chosen=${chosen === row.span} collapsed=${collapsed.has(row.span)}
                critical=${critical} onChoose=${() => (setCursor(number), onChoose(row.span))} onToggle=${() => (setCursor(number), onToggle(row.span))} />`;
        })}
      </div>
    </div>
  </div></div>`;
}

/**
 * How wide the names' column is: what somebody has dragged it to.
 *
 * @param {{current: HTMLDivElement | null}} box
 */
function useNameWidth(box) {
  const [width, setWidth] = useState(Number(kept("name-width")) || 0);
  const dragged = useRef(false);
  const set = (/** @type {number} */ next) => {
    const most = (box.current?.clientWidth ?? 1000) - 200;
    const kept = Math.round(Math.max(120, Math.min(most, next)));
    setWidth(kept);
    keep("name-width", String(kept));
  };
  const now = () => width || box.current?.querySelector(".w-name")?.clientWidth || 400;
  const onMove = (/** @type {PointerEvent} */ event) => dragged.current && box.current && set(event.clientX - box.current.getBoundingClientRect().left);
  const onKey = (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    event.preventDefault();
    event.stopPropagation();
    set(now() + (event.key === "ArrowLeft" ? -20 : 20));
  };
  const handle = html`<div class="handle" role="separator" tabindex="0" aria-label="Width of the names" aria-orientation="vertical" aria-valuenow=${Math.round(now())} aria-valuemin="120" aria-valuemax="2000"
    onKeyDown=${onKey} onPointerMove=${onMove} onPointerUp=${() => (dragged.current = false)} onDblClick=${() => (setWidth(0), keep("name-width", ""))}
    onPointerDown=${(/** @type {PointerEvent} */ e) => ((dragged.current = true), /** @type {HTMLElement} */ (e.target).setPointerCapture(e.pointerId))}></div>`;
  return { width, handle };
}
