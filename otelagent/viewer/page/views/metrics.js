// @ts-check
// Metrics by name, each with its series over time.
import { html, useEffect, useMemo, useRef, useState, valueOf } from "../html.js";
import uPlot from "../vendor/uplot.js";
import { attributesText, clock, count, counted, date, moment } from "../model/format.js";
import { grouped, measures, sourceNames, usualMeasure, valuesOf } from "../model/series.js";
import { colour, painted, seriesColour } from "../colours.js";
import { address, go, look, place, theme } from "../state.js";
import { Problem, useAnswer, Waiting } from "./answer.js";
import { Command } from "./empty.js";
import { clockAxis, Plot, style } from "./plot.js";
import { brief, quantity, told, unitText } from "./quantity.js";

/** @typedef {import("../answers.js").Metric} MetricInfo */
/** @typedef {import("../model/series.js").MetricGroup} MetricGroup */
/** @typedef {import("../answers.js").Series & {source: number}} Series */
/** @typedef {{series: Series, line: import("../model/series.js").Value[], number: number}} Line */

const MOST_LINES = 30;
/** As many as the API lists. */
const MOST_METRICS = 2_000;
/** Of a service whose processes come and go, the latest. */
const MOST_SOURCES = 10;

export function Metrics() {
  const [filter, setFilter] = useState("");
  const { answer, error } = useAnswer("metrics", {}, { everyMs: 5000 });
  if (!answer) return html`<div class="page"><h1 class="sr">Metrics</h1>${error ? html`<${Problem} error=${error} />` : html`<${Waiting} />`}</div>`;
  const metrics = grouped(/** @type {MetricInfo[]} */ (answer.metrics));
  if (!metrics.length)
    return html`<div class="page"><div class="empty"><h1>No metrics yet</h1><p>Any OpenTelemetry SDK can send them here. otelagent sends none by itself; in Python, with the packages <code>opentelemetry-sdk</code> and <code>opentelemetry-exporter-otlp-proto-http</code>:</p>
      <${Command} text=${advice()} /></div></div>`;
  const wanted = filter.toLowerCase();
  const shown = metrics.filter((one) => `${one.name} ${one.service} ${one.description}`.toLowerCase().includes(wanted));
  const chosen = Number(place.value.path[1] ?? 0);
  const metric = metrics.find((one) => one.ids.includes(chosen)) ?? shown[0];
  return html`<div class="page metrics"><h1 class="sr">Metrics</h1>
    <nav class="side" aria-label="Metrics"><input type="search" aria-label="Filter metrics" placeholder=${`Filter ${counted(metrics.length, "metric")}  ( / )`} value=${filter} onInput=${(/** @type {Event} */ e) => setFilter(valueOf(e))} />
      <ul>${shown.map((one) => html`<li key=${one.id}><a href=${address(["metrics", String(one.id)])} aria-current=${metric?.id === one.id ? "true" : undefined}><b>${one.name}</b><small><i class="dot" style=${`background:${colour(one.service)}`}></i>${one.service} · ${one.kind.replace(/_/g, " ")}${one.ids.length > 1 && ` · ${counted(one.ids.length, "source")}`}</small></a></li>`)}</ul>
      ${answer.metrics.length >= MOST_METRICS && html`<p class="note warn">Only the first ${count(MOST_METRICS)} metrics are listed.</p>`}
      ${!shown.length && html`<p class="none">No metric is like that.</p>`}</nav>
    ${metric && html`<${Metric} key=${metric.id} metric=${metric} />`}
  </div>`;
}

/** What makes a program send metrics here. */
function advice() {
  return `from opentelemetry import metrics
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

exporter = OTLPMetricExporter("${location.origin}/v1/metrics")
metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(exporter)]))`;
}

/** @param {{metric: MetricGroup}} properties */
function Metric({ metric }) {
  const query = place.value.query;
  const possible = measures(metric);
  const ids = metric.ids.slice(0, MOST_SOURCES);
  const { answer, error } = useAnswer(ids.map((id) => `metrics/${id}/points`), {}, { everyMs: 3000 });
  const points = /** @type {{series: import("../answers.js").Series[]}[] | null} */ (answer);
  const series = useMemo(() => points?.flatMap((one, source) => one.series.map((each) => ({ ...each, source }))), [points]);
  const first = series?.filter((one) => !one.sender) ?? [];
  const measure = possible.find(([name]) => name === query.get("show"))?.[0] ?? usualMeasure(metric, series ?? [])[0];
  const sources = sourceNames(metric.sources);
  const several = series?.some((one) => one.sender) ?? false;
  const name = (/** @type {Series} */ one) => nameOf(one, sources, several, metric.temporality === 1);
  const lines = useMemo(
    () => (series ?? []).map((one, number) => ({ series: one, line: valuesOf(metric, one, measure), number })).sort((a, b) => (last(b)?.[1] ?? -1) - (last(a)?.[1] ?? -1)),
    [series, measure],
  );
  const examples = useMemo(() => examplesOf(series ?? []), [series]);
  const unit = measure === "rate" ? "" : metric.unit;
  return html`<section class="metric">
    <div class="head"><h2>${metric.name}</h2><span class="service"><i class="dot" style=${`background:${colour(metric.service)}`}></i>${metric.service}</span><span class="grow"></span>
      ${possible.length > 1 && html`<label class="inline"><span class="sr">Shown</span><select value=${measure} onChange=${(/** @type {Event} */ e) => go(["metrics", String(metric.id)], { show: valueOf(e) }, true)}>${possible.map(([name, title]) => html`<option value=${name} selected=${name === measure}>${title}</option>`)}</select></label>`}</div>
    ${metric.description && html`<p>${metric.description}</p>`}
    <p class="kind">${kindText(metric)}</p>
    <${Problem} error=${error} />
    ${!series && !error && html`<${Waiting} />`}
    ${series && html`<p class="axis dim">${unitText(metric.unit, measure)}</p><${Chart} lines=${lines.slice(0, MOST_LINES)} name=${name} unit=${unit} examples=${unit === metric.unit ? examples : []} />
      ${lines.length > MOST_LINES && html`<p class="note">The chart has the ${MOST_LINES} series with the highest last values of ${count(lines.length)}.</p>`}
      ${metric.ids.length > MOST_SOURCES && html`<p class="note">Here are the latest ${MOST_SOURCES} of its ${count(metric.ids.length)} sources.</p>`}
      ${metric.series > first.length && html`<p class="note warn">Only ${count(first.length)} of its ${counted(metric.series, "series", "series")} are here.</p>`}
      ${several && html`<p class="note">Several processes send this with the same resource. Their points are told apart by the time since which they count; a <code>service.instance.id</code> would name them.</p>`}
      ${series.some((one) => one.mixed) && html`<p class="note warn">Several processes send this with the same resource, and the points don't say of which they are: the totals of several are one series here, of which there is no rate. Give each process a <code>service.instance.id</code>.</p>`}
      ${series.some((one) => one.more) && html`<p class="note">There are older points than those shown: of each series here are the latest 1,000.</p>`}
      ${metric.ids.length > 1 && html`<p class="dim small">A source is a process, or an instrumentation scope in it.</p>`}
      <div class="scroll" tabindex="0" role="region" aria-label="Series"><table class="plain"><caption class="sr">Series and their last values</caption><thead><tr><th scope="col">Series</th><th scope="col" class="num">Last</th><th scope="col" class="num">Points</th></tr></thead><tbody>
      ${lines.map((one) => html`<tr><td><i class="dot" style=${`background:${seriesColour(one.number)}`}></i>${name(one.series) || html`<span class="dim">no attributes</span>`}</td><td class="num">${told(last(one), unit)}</td><td class="num">${count(one.series.points.length)}</td></tr>`)}</tbody></table></div>`}
    ${examples.length > 0 && html`<h3>Exemplars</h3><ul class="exemplars">${examples.slice(0, 12).map((one) => html`<li><a href=${address(["trace", one.trace], { span: one.span })}><b>${quantity(one.value, metric.unit)}</b> at ${clock(date(one.time))} <small>trace ${one.trace.slice(0, 8)}…</small></a></li>`)}</ul>`}
  </section>`;
}

/** The last that has a value: between the last two points there may have been nothing. @param {Line} line */
function last({ line }) {
  for (let at = line.length - 1; at >= 0; at--) if (line[at][1] !== null) return line[at];
  return null;
}

/** Whether there is nothing to draw a line to. @param {Line} line */
function single({ line }) {
  return line.filter(([, value]) => value !== null).length === 1;
}

/** Cumulative sum, up and down, unit request. @param {MetricInfo} metric */
function kindText({ kind, temporality, monotonic, unit }) {
  const what = `${["", "delta ", "cumulative "][temporality] ?? ""}${kind.replace(/_/g, " ")}`;
  return [what[0].toUpperCase() + what.slice(1), kind === "sum" && !monotonic && "up and down", unit && `unit ${unit.replace(/[{}]/g, "")}`].filter(Boolean).join(", ");
}

/** @param {Series} one @param {string[]} sources of several each line says of which it is @param {boolean} several whether one source has several senders @param {boolean} delta */
function nameOf(one, sources, several, delta) {
  const sender = delta || one.since === "0" ? `sender ${one.sender + 1}` : `since ${moment(one.since)}`;
  return [attributesText(one.attributes), sources.length > 1 && sources[one.source], several && sender].filter(Boolean).join(" · ");
}

/** The latest exemplars that name a trace, each once. @param {Series[]} series */
function examplesOf(series) {
  const all = series.flatMap((one) => one.points.flatMap((point) => point[3] ?? [])).filter((one) => one.trace);
  const known = new Map(all.map((one) => [`${one.trace}/${one.span}/${one.time}`, one]));
  return [...known.values()].sort((a, b) => (BigInt(a.time) < BigInt(b.time) ? 1 : -1));
}

/** @param {{lines: Line[], name: (one: Series) => string, unit: string, examples: import("../answers.js").Exemplar[]}} properties */
function Chart({ lines, name, unit, examples }) {
  const box = useRef(/** @type {HTMLDivElement | null} */ (null));
  useEffect(() => {
    const element = /** @type {HTMLDivElement} */ (box.current);
    const drawn = lines.filter(({ line }) => line.length);
    if (!drawn.length) return;
    const { axis, paint } = style(element);
    const inks = painted(element, drawn.map(({ number }) => seriesColour(number)));
    const dots = [...examples].filter((one) => one.value !== null).sort((a, b) => (BigInt(a.time) < BigInt(b.time) ? -1 : 1));
    const tables = drawn.map(({ line }) => [line.map(([at]) => at), line.map(([, value]) => value)]);
    if (dots.length) tables.push([dots.map((one) => date(one.time).getTime() / 1000), dots.map((one) => one.value)]);
    const marks = dots.length ? [{ paths: () => null, points: { show: true, size: 9, fill: paint("--card"), stroke: paint("--ink"), width: 1.5 } }] : [];
    const tip = document.createElement("div");
    tip.className = "tip";
    tip.hidden = true;
    const plot = new Plot(element, 260, uPlot.join(tables), {
      cursor: { drag: { x: true, y: false, dist: 6 }, points: { size: 7 } },
      scales: { x: { time: true }, y: { range: (/** @type {any} */ _, /** @type {number} */ low, /** @type {number} */ high) => [Math.min(0, low ?? 0), (high ?? 1) * 1.08 || 1] } },
      axes: [clockAxis(axis), { ...axis, size: 74, values: (/** @type {any} */ _, /** @type {number[]} */ values) => values.map((one) => brief(one, unit)) }],
      series: [{}, ...inks.map((stroke, i) => ({ stroke, width: 1.5, spanGaps: true, points: { show: single(drawn[i]), size: 7, fill: stroke } })), ...marks],
      hooks: {
        setCursor: [(/** @type {any} */ chart) => {
          const at = chart.cursor.idx;
          tip.hidden = at === null || at === undefined;
          if (tip.hidden) return;
          const rows = drawn.map(({ series, line }, i) => ({ text: name(series) || "value", value: chart.data[i + 1][at], sign: line.find(([when]) => when === chart.data[0][at])?.[2] })).filter((row) => row.value !== null && row.value !== undefined);
          rows.sort((a, b) => b.value - a.value);
          tip.textContent = [clock(new Date(chart.data[0][at] * 1000)), ...rows.slice(0, 8).map((row) => `${told([0, row.value, row.sign], unit)}   ${row.text.slice(0, 60)}`)].join("\n");
          const right = chart.cursor.left > chart.over.clientWidth / 2;
          tip.style.cssText = `top:4px;${right ? `right:${chart.over.clientWidth - chart.cursor.left + 14}px` : `left:${chart.cursor.left + 14}px`}`;
        }],
      },
    });
    plot.chart.over.append(tip);
    const open = (/** @type {MouseEvent} */ event) => {
      const area = plot.chart.over.getBoundingClientRect();
      const near = dots.find((one) => Math.hypot(plot.chart.valToPos(date(one.time).getTime() / 1000, "x") + area.left - event.clientX, plot.chart.valToPos(one.value ?? 0, "y") + area.top - event.clientY) < 12);
      if (near) go(["trace", near.trace], { span: near.span });
    };
    plot.chart.over.addEventListener("click", open);
    return () => plot.destroy();
  }, [lines, examples, unit, theme.value, look.value]);
  return html`<div class="chart" ref=${box} role="img" aria-label="Values over time; the table below has the last ones"></div>`;
}
