// @ts-check
// What the span's service measured around the time of the span.
import { html, useEffect, useRef, useState, valueOf } from "../html.js";
import { ask } from "../api.js";
import { clock, counted, date } from "../model/format.js";
import { milliseconds } from "../model/period.js";
import { grouped, usualMeasure, valuesOf } from "../model/series.js";
import { address } from "../state.js";
import { seriesColour } from "../colours.js";
import { useAnswer, Waiting } from "./answer.js";
import { brief, quantity, told, unitText } from "./quantity.js";

/** @typedef {import("../model/series.js").MetricGroup} Metric */
/** @typedef {import("../answers.js").Series} Series */

const AROUND_NS = 150e9;
const SHOWN = 8;
/** Of a service whose processes come and go, the latest. */
const MOST_SOURCES = 10;
const WIDTH = 240;
const HEIGHT = 44;

/** @param {{service: string, start: string, took: number}} properties */
export function SpanMetrics({ service, start, took }) {
  const [filter, setFilter] = useState("");
  const [opened] = useState(Date.now());
  const { answer } = useAnswer("metrics", { service }, { everyMs: 5000 });
  if (!answer) return html`<${Waiting} rows=${4} />`;
  const metrics = grouped(answer.metrics);
  if (!metrics.length) return html`<p class="none">${service} has sent no metrics.</p>`;
  const shown = metrics.filter((one) => one.name.toLowerCase().includes(filter.toLowerCase()));
  const after = BigInt(start) + BigInt(Math.round(took)) + BigInt(AROUND_NS);
  const now = BigInt(milliseconds(opened));
  const window = /** @type {[string, string]} */ ([String(BigInt(start) - BigInt(AROUND_NS)), String(after < now ? after : now)]);
  return html`<p class="dim small">${service} from ${clock(date(window[0]))} to ${clock(date(window[1]))}; the line is the span.</p>
    ${metrics.length > SHOWN && html`<input type="text" aria-label="Filter metrics" placeholder=${`Filter ${counted(metrics.length, "metric")}`} value=${filter} onInput=${(/** @type {Event} */ e) => setFilter(valueOf(e))} />`}
    <ul class="sparks">${shown.slice(0, SHOWN).map((metric) => html`<${Spark} key=${metric.id} metric=${metric} window=${window} start=${start} took=${took} />`)}</ul>`;
}

/** @param {{metric: Metric, window: [string, string], start: string, took: number}} properties */
function Spark({ metric, window, start, took }) {
  const [series, setSeries] = useState(/** @type {Series[] | null} */ (null));
  useEffect(() => {
    const ids = metric.ids.slice(0, MOST_SOURCES);
    Promise.all(ids.map((id) => ask(`metrics/${id}/points`, { from: window[0], to: window[1] }))).then((all) => setSeries(all.flatMap((one) => one.series)), () => setSeries([]));
  }, [metric.ids.join(), ...window]);
  const [measure, title] = usualMeasure(metric, series ?? []);
  const unit = unitText(metric.unit, measure);
  const from = Number(BigInt(window[0]) / 1000n) / 1e6;
  const whole = Number(BigInt(window[1]) - BigInt(window[0])) / 1e9;
  const lines = (series ?? []).map((one) => valuesOf(metric, one, measure)).filter((line) => line.some(([, value]) => value !== null));
  const values = lines.flatMap((line) => line.flatMap(([, value]) => (value === null ? [] : [value])));
  const most = Math.max(...values, 0);
  const least = Math.min(...values, 0);
  const x = (/** @type {number} */ at) => ((at - from) / whole) * WIDTH;
  const y = (/** @type {number} */ value) => HEIGHT - 3 - ((value - least) / Math.max(most - least, 1e-12)) * (HEIGHT - 6);
  const begin = x(Number(BigInt(start) / 1000n) / 1e6);
  const when = Number(BigInt(start) / 1000n) / 1e6;
  const near = lines.map((line) => line.reduce((best, one) => (Math.abs(one[0] - when) < Math.abs(best[0] - when) ? one : best))).filter(([, value]) => value !== null);
  const highest = near.length ? near.reduce((best, one) => (Number(one[1]) > Number(best[1]) ? one : best)) : null;
  return html`<li><a href=${address(["metrics", String(metric.id)])}><b>${metric.name}</b></a><small>${measure === "rate" && unit ? unit : [title.toLowerCase(), unit].filter(Boolean).join(", ")}</small>
    ${series && !lines.length && html`<p class="none">${series.some((one) => one.mixed) ? "totals of several processes mix" : "no points in this time"}</p>`}
    ${lines.length > 0 && html`<div class="spark"><svg viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label=${`${metric.name} around the span: up to ${quantity(most, measure === "rate" ? "" : metric.unit)}`}>
      <rect x=${begin} y="0" width=${Math.max(1, (took / 1e9 / whole) * WIDTH)} height=${HEIGHT} class="now" />
      ${lines.slice(0, 12).map((line, number) => html`<path class=${line.length === 1 ? "point" : ""} style=${`stroke:${seriesColour(number)}`} d=${path(line, x, y)} />`)}</svg>
      <span><b>${told(highest, measure === "rate" ? "" : metric.unit, brief)}</b><small>${lines.length > 1 ? `highest of ${lines.length}` : "then"}</small></span></div>`}
  </li>`;
}

/** @param {import("../model/series.js").Value[]} line @param {(at: number) => number} x @param {(value: number) => number} y */
function path(line, x, y) {
  let pen = "M";
  return line
    .map(([at, value]) => {
      if (value === null) return ((pen = "M"), "");
      // Alone, a point is a line without a length, which is drawn by its round ends.
      const part = `${pen}${x(at).toFixed(1)} ${y(value).toFixed(1)}${pen === "M" ? "h0" : ""}`;
      pen = "L";
      return part;
    })
    .join("");
}
