// @ts-check
// The list of traces: the latest first, as they come, or the slowest.
import { html, typing, useEffect, useKeys, useRef, useState } from "../html.js";
import { ask } from "../api.js";
import { ago, count, counted, date, duration, moment } from "../model/format.js";
import { since } from "../model/period.js";
import { colour } from "../colours.js";
import { address, changed, go, live, place, tell } from "../state.js";
import { Problem, useAnswer, Waiting } from "./answer.js";
import { asked, Filters } from "./filters.js";
import { Icon } from "./icon.js";
import { Scatter } from "./scatter.js";
import { Empty } from "./empty.js";

/** @typedef {import("../answers.js").TraceSummary} TraceSummary */
/** @typedef {import("../answers.js").TraceList} Found */

const PAGE = 100;
const SERVICES_SHOWN = 3;
/** So many services of a trace the store counts. */
const MOST_SERVICES = 100;
const RUNNING_MS = 1_000;
/** A trace that hangs comes to take as long as is asked for, and no change of the store tells of it. */
const ASKED_AGAIN_S = 5;
/** Of more, only the first page stays live. */
const MOST_KEPT = 5_000;

/**
 * @typedef {{key: string, answer: Found | null, traces: TraceSummary[], next: number | null, complete: boolean,
 *   searchedTo: string | null, more: boolean}} List what is shown: the first page and what was loaded below it
 */

export function TraceList() {
  const query = place.value.query;
  const wanted = asked(query);
  const mark = query.getAll("mark").slice(-2);
  const key = JSON.stringify(wanted);
  const [now, setNow] = useState(Date.now());
  const timed = wanted.min_ms || wanted.max_ms || wanted.sort ? Math.floor(now / ASKED_AGAIN_S / 1000) : 0;
  const { answer, error, asking } = useAnswer("traces", { ...wanted, limit: PAGE }, { turn: timed });
  const [loading, setLoading] = useState(false);
  const list = useRef(/** @type {List} */ ({ key: "", answer: null, traces: [], next: null, complete: true, searchedTo: null, more: false }));
  if (answer && !asking && list.current.answer !== answer) list.current = renewed(list.current, key, answer);
  // While another list is asked for, the one before is still shown.
  const found = list.current.answer && (asking || list.current.key === key) ? list.current : null;

  const grows = live.value && (timed > 0 || Boolean(found?.traces.some((one) => one.running > 0)));
  useEffect(() => {
    if (!grows) return;
    setNow(Date.now());
    const timer = setInterval(() => setNow(Date.now()), RUNNING_MS);
    return () => clearInterval(timer);
  }, [grows]);

  const load = () => {
    setLoading(true);
    const { last, ...rest } = wanted;
    ask("traces", { ...(last ? { from: since(last) } : {}), ...rest, limit: PAGE, before: list.current.next })
      .then(
        (/** @type {Found} */ page) => {
          const now = list.current;
          if (now.key !== key) return;
          const ids = new Set(now.traces.map((one) => one.id));
          const traces = [...now.traces, ...page.traces.filter((one) => !ids.has(one.id))];
          list.current = { ...now, traces, next: page.next, complete: page.complete, searchedTo: page.searched_to, more: true };
        },
        (problem) => tell({ text: problem.message, bad: true }),
      )
      .finally(() => setLoading(false));
  };
  const toggle = (/** @type {string} */ id) => {
    const next = mark.includes(id) ? mark.filter((one) => one !== id) : [...mark, id].slice(-2);
    go(["traces"], { ...wanted, mark: next }, true);
  };
  const filtered = Object.keys(wanted).some((name) => name !== "sort");
  const empty = found && !found.traces.length;
  return html`<div class="page list">
    <h1 class="sr">Traces</h1>
    ${!(empty && !filtered) && html`<${Filters} asked=${wanted} mark=${mark} />`}
    <${Problem} error=${error} />
    ${!found && !error && html`<${Waiting} rows=${12} />`}
    ${empty && html`<${Empty} filtered=${filtered} complete=${found.complete} onMore=${found.next === null ? null : load} />`}
    ${found &&
    !empty &&
    html`
      <${Scatter} traces=${found.traces} onWindow=${(/** @type {string} */ from, /** @type {string} */ to) => go(["traces"], { ...wanted, last: "", from, to, mark })} />
      ${mark.length > 0 && html`<${Marked} mark=${mark} traces=${found.traces} onClear=${() => go(["traces"], wanted, true)} />`}
      <${Table} traces=${found.traces} now=${now} mark=${mark} onMark=${toggle} old=${asking} />
      <p class="foot">
        ${counted(found.traces.length, "trace")}${!found.complete && html` · <span class="warn">${wanted.sort ? cutOffSlowest(found) : cutOff(found)}</span>`}
        ${found.next !== null ? html`<button onClick=${load} disabled=${loading}>${loading ? "Loading…" : found.complete ? "Show more" : "Search on"}</button>` : found.complete && (wanted.sort && found.traces.length >= PAGE ? html` · the slowest: choose a time or a filter to see others` : html` · that is all`)}
      </p>
    `}
  </div>`;
}

/** Why there may be more. @param {List} list */
function cutOff({ next, searchedTo }) {
  if (next === null) return "only the latest places where these words are were looked at: add a service, an operation or an attribute";
  return `the search was cut off after a quarter of a second${searchedTo ? `, at ${moment(searchedTo)}` : ""}`;
}

/** Why there may be slower ones. @param {List} list */
function cutOffSlowest({ searchedTo }) {
  return `the search was cut off after a quarter of a second: ${searchedTo ? `the slowest since ${moment(searchedTo)}, and earlier` : "some"} ones may be slower`;
}

/** What a trace has taken; one that runs, until now. @param {TraceSummary} trace @param {number} now milliseconds since the epoch */
function taken(trace, now) {
  return trace.running ? Math.max(trace.duration, Number(BigInt(Math.round(now)) * 1000000n - BigInt(trace.start))) : trace.duration;
}

/**
 * The list with a new first page. What was loaded below it stays, as long as the two meet: else there would be a gap.
 *
 * @param {List} list
 * @param {string} key
 * @param {Found} answer
 * @returns {List}
 */
function renewed(list, key, answer) {
  const { traces, next, complete, searched_to: searchedTo } = answer;
  const fresh = { key, answer, traces, next, complete, searchedTo, more: false };
  if (list.key !== key || !list.more || list.traces.length > MOST_KEPT) return fresh;
  const ids = new Set(traces.map((one) => one.id));
  const meet = list.traces.reduce((last, one, i) => (ids.has(one.id) ? i : last), -1);
  return meet < 0 ? fresh : { ...list, answer, traces: [...traces, ...list.traces.slice(meet + 1)] };
}

/** @param {{mark: string[], traces: TraceSummary[], onClear: () => void}} properties */
function Marked({ mark, traces, onClear }) {
  const name = (/** @type {string} */ id) => traces.find((one) => one.id === id)?.name ?? `${id.slice(0, 8)}…`;
  return html`<div class="marked" role="status"><${Icon} name="compare" />
    <span><b>${name(mark[0])}</b> ${mark.length === 2 ? html`and <b>${name(mark[1])}</b>` : "is marked: mark another trace to compare it with"}</span>
    <span class="grow"></span>
    ${mark.length === 2 && html`<a class="button first" href=${address(["compare", ...mark])}>Compare the two</a>`}
    <button class="quiet" onClick=${onClear}>Clear</button></div>`;
}

/** @param {{traces: TraceSummary[], now: number, mark: string[], onMark: (id: string) => void, old: boolean}} properties */
function Table({ traces, now, mark, onMark, old }) {
  const least = Math.max(1, Math.min(...traces.map((one) => taken(one, now))));
  const most = Math.max(least * 1.01, ...traces.map((one) => taken(one, now)));
  // As in the picture above, a tenth more is as far everywhere: else one slow trace leaves nothing of the others.
  const part = (/** @type {number} */ ns) => 4 + (96 * Math.log(Math.max(ns, least) / least)) / Math.log(most / least);
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const onKey = (/** @type {KeyboardEvent} */ event) => {
    if (typing(event) && !(event.target instanceof HTMLInputElement && event.target.type === "checkbox")) return;
    const rows = [.../** @type {HTMLElement} */ (box.current).querySelectorAll("[data-trace]")];
    const at = rows.findIndex((row) => row.contains(document.activeElement));
    const steps = /** @type {Record<string, number>} */ ({ ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, Home: -rows.length, End: rows.length });
    if (event.key in steps) {
      const next = rows[Math.max(0, Math.min(rows.length - 1, at + steps[event.key]))];
      next.querySelector("a")?.focus();
      next.scrollIntoView({ block: "nearest" });
    } else if (event.key === "x" && at >= 0) onMark(traces[at].id);
    else return;
    event.preventDefault();
  };
  useKeys(box, onKey);
  return html`<div class=${`table ${old ? "old" : ""}`} ref=${box} role="table" aria-label="Traces" aria-busy=${old}>
    <div role="rowgroup"><div role="row" class="head">
      <span role="columnheader" class="c-mark"><span class="sr">Compare</span></span>
      <span role="columnheader" class="c-name">Trace</span>
      <span role="columnheader" class="c-services">Services</span>
      <span role="columnheader" class="c-num">Spans</span>
      <span role="columnheader" class="c-num">Errors</span>
      <span role="columnheader" class="c-duration">Duration</span>
      <span role="columnheader" class="c-start">Start</span>
    </div></div>
    <div role="rowgroup">${traces.map((one) => html`<${Line} key=${one.id} trace=${one} took=${taken(one, now)} width=${part(taken(one, now))} marked=${mark.includes(one.id)} onMark=${onMark} />`)}</div>
  </div>`;
}

/** @param {{trace: TraceSummary, took: number, width: number, marked: boolean, onMark: (id: string) => void}} properties */
function Line({ trace, took, width, marked, onMark }) {
  const services = [...trace.services].sort(([a], [b]) => Number(b === trace.service) - Number(a === trace.service) || (a < b ? -1 : 1));
  const others = services.length - SERVICES_SHOWN;
  const full = services.length >= MOST_SERVICES;
  return html`<div role="row" data-trace=${trace.id} class=${`line ${trace.errors ? "failed" : ""} ${changed.value.has(trace.id) ? "new" : ""}`}>
    <span role="cell" class="c-mark"><input type="checkbox" aria-label=${`Mark ${trace.name} to compare`} checked=${marked} onChange=${() => onMark(trace.id)} /></span>
    <span role="cell" class="c-name"><a href=${address(["trace", trace.id])}><i class="dot" style=${`background:${colour(trace.service)}`}></i><b>${trace.name || "(no name)"}</b><small>${trace.service}</small>
      ${!trace.root && html`<em class="tag" title="The trace's root span has not come, or not yet">no root</em>`}${trace.running > 0 && html`<em class="tag running">running</em>`}${trace.lost > 0 && html`<em class="tag warn" title="Its process has stopped telling of it">lost</em>`}</a></span>
    <span role="cell" class="c-services">${services.slice(0, SERVICES_SHOWN).map(([name, spans]) => html`<span class="chip" title=${`${name}: ${counted(spans, "span")}`}><i class="dot" style=${`background:${colour(name)}`}></i><span>${name}</span></span>`)}${others > 0 && html`<span class="chip" title=${`${services.slice(SERVICES_SHOWN).map(([name]) => name).join(", ")}${full ? `; of a trace at most ${MOST_SERVICES} are told here` : ""}`}>+${others}${full ? " or more" : ""}</span>`}</span>
    <span role="cell" class="c-num">${count(trace.spans)}</span>
    <span role="cell" class="c-num">${trace.errors ? html`<span class="tag bad">${count(trace.errors)}</span>` : html`<span class="sr">0</span>`}</span>
    <span role="cell" class="c-duration"><span class="meter"><i style=${`width:${width}%`}></i></span><b>${duration(took)}</b></span>
    <span role="cell" class="c-start" title=${date(trace.start).toISOString()}>${moment(trace.start)}<small>${ago(trace.start)}</small></span>
  </div>`;
}
