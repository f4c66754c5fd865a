// @ts-check
// When the traces of the list began and how long they took: outliers are seen at a glance, a click opens one.
import { html, useEffect, useRef } from "../html.js";
import uPlot from "../vendor/uplot.js";
import { date, duration } from "../model/format.js";
import { go, theme } from "../state.js";

const HEIGHT = 120;

/** @param {{traces: any[]}} properties */
export function Scatter({ traces }) {
  const place = useRef(/** @type {HTMLDivElement | null} */ (null));
  const chart = useRef(/** @type {any} */ (null));
  const shown = useRef(traces);
  const look = theme.value;
  const sorted = [...traces].sort((a, b) => date(a.start).getTime() - date(b.start).getTime());
  shown.current = sorted;
  const data = [
    sorted.map((one) => date(one.start).getTime() / 1000),
    sorted.map((one) => (one.errors ? null : Math.max(one.duration, 1))),
    sorted.map((one) => (one.errors ? Math.max(one.duration, 1) : null)),
  ];
  useEffect(() => {
    const box = /** @type {HTMLDivElement} */ (place.current);
    const style = getComputedStyle(box);
    const ink = style.getPropertyValue("--dim").trim();
    const grid = { stroke: style.getPropertyValue("--rule").trim(), width: 1 };
    const axis = { stroke: ink, grid, ticks: { show: false }, font: "11px system-ui" };
    const dots = (/** @type {string} */ name) => ({ paths: () => null, points: { show: true, size: 7, fill: style.getPropertyValue(name).trim(), width: 0 } });
    const made = new uPlot(
      {
        width: box.clientWidth,
        height: HEIGHT,
        legend: { show: false },
        cursor: { drag: { x: false, y: false }, points: { show: false } },
        scales: { x: { time: true }, y: { distr: 3 } },
        axes: [axis, { ...axis, size: 64, values: (/** @type {any} */ _, /** @type {number[]} */ values) => values.map((value) => (value === null || !/^1/.test(String(value)) ? "" : duration(value))) }],
        series: [{}, dots("--accent"), dots("--bad")],
      },
      data,
      box,
    );
    chart.current = made;
    const resize = new ResizeObserver(() => made.setSize({ width: box.clientWidth, height: HEIGHT }));
    resize.observe(box);
    const open = (/** @type {MouseEvent} */ event) => {
      const area = made.over.getBoundingClientRect();
      let best = -1;
      let least = 15;
      shown.current.forEach((one, i) => {
        const x = made.valToPos(date(one.start).getTime() / 1000, "x") + area.left - event.clientX;
        const y = made.valToPos(Math.max(one.duration, 1), "y") + area.top - event.clientY;
        const distance = Math.hypot(x, y);
        if (distance < least) [best, least] = [i, distance];
      });
      if (best >= 0) go(["trace", shown.current[best].id]);
    };
    made.over.addEventListener("click", open);
    return () => {
      resize.disconnect();
      made.destroy();
    };
  }, [look]);
  useEffect(() => chart.current?.setData(data), [traces]);
  return html`<div class="scatter" ref=${place} role="img" aria-label=${`Duration over time of ${traces.length} traces; the table below has the same`}></div>`;
}
