// @ts-check
// When the traces of the list began and how long they took: a click opens one, dragging chooses a time.
import { html, useEffect, useRef } from "../html.js";
import { counted, date, duration } from "../model/format.js";
import { milliseconds } from "../model/period.js";
import { go, look, theme } from "../state.js";
import { clockAxis, Plot, style } from "./plot.js";

/** @typedef {import("../answers.js").TraceSummary} TraceSummary */

const HEIGHT = 104;
const NEAR_PX = 15;

/** @param {{traces: TraceSummary[], onWindow: (from: string, to: string) => void}} properties */
export function Scatter({ traces, onWindow }) {
  const box = useRef(/** @type {HTMLDivElement | null} */ (null));
  const plot = useRef(/** @type {Plot | null} */ (null));
  const sorted = traces.map((one) => ({ one, at: date(one.start).getTime() / 1000, took: Math.max(one.duration, 1) })).sort((a, b) => a.at - b.at);
  const now = useRef({ sorted, onWindow });
  now.current = { sorted, onWindow };
  const data = [sorted.map(({ at }) => at), sorted.map(({ one, took }) => (one.errors ? null : took)), sorted.map(({ one, took }) => (one.errors ? took : null))];
  useEffect(() => {
    const element = /** @type {HTMLDivElement} */ (box.current);
    const { axis, paint } = style(element);
    const dots = (/** @type {string} */ name, /** @type {number} */ size) => ({ paths: () => null, points: { show: true, size, fill: paint(name), width: 0 } });
    const nearest = (/** @type {number} */ left, /** @type {number} */ top) => {
      const chart = /** @type {Plot} */ (plot.current).chart;
      let best = -1;
      let least = NEAR_PX;
      now.current.sorted.forEach(({ at, took }, i) => {
        const distance = Math.hypot(chart.valToPos(at, "x") - left, chart.valToPos(took, "y") - top);
        if (distance < least) [best, least] = [i, distance];
      });
      return best < 0 ? null : now.current.sorted[best].one;
    };
    // Of the traces themselves: what uPlot tells of a single one is years.
    const around = () => {
      const low = now.current.sorted[0].at;
      const high = now.current.sorted[now.current.sorted.length - 1].at;
      const pad = Math.max(0.5, (high - low) * 0.015);
      return [low - pad, high + pad];
    };
    const tip = document.createElement("div");
    tip.className = "tip";
    tip.hidden = true;
    const made = new Plot(element, HEIGHT, data, {
      cursor: { drag: { x: true, y: false, setScale: false, dist: 6 }, points: { show: false }, y: false },
      scales: { x: { time: true, range: around }, y: { distr: 3 } },
      axes: [clockAxis(axis), { ...axis, size: 62, filter: (/** @type {any} */ _, /** @type {number[]} */ splits) => splits, splits: (/** @type {any} */ _u, /** @type {any} */ _i, /** @type {number} */ low, /** @type {number} */ high) => decades(low, high), values: (/** @type {any} */ _, /** @type {number[]} */ values) => values.map((value) => duration(value).replace(/\.0+ /, " ")) }],
      series: [{}, dots("--accent", 7), dots("--bad", 8)],
      hooks: {
        setCursor: [(/** @type {any} */ chart) => {
          const one = chart.cursor.left < 0 ? null : nearest(chart.cursor.left, chart.cursor.top);
          tip.hidden = !one;
          chart.over.style.cursor = one ? "pointer" : "crosshair";
          if (!one) return;
          tip.textContent = `${one.name} · ${duration(one.duration)}${one.errors ? ` · ${counted(one.errors, "error")}` : ""}`;
          const right = chart.cursor.left > chart.over.clientWidth / 2;
          tip.style.cssText = `top:2px;${right ? `right:${chart.over.clientWidth - chart.cursor.left + 12}px` : `left:${chart.cursor.left + 12}px`}`;
        }],
        setSelect: [(/** @type {any} */ chart) => {
          const { left, width } = chart.select;
          if (width < 6) return;
          now.current.onWindow(milliseconds(chart.posToVal(left, "x") * 1000), milliseconds(chart.posToVal(left + width, "x") * 1000));
          chart.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        }],
      },
    });
    made.chart.over.append(tip);
    plot.current = made;
    const open = (/** @type {MouseEvent} */ event) => {
      const area = made.chart.over.getBoundingClientRect();
      const one = nearest(event.clientX - area.left, event.clientY - area.top);
      if (one) go(["trace", one.id]);
    };
    made.chart.over.addEventListener("click", open);
    return () => made.destroy();
  }, [theme.value, look.value]);
  useEffect(() => plot.current?.chart.setData(data), [traces]);
  return html`<div class="scatter" ref=${box} role="img" aria-label=${`Duration over time of ${counted(traces.length, "trace")}; the table below has the same`}></div>`;
}

/** Powers of ten within a scale, at most five of them. @param {number} low @param {number} high */
function decades(low, high) {
  const found = [];
  for (let power = Math.ceil(Math.log10(low) - 1e-9); power <= Math.log10(high) + 1e-9; power++) found.push(10 ** power);
  const step = Math.ceil(found.length / 4);
  return found.filter((_, i) => i % step === 0);
}
