// @ts-check
// Who calls whom: callers to the left of what they call, each with its load, its failures and how long it took.
import { html, valueOf } from "../html.js";
import { count, counted, duration, short } from "../model/format.js";
import { layout, spots } from "../model/graph.js";
import { PERIODS } from "../model/period.js";
import { colour } from "../colours.js";
import { address, go, place } from "../state.js";
import { Problem, useAnswer, Waiting } from "./answer.js";

/** @typedef {import("../answers.js").MapEdge} Edge */
/** @typedef {import("../answers.js").MapNode} Node */

const SIZE = { width: 184, height: 52, gapX: 124, gapY: 30 };
/** Above a box, for the line of a service that calls itself and its numbers. */
const LOOP = 24;
const NAME_PX = SIZE.width - 34;
const TEXT_PX = 14;
/** Of an arrow: the line ends where it begins, or a thick one would cover its point. */
const TIP = 9;
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
    ${found && found.nodes.length > 0 && html`<div class=${asking ? "old" : ""}><${Picture} nodes=${found.nodes} edges=${found.edges} /><${Calls} nodes=${found.nodes} edges=${found.edges} /></div>`}
  </div>`;
}

/** @param {{nodes: Node[], edges: Edge[]}} properties */
function Picture({ nodes, edges }) {
  const linked = new Set(edges.flatMap((one) => [one.from, one.to]));
  const alone = nodes.filter((one) => !linked.has(one.service));
  const drawn = nodes.filter((one) => linked.has(one.service));
  const itself = edges.some((one) => one.from === one.to);
  const plan = layout(drawn.map((one) => one.service), edges, { ...SIZE, top: itself ? 10 + LOOP : 10 });
  const at = (/** @type {string} */ name) => /** @type {{x: number, y: number}} */ (plan.places.get(name));
  const most = Math.max(1, ...edges.map((one) => one.calls));
  const told = edges.length <= MOST_TOLD ? edges.map((one) => `${short(one.calls)} · ${duration(one.p95)}`) : [];
  const lines = edges.map((one) => curve(at(one.from), at(one.to)));
  const widths = told.map((text) => widthOf(text, "11px") + 8);
  const texts = spots(
    told.map((_, i) => ({ line: lines[i], spot: beside(edges[i], at(edges[i].from), widths[i]), width: widths[i], height: TEXT_PX })),
    drawn.map((one) => ({ ...at(one.service), width: SIZE.width, height: SIZE.height })),
  );
  return html`${drawn.length > 0 && html`<div class="canvas" tabindex="0" role="region" aria-label="Service map"><svg width=${plan.width + 12} height=${plan.height + 12} role="group" aria-label="Who calls whom; the table below has the same">
    <defs>${["arrow", "failing-arrow"].map((id) => html`<marker id=${id} viewBox="0 0 8 8" refX="0" refY="4" markerUnits="userSpaceOnUse" markerWidth=${TIP} markerHeight=${TIP + 1} preserveAspectRatio="none" orient="auto"><path class=${id} d="M0 0 8 4 0 8Z" /></marker>`)}</defs>
    ${edges.map((edge, i) => html`<${Line} key=${`${edge.from}→${edge.to}`} edge=${edge} line=${lines[i]} width=${1 + (2.5 * edge.calls) / most} />`)}
    ${texts.map((spot, i) => spot && html`<rect class="under" x=${spot.x - widths[i] / 2} y=${spot.y - TEXT_PX / 2} width=${widths[i]} height=${TEXT_PX} /><text x=${spot.x} y=${spot.y + 4} text-anchor="middle">${told[i]}</text>`)}
    ${drawn.map((node) => html`<${Box} key=${node.service} node=${node} place=${at(node.service)} />`)}
  </svg></div><p class="dim small">A dashed box sends no spans of its own: it is known from those who call it. On the lines: calls, and the time that 95 of 100 take at most.</p>`}
    ${alone.length > 0 && html`<p class="alone"><span class="dim">Neither calling nor called:</span>${alone.map((one) => html`<a class="chip" href=${address(["traces"], { service: one.service })}><i class="dot" style=${`background:${colour(one.service)}`}></i><span>${one.service}</span></a>`)}</p>`}`;
}

/** Where the numbers of a call of itself stand: on the box, beside its line. @param {Edge} edge @param {{x: number, y: number}} from @param {number} width */
function beside(edge, { x, y }, width) {
  return edge.from === edge.to ? { x: x + SIZE.width - 52 - width / 2, y: y - 10 } : null;
}

/** From the right side of one box to the left side of another. @param {{x: number, y: number}} a @param {{x: number, y: number}} b @returns {import("../model/graph.js").Curve} */
function curve(a, b) {
  // A call of itself stands on its box, where no other line goes.
  if (a === b) return [a.x + SIZE.width - 12, a.y, a.x + SIZE.width - 8, a.y - LOOP - 2, a.x + SIZE.width - 44, a.y - LOOP - 2, a.x + SIZE.width - 42, a.y - TIP];
  const [x1, y1, x2, y2] = [a.x + SIZE.width, a.y + SIZE.height / 2, b.x - TIP, b.y + SIZE.height / 2];
  const bend = x2 <= x1 ? 70 : (x2 - x1) / 2;
  return [x1, y1, x1 + bend, y1, x2 - bend, y2, x2, y2];
}

const ruler = document.createElement("canvas").getContext("2d");

/** @param {string} text @param {string} font its weight and size */
function widthOf(text, font) {
  if (!ruler) return text.length * 7;
  ruler.font = `${font} ${getComputedStyle(document.documentElement).fontFamily}`;
  return ruler.measureText(text).width;
}

/** As much of a name as a box has room for. @param {string} name */
function fitting(name) {
  if (widthOf(name, "600 13px") <= NAME_PX) return name;
  let length = name.length - 1;
  while (length > 1 && widthOf(`${name.slice(0, length)}…`, "600 13px") > NAME_PX) length--;
  return `${name.slice(0, length)}…`;
}

/** @param {{edge: Edge, line: import("../model/graph.js").Curve, width: number}} properties */
function Line({ edge, line: [x1, y1, ...to], width }) {
  return html`<g class=${edge.errors ? "failing" : ""}><path class="call" d=${`M${x1} ${y1}C${to.join(" ")}`} style=${`stroke-width:${width}`} marker-end=${`url(#${edge.errors ? "failing-arrow" : "arrow"})`} />
    <title>${`${edge.from} → ${edge.to}: ${counted(edge.calls, "call")}, ${count(edge.errors)} failed, median ${duration(edge.p50)}, 95 % within ${duration(edge.p95)}`}</title></g>`;
}

/** Colours are of those who send spans: others have none elsewhere. @param {string} name @param {boolean} remote */
function paint(name, remote) {
  return remote ? "var(--dim)" : colour(name);
}

/** @param {{node: Node, place: {x: number, y: number}}} properties */
function Box({ node, place: { x, y } }) {
  const box = html`<g transform=${`translate(${x} ${y})`} class=${`node ${node.kind}`}><rect class="box" width=${SIZE.width} height=${SIZE.height} rx="8" />
    <rect class="side" x="10" y="12" width="4" height=${SIZE.height - 24} rx="2" style=${`fill:${paint(node.service, node.kind === "remote")}`} />
    <text x="24" y="22" class="name">${fitting(node.service)}</text>
    <text x="24" y="40">${counted(node.spans, node.kind === "remote" ? "call" : "span")}${node.errors ? html`<tspan class="bad" dx="8">${short(node.errors)} failed</tspan>` : ""}</text><title>${node.service}</title></g>`;
  return node.kind === "remote" ? box : html`<a href=${address(["traces"], { service: node.service })}>${box}</a>`;
}

/** @param {{nodes: Node[], edges: Edge[]}} properties */
function Calls({ nodes, edges }) {
  if (!edges.length) return null;
  const remote = new Set(nodes.filter((one) => one.kind === "remote").map((one) => one.service));
  const service = (/** @type {string} */ name) => html`<i class="dot" style=${`background:${paint(name, remote.has(name))}`}></i>${name}`;
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Calls"><table class="plain"><caption class="sr">Calls between services</caption><thead><tr><th scope="col">Caller</th><th scope="col">Called</th><th scope="col" class="num">Calls</th><th scope="col" class="num">Failed</th><th scope="col" class="num">Median</th><th scope="col" class="num">95 %</th><th scope="col" class="num">Average</th></tr></thead>
    <tbody>${[...edges].sort((a, b) => b.calls - a.calls).map(
      (one) => html`<tr><td>${service(one.from)}</td><td>${service(one.to)}</td><td class="num">${count(one.calls)}</td><td class=${`num ${one.errors ? "bad" : "dim"}`}>${one.errors ? `${count(one.errors)} (${((100 * one.errors) / one.calls).toFixed(1)} %)` : "–"}</td>
        <td class="num">${duration(one.p50)}</td><td class="num">${duration(one.p95)}</td><td class="num">${duration(one.duration)}</td></tr>`,
    )}</tbody></table></div>`;
}
