// @ts-check
// The whole trace at a glance. Dragging over it chooses the time that the waterfall shows; what is chosen can be moved,
// and its ends too.
import { html, useEffect, useRef } from "../html.js";
import { duration } from "../model/format.js";
import { colour, painted } from "../colours.js";
import { look, theme } from "../state.js";

const HEIGHT = 52;
const EDGE_PX = 9;

/** @typedef {[number, number]} Range */

/**
 * @param {{trace: import("../model/trace.js").Trace, range: Range, onRange: (range: Range) => void, found: Set<number>}} properties
 */
export function Minimap({ trace, range, onRange, found }) {
  const canvas = useRef(/** @type {HTMLCanvasElement | null} */ (null));
  const drag = useRef(/** @type {((at: number) => Range) | null} */ (null));
  useEffect(() => {
    const element = /** @type {HTMLCanvasElement} */ (canvas.current);
    const draw = () => paint(element, trace, found);
    draw();
    const observer = new ResizeObserver(draw);
    observer.observe(element);
    return () => observer.disconnect();
  }, [trace, found, theme.value, look.value]);
  const whole = trace.duration;
  const clamp = (/** @type {number} */ at) => Math.max(0, Math.min(whole, at));
  const at = (/** @type {PointerEvent} */ event) => {
    const box = /** @type {HTMLElement} */ (event.currentTarget).getBoundingClientRect();
    return clamp(((event.clientX - box.left) / box.width) * whole);
  };
  const begin = (/** @type {PointerEvent} */ event) => {
    const element = /** @type {HTMLElement} */ (event.currentTarget);
    element.setPointerCapture(event.pointerId);
    const from = at(event);
    const near = (EDGE_PX / element.clientWidth) * whole;
    const [low, high] = range;
    const zoomed = low > 0 || high < whole;
    if (zoomed && Math.abs(from - low) < near) drag.current = (now) => sorted(now, high);
    else if (zoomed && Math.abs(from - high) < near) drag.current = (now) => sorted(low, now);
    else if (zoomed && from > low && from < high)
      drag.current = (now) => {
        const by = Math.max(-low, Math.min(whole - high, now - from));
        return [low + by, high + by];
      };
    else drag.current = (now) => (Math.abs(now - from) > whole / 500 ? sorted(from, now) : range);
  };
  const onMove = (/** @type {PointerEvent} */ event) => {
    const next = drag.current?.(at(event));
    if (next && next[1] > next[0]) onRange(next);
  };
  const handle = (/** @type {0 | 1} */ side) => {
    const onKey = (/** @type {KeyboardEvent} */ event) => {
      const steps = /** @type {Record<string, number>} */ ({ ArrowLeft: -0.01, ArrowRight: 0.01, ArrowDown: -0.01, ArrowUp: 0.01, PageDown: -0.1, PageUp: 0.1, Home: -1, End: 1 });
      if (!(event.key in steps)) return;
      event.preventDefault();
      event.stopPropagation();
      const next = /** @type {Range} */ ([...range]);
      next[side] = clamp(range[side] + steps[event.key] * whole);
      if (next[1] - next[0] > whole / 1e6) onRange(next);
    };
    const place = (100 * range[side]) / whole;
    return html`<span class="grip" role="slider" tabindex="0" aria-label=${side ? "End of the time shown" : "Start of the time shown"} aria-valuemin="0" aria-valuemax="100" aria-valuenow=${Math.round(place)}
      aria-valuetext=${duration(range[side])} style=${`left:${place}%`} onKeyDown=${onKey}></span>`;
  };
  const left = (100 * range[0]) / whole;
  const right = 100 - (100 * range[1]) / whole;
  return html`<div class=${`minimap ${left > 0 || right > 0 ? "zoomed" : ""}`} role="group" aria-label="Time shown" title="Drag to zoom in, double click for the whole trace" onPointerDown=${begin} onPointerMove=${onMove}
    onPointerUp=${() => (drag.current = null)} onPointerCancel=${() => (drag.current = null)} onDblClick=${() => onRange([0, whole])}>
    <canvas ref=${canvas} aria-hidden="true"></canvas>
    <i class="shade" style=${`left:0;width:${left}%`}></i><i class="shade" style=${`right:0;width:${right}%`}></i>
    ${handle(0)}${handle(1)}
  </div>`;
}

/** @param {number} a @param {number} b @returns {Range} */
function sorted(a, b) {
  return a < b ? [a, b] : [b, a];
}

/** @param {HTMLCanvasElement} canvas @param {import("../model/trace.js").Trace} trace @param {Set<number>} found */
function paint(canvas, trace, found) {
  const width = canvas.clientWidth;
  const ratio = devicePixelRatio || 1;
  canvas.width = width * ratio;
  canvas.height = HEIGHT * ratio;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.scale(ratio, ratio);
  context.clearRect(0, 0, width, HEIGHT);
  const services = trace.data.resources.map((one) => one.service);
  const parent = /** @type {HTMLElement} */ (canvas.parentElement);
  const [bad, mark, ...inks] = painted(parent, ["var(--bad)", "var(--found)", ...services.map(colour)]);
  const rows = trace.order;
  const line = Math.max(1, Math.min(4, (HEIGHT - 8) / rows.length - 0.5));
  // Of a large trace, each pixel's line shows a few of its spans.
  const stride = Math.max(1, Math.floor(rows.length / (HEIGHT * 60)));
  const draw = (/** @type {number} */ at, /** @type {string} */ ink, /** @type {number} */ least) => {
    const span = rows[at];
    context.fillStyle = ink;
    const w = Math.max(least, (trace.took(span) / trace.duration) * width);
    context.fillRect((trace.start[span] / trace.duration) * width, 4 + (at / rows.length) * (HEIGHT - 8), w, line);
  };
  for (let at = 0; at < rows.length; at += stride) draw(at, inks[trace.data.spans.resource[rows[at]]], 1);
  // What is looked for must not be left out.
  for (let at = 0; at < rows.length; at++) {
    if (trace.failed(rows[at])) draw(at, bad, 2);
    if (found.has(rows[at])) draw(at, mark, 3);
  }
}
