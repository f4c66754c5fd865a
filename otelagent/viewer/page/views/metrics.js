// @ts-check
import { html, useEffect, useRef, useState } from "../html.js";
import { ask } from "../api.js";
import uPlot from "../vendor/uplot.js";
import { count, date, duration, valueText } from "../model/format.js";
import { address, changesSlowly, colour, place, theme, useNews } from "../state.js";

export function Metrics() {
  const [metrics, setMetrics] = useState(/** @type {any[] | null} */ (null));
  const [error, setError] = useState("");
  const [filter, setFilter] = useState("");
  const seen = useNews(changesSlowly.value);
  const chosen = place.value.path[1] ? Number(place.value.path[1]) : 0;
  useEffect(() => {
    ask("metrics").then((answer) => setMetrics(answer.metrics), (problem) => setError(problem.message));
  }, [seen]);
  if (error) return html`<div class="page"><h1>Metrics</h1><p class="problem" role="alert">${error}</p></div>`;
  if (!metrics) return html`<div class="page"><h1>Metrics</h1><p class="dim" role="status">Loading…</p></div>`;
  if (!metrics.length) return html`<div class="page empty"><h1>Metrics</h1><p>No metrics yet. Any OpenTelemetry SDK can send them to this viewer.</p></div>`;
  const shown = metrics.filter((one) => `${one.name} ${one.service}`.toLowerCase().includes(filter.toLowerCase()));
  const metric = metrics.find((one) => one.id === chosen) ?? shown[0];
  return html`<div class="page metrics"><h1 class="sr">Metrics</h1>
    <nav class="side" aria-label="Metrics"><input type="search" aria-label="Filter metrics" placeholder="Filter  ( / )" value=${filter} onInput=${(/** @type {any} */ e) => setFilter(e.target.value)} />
      <ul>${shown.map((one) => html`<li key=${one.id}><a href=${address(["metrics", String(one.id)])} aria-current=${metric?.id === one.id ? "true" : undefined}><b>${one.name}</b><small><i class="dot" style=${`background:${colour(one.service)}`}></i>${one.service} · ${one.kind.replace("_", " ")} · ${count(one.series)} series</small></a></li>`)}</ul></nav>
    ${metric && html`<${Metric} key=${metric.id} metric=${metric} seen=${seen} />`}
  </div>`;
}

/** @param {{metric: any, seen: number}} properties */
function Metric({ metric, seen }) {
  const [series, setSeries] = useState(/** @type {any[]} */ ([]));
  useEffect(() => {
    ask(`metrics/${metric.id}/points`).then((answer) => setSeries(answer.series), () => undefined);
  }, [metric.id, seen]);
  const examples = series.flatMap((one) => one.points.flatMap((/** @type {any} */ point) => point[3] ?? [])).filter((one) => one.trace);
  return html`<section class="metric"><h2>${metric.name}</h2><p class="dim">${metric.description} ${metric.unit && html`(${metric.unit})`}</p>
    <${Chart} series=${series} unit=${metric.unit} />
    <table class="plain"><caption class="sr">Series and their last values</caption><thead><tr><th>Series</th><th class="num">Last</th></tr></thead><tbody>
      ${series.map((one, number) => html`<tr><td><i class="dot" style=${`background:${ink(number)}`}></i>${label(one.attributes)}</td><td class="num">${shown(one.points.at(-1), metric.unit)}</td></tr>`)}</tbody></table>
    ${examples.length > 0 && html`<h3>Examples</h3><ul class="links">${examples.slice(-10).map((one) => html`<li>${number(one.value, metric.unit)} <a href=${address(["trace", one.trace], { span: one.span })}>trace ${one.trace.slice(0, 8)}…</a></li>`)}</ul>`}
  </section>`;
}

/** @param {any} point @returns {number | null} */
function value(point) {
  if (!point) return null;
  if (point[1] !== null) return point[1];
  const all = point[2];
  return all && all.count ? all.sum / all.count : null;
}

/** @param {any} point @param {string} unit */
function shown(point, unit) {
  if (!point) return "–";
  if (point[1] !== null) return number(point[1], unit);
  return `${count(point[2].count)} × ${number(value(point) ?? 0, unit)}`;
}

/** @param {number} of @param {string} unit */
function number(of, unit) {
  const seconds = { s: 1e9, ms: 1e6, us: 1e3, ns: 1 }[unit];
  if (seconds) return duration(of * seconds);
  return Number.isInteger(of) ? count(of) : of.toPrecision(4);
}

/** @param {Record<string, unknown>} attributes */
function label(attributes) {
  return Object.entries(attributes).map(([key, value]) => `${key}=${valueText(value)[0]}`).join(", ") || "(no attributes)";
}

/** @param {number} number */
function ink(number) {
  return `oklch(var(--bar-l) var(--bar-c) ${(250 + number * 137.5) % 360})`;
}

/** @param {{series: any[], unit: string}} properties */
function Chart({ series, unit }) {
  const place = useRef(/** @type {HTMLDivElement | null} */ (null));
  const look = theme.value;
  useEffect(() => {
    const box = /** @type {HTMLDivElement} */ (place.current);
    if (!series.length) return;
    const style = getComputedStyle(box);
    const probe = document.createElement("i");
    box.append(probe);
    const inks = series.slice(0, 20).map((_, number) => ((probe.style.color = ink(number)), getComputedStyle(probe).color));
    probe.remove();
    const grid = { stroke: style.getPropertyValue("--rule").trim(), width: 1 };
    const axis = { stroke: style.getPropertyValue("--dim").trim(), grid, ticks: { show: false }, font: "11px system-ui" };
    const data = uPlot.join(series.slice(0, 20).map((one) => [one.points.map((/** @type {any} */ point) => date(point[0]).getTime() / 1000), one.points.map(value)]));
    const made = new uPlot(
      {
        width: box.clientWidth,
        height: 260,
        legend: { show: false },
        scales: { x: { time: true } },
        axes: [axis, { ...axis, size: 72, values: (/** @type {any} */ _, /** @type {number[]} */ values) => values.map((one) => number(one, unit)) }],
        series: [{}, ...inks.map((stroke) => ({ stroke, width: 1.5, spanGaps: true, points: { size: 4 } }))],
      },
      data,
      box,
    );
    const resize = new ResizeObserver(() => made.setSize({ width: box.clientWidth, height: 260 }));
    resize.observe(box);
    return () => (resize.disconnect(), made.destroy());
  }, [series, look]);
  return html`<div class="chart" ref=${place} role="img" aria-label="Values over time; the table below has the last ones"></div>`;
}
