// @ts-check
// Who calls whom: callers to the left of what they call, each with its load and its failures.
import { html, useEffect, useState } from "../html.js";
import { ask } from "../api.js";
import { count, duration } from "../model/format.js";
import { layout } from "../model/graph.js";
import { address, changesSlowly, colour, connected, useNews } from "../state.js";

const WIDTH = 190;
const HEIGHT = 54;

export function ServiceMap() {
  const [found, setFound] = useState(/** @type {any} */ (null));
  const [error, setError] = useState("");
  const seen = useNews(changesSlowly.value);
  useEffect(() => {
    ask("map").then((answer) => (setFound(answer), setError("")), (problem) => setError(problem.message));
  }, [seen, connected.value]);
  if (error) return html`<div class="page"><h1>Services</h1><p class="problem" role="alert">${error}</p></div>`;
  if (!found) return html`<div class="page"><h1>Services</h1><p class="dim" role="status">Loading…</p></div>`;
  if (!found.nodes.length) return html`<div class="page empty"><h1>Services</h1><p>No spans yet, so nobody calls anybody.</p></div>`;
  const plan = layout(found.nodes.map((/** @type {any} */ one) => one.service), found.edges, { width: WIDTH, height: HEIGHT, gapX: 110, gapY: 26 });
  const most = Math.max(1, ...found.edges.map((/** @type {any} */ one) => one.calls));
  const at = (/** @type {string} */ name) => /** @type {{x: number, y: number}} */ (plan.places.get(name));
  return html`<div class="page map">
    <h1>Services</h1>
    <p class="dim">Made from the latest ${count(found.traces)} traces${found.complete ? "" : "; there are more"}. A dashed box sends no spans of its own.</p>
    <div class="canvas"><svg width=${plan.width + 20} height=${plan.height + 20} role="img" aria-label="Service map; the table below has the same">
      <defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerUnits="userSpaceOnUse" markerWidth="9" markerHeight="9" orient="auto"><path d="M0 0 8 4 0 8Z" fill="var(--dim)" /></marker></defs>
      ${found.edges.map((/** @type {any} */ edge) => {
        const a = at(edge.from);
        const b = at(edge.to);
        const x1 = a.x + WIDTH, y1 = a.y + HEIGHT / 2, x2 = b.x, y2 = b.y + HEIGHT / 2;
        const back = x2 <= x1;
        const bend = back ? 60 : (x2 - x1) / 2;
        return html`<g class=${edge.errors ? "bad" : ""}><path class="edge" d=${`M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`} style=${`stroke-width:${1 + (3 * edge.calls) / most}`} marker-end="url(#arrow)" />
          <title>${edge.from} → ${edge.to}: ${count(edge.calls)} calls, ${count(edge.errors)} failed, ${duration(edge.duration)} on the average</title>
          <text x=${(x1 + x2) / 2} y=${(y1 + y2) / 2 - 6} text-anchor="middle">${count(edge.calls)}</text></g>`;
      })}
      ${found.nodes.map((/** @type {any} */ node) => {
        const { x, y } = at(node.service);
        const box = html`<g transform=${`translate(${x} ${y})`} class=${`node ${node.kind}`}><rect width=${WIDTH} height=${HEIGHT} rx="8" /><rect class="side" width="5" height=${HEIGHT} rx="2.5" style=${`fill:${colour(node.service)}`} />
          <text x="16" y="22" class="name">${node.service.length > 22 ? node.service.slice(0, 21) + "…" : node.service}</text>
          <text x="16" y="41" class="sub">${count(node.spans)} ${node.kind === "remote" ? "calls" : "spans"}${node.errors ? html`<tspan class="bad">  ${count(node.errors)} failed</tspan>` : ""}</text><title>${node.service}</title></g>`;
        return node.kind === "remote" ? box : html`<a href=${address(["traces"], { service: node.service })}>${box}</a>`;
      })}
    </svg></div>
    <table class="plain"><caption class="sr">Calls between services</caption><thead><tr><th>Caller</th><th>Called</th><th class="num">Calls</th><th class="num">Failed</th><th class="num">Average</th></tr></thead>
      <tbody>${found.edges.map((/** @type {any} */ one) => html`<tr><td>${one.from}</td><td>${one.to}</td><td class="num">${count(one.calls)}</td><td class=${`num ${one.errors ? "bad" : "dim"}`}>${one.errors ? count(one.errors) : "–"}</td><td class="num">${duration(one.duration)}</td></tr>`)}</tbody></table>
  </div>`;
}
