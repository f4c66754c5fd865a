// @ts-check
// Two traces beside each other: what one has and the other hasn't, and where the time went.
import { html, useEffect, useMemo, useState } from "../html.js";
import { ask } from "../api.js";
import { compare } from "../model/compare.js";
import { Trace } from "../model/trace.js";
import { count, counted, duration, moment } from "../model/format.js";
import { colour } from "../colours.js";
import { address } from "../state.js";
import { Problem, Waiting } from "./answer.js";
import { Icon } from "./icon.js";

const MOST = 2_000;

/** @param {{a: string, b: string}} properties ids of traces */
export function Compare({ a, b }) {
  const [traces, setTraces] = useState(/** @type {Trace[] | null} */ (null));
  const [error, setError] = useState(/** @type {Error | null} */ (null));
  const [changedOnly, setChangedOnly] = useState(false);
  useEffect(() => {
    setTraces(null);
    setError(null);
    Promise.all([a, b].map((id) => ask(`traces/${encodeURIComponent(id)}`))).then((both) => setTraces(both.map((one) => new Trace(one))), setError);
  }, [a, b]);
  const rows = useMemo(() => (traces ? compare(traces[0], traces[1]) : []), [traces]);
  const most = Math.max(1, ...rows.map((row) => Math.abs(row.b.total - row.a.total)));
  const total = traces ? Math.max(1, ...traces.map((one) => one.duration)) : 1;
  const shown = changedOnly ? rows.filter((row) => row.a.spans !== row.b.spans || row.a.errors !== row.b.errors || Math.abs(row.b.total - row.a.total) > total / 100) : rows;
  return html`<div class="page compare">
    <div class="head"><a class="icon" href=${address(["traces"])} aria-label="All traces" title="All traces"><${Icon} name="back" /></a><h1>Compare</h1><span class="grow"></span>
      <button class=${`toggle ${changedOnly ? "on" : ""}`} aria-pressed=${changedOnly} onClick=${() => setChangedOnly(!changedOnly)} title="Spans that differ in number, failures, or by more than a hundredth of the time">Differences only</button>
      <a class="button" href=${address(["compare", b, a])}><${Icon} name="compare" /><span>Swap</span></a></div>
    <${Problem} error=${error} />
    ${!traces && !error && html`<${Waiting} />`}
    ${traces &&
    html`<div class="sides">${traces.map((trace, side) => html`<${Side} trace=${trace} name=${side ? "B" : "A"} other=${traces[1 - side]} />`)}</div>
      <div class="scroll" tabindex="0" role="region" aria-label="Differences"><table class="plain"><caption class="sr">Spans of both traces by their place in the tree</caption><thead><tr><th scope="col">Span</th><th scope="col" class="num">A</th><th scope="col" class="num">B</th><th scope="col" class="num">Time in A</th><th scope="col" class="num">Time in B</th><th scope="col">Difference</th></tr></thead><tbody>
      ${shown.slice(0, MOST).map((row) => html`<${Row} row=${row} most=${most} />`)}</tbody></table></div>
      ${!shown.length && html`<p class="none">They don't differ.</p>`}
      ${shown.length > MOST && html`<p class="note warn">${counted(shown.length - MOST, "more row")} are not shown.</p>`}`}
  </div>`;
}

/** @param {{trace: Trace, name: string, other: Trace}} properties */
function Side({ trace, name, other }) {
  const part = (100 * trace.duration) / Math.max(trace.duration, other.duration);
  return html`<a class="card" href=${address(["trace", trace.data.id])}><small>${name} · ${moment(trace.data.start)}</small><b>${trace.head < 0 ? "Empty trace" : trace.name(trace.head)}</b>
    <span class="meter"><i style=${`width:${part}%`}></i></span>
    <span>${duration(trace.duration)} · ${counted(trace.size, "span")}${trace.data.errors ? html` · <span class="bad">${counted(trace.data.errors, "error")}</span>` : ""}</span></a>`;
}

/** @param {{row: import("../model/compare.js").Pair, most: number}} properties */
function Row({ row, most }) {
  const difference = row.b.total - row.a.total;
  const only = !row.a.spans ? "only in B" : !row.b.spans ? "only in A" : "";
  return html`<tr class=${only ? "only" : ""}><th scope="row" style=${`padding-left:${10 + Math.min(row.depth, 24) * 14}px`}><i class="dot" style=${`background:${colour(row.service)}`}></i>${row.name} <small>${row.service}</small>${only && html`<span class="tag">${only}</span>`}${row.a.errors !== row.b.errors && html`<span class="tag bad">failed ${row.a.errors} / ${row.b.errors}</span>`}</th>
    <td class="num">${row.a.spans ? count(row.a.spans) : "–"}</td><td class="num">${row.b.spans ? count(row.b.spans) : "–"}</td><td class="num">${row.a.spans ? duration(row.a.total) : "–"}</td><td class="num">${row.b.spans ? duration(row.b.total) : "–"}</td>
    <td class=${`delta ${difference > 0 ? "slower" : "faster"}`}><span><i style=${`width:${(50 * Math.abs(difference)) / most}%`}></i></span><b>${difference > 0 ? "+" : difference < 0 ? "−" : ""}${duration(Math.abs(difference))}</b></td></tr>`;
}
