// @ts-check
// Who calls whom: callers to the left of what they call, each with its load, its failures and how long it took.
import { html, valueOf } from "../html.js";
import { count, counted, duration, short } from "../model/format.js";
import { layout } from "../model/graph.js";
import { PERIODS } from "../model/period.js";
import { colour } from "../colours.js";
import { address, go, place } from "../state.js";
import { Problem, useAnswer, Waiting } from "./answer.js";

/** @typedef {import("../answers.js").MapEdge} Edge */
/** @typedef {import("../answers.js").MapNode} Node */

const SIZE = { width: 184, height: 52, gapX: 124, gapY: 26 };
const LONGEST_NAME = 20;
/** Lines that have their numbers beside them; of more, they would lie on each other. */
const MOST_TOLD = 30;

export function ServiceMap() {
  const lasting = place.value.query.get("last") ?? "";
  const { answer, error, asking } = useAnswer("map", lasting ? { last: lasting } : {}, { everyMs: 3000 });
  const found = /** @type {import("../answers.js").ServiceMapData | null} */ (answer);
  return html`<div class="page map">
    <div class="head"><h1>Services</h1>${found && html`<p class="dim">from the latest ${counted(found.traces, "trace")}${found.complete ? "" : html` <span class="tag warn">there are more</span>`}</p>`}<span class="grow"></span>
      <label class="inline"><span class="sr">Time</span><select value=${lasting} onChange=${(/** @type {Event} */ e) => go(["map"], { last: valueOf(e) })}>${PERIODS.map(([value, title]) => html`<option value=${value} selected=${value === lasting}>${title}</option>`)}</select></label></div>
    <${Problem} error=${error} />
    ${!found && !error && html`<${Waiting} />`}
    ${found && !found.nodes.length && html`<div class="empty"><h2>${lasting ? "No spans in this time" : "No spans yet"}</h2><p>${lasting ? "Choose a longer one." : "As soon as services send some, it is shown here who calls whom."}</p></div>`}
    ${found && found.nodes.length > 0 && html`<div class=${asking ? "old" : ""}><${Picture} nodes=${found.nodes} edges=${found.edges} /><${Calls} edges=${found.edges} /></div>`}
  </div>`;
}

/** @param {{nodes: Node[], edges: Edge[]}} properties */
function Picture({ nodes, edges }) {
  const linked = new Set(edges.flatMap((one) => [one.from, one.to]));
  const alone = nodes.filter((one) => !linked.has(one.service));
  const drawn = nodes.filter((one) => linked.has(one.service));
  const plan = layout(drawn.map((one) => one.service), edges, SIZE);
  const at = (/** @type {string} */ name) => /** @type {{x: number, y: number}} */ (plan.places.get(name));
  const most = Math.max(1, ...edges.map((one) => one.calls));
  return html`${drawn.length > 0 && html`<div class="canvas" tabindex="0" role="region" aria-label="Service map"><svg width=${plan.width + (edges.some((one) => one.from === one.to) ? SIZE.gapX : 12)} height=${plan.height + 12} role="group" aria-label="Who calls whom; the table below has the same">
    <defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerUnits="userSpaceOnUse" markerWidth="9" markerHeight="9" orient="auto"><path class="arrow" d="M0 0 8 4 0 8Z" /></marker></defs>
    ${edges.map((edge) => html`<${Line} key=${`${edge.from}→${edge.to}`} edge=${edge} a=${at(edge.from)} b=${at(edge.to)} width=${1 + (2.5 * edge.calls) / most} told=${edges.length <= MOST_TOLD} />`)}
    ${drawn.map((node) => html`<${Box} key=${node.service} node=${node} place=${at(node.service)} />`)}
  </svg></div><p class="dim small">A dashed box sends no spans of its own: it is known from those who call it. On the lines: calls, and the time that 95 of 100 take at most.</p>`}
    ${alone.length > 0 && html`<p class="alone"><span class="dim">Neither calling nor called:</span>${alone.map((one) => html`<a class="chip" href=${address(["traces"], { service: one.service })}><i class="dot" style=${`background:${colour(one.service)}`}></i><span>${one.service}</span></a>`)}</p>`}`;
}

/** @param {{edge: Edge, a: {x: number, y: number}, b: {x: number, y: number}, width: number, told: boolean}} properties */
function Line({ edge, a, b, width, told }) {
  const x1 = a.x + SIZE.width;
  const y1 = a.y + SIZE.height / 2;
  const x2 = b.x;
  const y2 = b.y + SIZE.height / 2;
  const bend = x2 <= x1 ? 70 : (x2 - x1) / 2;
  // A call of itself goes around the box: through it, it would not be seen.
  const itself = edge.from === edge.to;
  const path = itself ? `M${x1} ${y1}C${x1 + 44} ${y1} ${x1 + 44} ${a.y + SIZE.height + 16} ${x1 - 24} ${a.y + SIZE.height}` : `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`;
  return html`<g class=${edge.errors ? "failing" : ""}><path class="call" d=${path} style=${`stroke-width:${width}`} marker-end="url(#arrow)" />
    <title>${`${edge.from} → ${edge.to}: ${counted(edge.calls, "call")}, ${count(edge.errors)} failed, median ${duration(edge.p50)}, 95 % within ${duration(edge.p95)}`}</title>
    ${told && html`<text x=${itself ? x1 + 32 : (x1 + x2) / 2} y=${itself ? y1 + 16 : (y1 + y2) / 2 - 7} text-anchor=${itself ? "start" : "middle"}>${short(edge.calls)} · ${duration(edge.p95)}</text>`}</g>`;
}

/** @param {{node: Node, place: {x: number, y: number}}} properties */
function Box({ node, place: { x, y } }) {
  const name = node.service.length > LONGEST_NAME ? `${node.service.slice(0, LONGEST_NAME - 1)}…` : node.service;
  const box = html`<g transform=${`translate(${x} ${y})`} class=${`node ${node.kind}`}><rect class="box" width=${SIZE.width} height=${SIZE.height} rx="8" />
    <rect class="side" x="10" y="12" width="4" height=${SIZE.height - 24} rx="2" style=${`fill:${node.kind === "remote" ? "var(--dim)" : colour(node.service)}`} />
    <text x="24" y="22" class="name">${name}</text>
    <text x="24" y="40">${counted(node.spans, node.kind === "remote" ? "call" : "span")}${node.errors ? html`<tspan class="bad" dx="8">${short(node.errors)} failed</tspan>` : ""}</text><title>${node.service}</title></g>`;
  return node.kind === "remote" ? box : html`<a href=${address(["traces"], { service: node.service })}>${box}</a>`;
}

/** @param {{edges: Edge[]}} properties */
function Calls({ edges }) {
  if (!edges.length) return null;
  const service = (/** @type {string} */ name) => html`<i class="dot" style=${`background:${colour(name)}`}></i>${name}`;
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Calls"><table class="plain"><caption class="sr">Calls between services</caption><thead><tr><th scope="col">Caller</th><th scope="col">Called</th><th scope="col" class="num">Calls</th><th scope="col" class="num">Failed</th><th scope="col" class="num">Median</th><th scope="col" class="num">95 %</th><th scope="col" class="num">Average</th></tr></thead>
    <tbody>${[...edges].sort((a, b) => b.calls - a.calls).map(
      (one) => html`<tr><td>${service(one.from)}</td><td>${service(one.to)}</td><td class="num">${count(one.calls)}</td><td class=${`num ${one.errors ? "bad" : "dim"}`}>${one.errors ? `${count(one.errors)} (${((100 * one.errors) / one.calls).toFixed(1)} %)` : "–"}</td>
        <td class="num">${duration(one.p50)}</td><td class="num">${duration(one.p95)}</td><td class="num">${duration(one.duration)}</td></tr>`,
    )}</tbody></table></div>`;
}
