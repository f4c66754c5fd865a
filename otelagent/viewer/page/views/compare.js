// @ts-check
// Two traces beside each other: what one has and the other hasn't, and where the time went.
import { html, useEffect, useState } from "../html.js";
import { ask } from "../api.js";
import { compare } from "../model/compare.js";
import { Trace } from "../model/trace.js";
import { count, duration, moment } from "../model/format.js";
import { address, colour } from "../state.js";

/** @param {{a: string, b: string}} properties */
export function Compare({ a, b }) {
  const [traces, setTraces] = useState(/** @type {Trace[] | null} */ (null));
  const [error, setError] = useState("");
  useEffect(() => {
    Promise.all([ask(`traces/${a}`), ask(`traces/${b}`)]).then((both) => setTraces(both.map((one) => new Trace(one))), (problem) => setError(problem.message));
  }, [a, b]);
  if (error) return html`<div class="page"><h1>Compare</h1><p class="problem" role="alert">${error}</p></div>`;
  if (!traces) return html`<div class="page"><h1>Compare</h1><p class="dim" role="status">Loading…</p></div>`;
  const rows = compare(traces[0], traces[1]);
  const most = Math.max(1, ...rows.map((row) => Math.max(row.a.total, row.b.total)));
  return html`<div class="page compare">
    <div class="head"><a class="back" href=${address(["traces"])} aria-label="All traces">‹</a><h1>Compare</h1><span class="grow"></span><a class="button" href=${address(["compare", b, a])}>Swap</a></div>
    <div class="sides">${traces.map((trace, side) => html`<a class="card" href=${address(["trace", trace.data.id])}><small>${side ? "B" : "A"}</small><b>${trace.size ? trace.name(trace.roots[0]) : "Empty trace"}</b><span>${duration(trace.data.duration)} · ${count(trace.size)} spans · ${count(trace.data.errors)} errors · ${moment(trace.data.start)}</span></a>`)}</div>
    <table class="plain"><caption class="sr">Spans of both traces by their place in the tree</caption><thead><tr><th>Span</th><th class="num">A</th><th class="num">B</th><th class="num">Time A</th><th class="num">Time B</th><th>Difference</th></tr></thead><tbody>
      ${rows.map((row) => {
        const difference = row.b.total - row.a.total;
        const only = !row.a.spans ? "only in B" : !row.b.spans ? "only in A" : "";
        return html`<tr class=${only ? "only" : ""}><td style=${`padding-left:${8 + row.depth * 14}px`}><i class="dot" style=${`background:${colour(row.service)}`}></i>${row.name}${only && html`<span class="tag">${only}</span>`}${row.a.errors !== row.b.errors && html`<span class="tag bad">failed ${row.a.errors} / ${row.b.errors}</span>`}</td>
          <td class="num">${count(row.a.spans)}</td><td class="num">${count(row.b.spans)}</td><td class="num">${row.a.spans ? duration(row.a.total) : "–"}</td><td class="num">${row.b.spans ? duration(row.b.total) : "–"}</td>
          <td class="delta"><span class=${difference > 0 ? "slower" : "faster"} style=${`width:${(50 * Math.abs(difference)) / most}%`}></span><b>${difference > 0 ? "+" : difference < 0 ? "−" : ""}${duration(Math.abs(difference))}</b></td></tr>`;
      })}</tbody></table>
  </div>`;
}
