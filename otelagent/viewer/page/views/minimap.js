// @ts-check
// The whole trace at a glance; dragging over it zooms the waterfall.
import { html, useEffect, useRef } from "../html.js";
import { duration } from "../model/format.js";
import { colour, theme } from "../state.js";

const HEIGHT = 56;

/**
 * @param {{trace: import("../model/trace.js").Trace, range: [number, number], onRange: (range: [number, number]) => void,
 *   found: Set<number>}} properties
 */
export function Minimap({ trace, range, onRange, found }) {
  const canvas = useRef(/** @type {HTMLCanvasElement | null} */ (null));
  const from = useRef(/** @type {number | null} */ (null));
  const look = theme.value;
  useEffect(() => {
    const element = /** @type {HTMLCanvasElement} */ (canvas.current);
    const draw = () => paint(element, trace, found);
    draw();
    const observer = new ResizeObserver(draw);
    observer.observe(element);
    return () => observer.disconnect();
  }, [trace, found, look]);
  const at = (/** @type {PointerEvent} */ event) => {
    const box = /** @type {HTMLElement} */ (event.currentTarget).getBoundingClientRect();
    return Math.max(0, Math.min(1, (event.clientX - box.left) / box.width)) * trace.duration;
  };
  const onMove = (/** @type {PointerEvent} */ event) => {
    if (from.current === null) return;
    const here = at(event);
    if (Math.abs(here - from.current) > trace.duration / 500) onRange([Math.min(from.current, here), Math.max(from.current, here)]);
  };
  const left = (100 * range[0]) / trace.duration;
  const right = 100 - (100 * range[1]) / trace.duration;
  const key = (/** @type {KeyboardEvent} */ event) => {
    const width = range[1] - range[0];
    /** @type {Record<string, [number, number]>} */
    const moves = { ArrowLeft: [-0.1, -0.1], ArrowRight: [0.1, 0.1], "+": [0.1, -0.1], "-": [-0.125, 0.125] };
    if (!(event.key in moves)) return;
    event.preventDefault();
    const [a, b] = moves[event.key];
    const next = /** @type {[number, number]} */ ([Math.max(0, range[0] + a * width), Math.min(trace.duration, range[1] + b * width)]);
    if (next[1] > next[0]) onRange(next);
  };
  return html`<div class="minimap" tabindex="0" role="slider" aria-label="Time shown; arrows move it, plus and minus zoom" aria-valuemin="0" aria-valuemax="100"
    aria-valuenow=${Math.round(left)} aria-valuetext=${`${duration(range[0])} to ${duration(range[1])}`} onKeyDown=${key}
    onPointerDown=${(/** @type {PointerEvent} */ e) => { from.current = at(e); /** @type {HTMLElement} */ (e.currentTarget).setPointerCapture(e.pointerId); }}
    onPointerMove=${onMove} onPointerUp=${() => (from.current = null)} onDblClick=${() => onRange([0, trace.duration])}>
    <canvas ref=${canvas} height=${HEIGHT}></canvas>
    <i class="shade" style=${`left:0;width:${left}%`}></i><i class="shade" style=${`right:0;width:${right}%`}></i>
  </div>`;
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
  const style = getComputedStyle(canvas);
  const bad = style.getPropertyValue("--bad").trim();
  const mark = style.getPropertyValue("--found").trim();
  /** @type {Map<string, string>} */
  const paints = new Map();
  const probe = document.createElement("i");
  canvas.parentElement?.append(probe);
  const rows = trace.order;
  const line = Math.max(1, Math.min(4, (HEIGHT - 6) / rows.length - 0.5));
  // Of a large trace, each pixel's line shows one of its spans.
  const stride = Math.max(1, Math.floor(rows.length / (HEIGHT * 40)));
  for (let at = 0; at < rows.length; at += stride) {
    const span = rows[at];
    const service = trace.service(span);
    let ink = paints.get(service);
    if (!ink) {
      probe.style.color = colour(service);
      ink = getComputedStyle(probe).color;
      paints.set(service, ink);
    }
    context.fillStyle = found.has(span) ? mark : trace.failed(span) ? bad : ink;
    const x = (trace.start[span] / trace.duration) * width;
    const w = Math.max(1, ((trace.end[span] - trace.start[span]) / trace.duration) * width);
    context.fillRect(x, 3 + (at / rows.length) * (HEIGHT - 6), w, line);
  }
  probe.remove();
}
