// @ts-check
// Log records of every service, the latest first.
import { html, useState, valueOf } from "../html.js";
import { ask } from "../api.js";
import { attributesText, colourless, counted, date, exceptionText, level, moment } from "../model/format.js";
import { colour } from "../colours.js";
import { address, go, place, tell } from "../state.js";
import { Problem, useAnswer, Waiting } from "./answer.js";
import { AttributeList, Dropped } from "./attributes.js";
import { more } from "./filters.js";
import { Icon } from "./icon.js";

/** @typedef {import("../answers.js").LogRecord} LogRecord */
/** @typedef {import("../answers.js").LogList} LogList */

const PAGE = 200;
/** @type {[string, string][]} */
const LEVELS = [["", "All levels"], ["5", "Debug and above"], ["9", "Info and above"], ["13", "Warnings and above"], ["17", "Errors"]];

export function Logs() {
  const query = place.value.query;
  const asked = { service: query.get("service") ?? "", severity: query.get("severity") ?? "", q: query.get("q") ?? "", trace: query.get("trace") ?? "" };
  const key = JSON.stringify(asked);
  const known = useAnswer("services", {}, { everyMs: 5000 }).answer;
  const services = [...(known?.services ?? [])];
  if (asked.service && !services.includes(asked.service)) services.push(asked.service);
  const { answer, error, asking } = useAnswer("logs", { ...asked, limit: PAGE });
  const [loaded, setLoaded] = useState({ key, logs: /** @type {LogRecord[]} */ ([]), next: /** @type {string | null} */ (null) });
  const first = /** @type {LogList | null} */ (answer);
  const ids = new Set(first?.logs.map((one) => one.id));
  // What was loaded below stays as long as the first page reaches it: else there would be a gap.
  const older = loaded.key === key && loaded.logs.some((one) => ids.has(one.id)) ? loaded : null;
  const logs = first ? [...first.logs, ...(older?.logs ?? []).filter((one) => !ids.has(one.id))] : [];
  const next = older ? older.next : (first?.next ?? null);
  const set = (/** @type {Record<string, string>} */ changes, replace = false) => go(["logs"], { ...asked, ...changes }, replace);
  const load = () =>
    ask("logs", { ...asked, limit: PAGE, before: next }).then(
      (page) => setLoaded({ key, logs: [...logs, ...page.logs], next: page.next }),
      (problem) => tell({ text: problem.message, bad: true }),
    );
  const filtered = Object.values(asked).some(Boolean);
  return html`<div class="page logs"><h1 class="sr">Log records</h1>
    <div class="filters" role="search" aria-label="Filter log records">
      <label>Service<select value=${asked.service} onChange=${(/** @type {Event} */ e) => set({ service: valueOf(e) })}><option value="">All services</option>${services.map((/** @type {string} */ name) => html`<option value=${name} selected=${name === asked.service}>${name}</option>`)}${more(known)}</select></label>
      <label>Level<select value=${asked.severity} onChange=${(/** @type {Event} */ e) => set({ severity: valueOf(e) })}>${LEVELS.map(([value, title]) => html`<option value=${value} selected=${value === asked.severity}>${title}</option>`)}</select></label>
      <label class="grow">Text<input type="search" placeholder="Part of the text  ( / )" value=${asked.q} onInput=${(/** @type {Event} */ e) => set({ q: valueOf(e) }, true)} /></label>
      ${filtered && html`<button class="quiet" onClick=${() => go(["logs"])}>Clear</button>`}
      ${asked.trace && html`<div class="chips"><span class="chip on"><span>trace ${asked.trace.slice(0, 8)}…</span><button aria-label="Remove the trace" onClick=${() => set({ trace: "" })}><${Icon} name="close" /></button></span><a href=${address(["trace", asked.trace], { view: "logs" })}>Back to the trace</a></div>`}
    </div>
    <${Problem} error=${error} />
    ${!first && !error && html`<${Waiting} rows=${12} />`}
    ${first && !logs.length && html`<div class="empty"><h2>${filtered ? "No log record is like that" : "No log records yet"}</h2>
      <p>${filtered ? (first.complete ? "Take a filter away, or wait: new ones are shown as they come." : "The search was cut off after a quarter of a second: narrow it by service or level.") : html`Any OpenTelemetry SDK can send them here. With otelagent: <code>otelagent-run --logs-exporter otlp …</code>`}</p></div>`}
    ${logs.length > 0 &&
    html`<ol class=${`lines ${asking ? "old" : ""}`}>${logs.map((one) => html`<${Line} key=${one.id} one=${one} />`)}</ol>
      <p class="foot">${counted(logs.length, "record")}${first && !first.complete && html` · <span class="warn">the search was cut off after a quarter of a second</span>`}
        ${next !== null ? html`<button onClick=${load}>Show more</button>` : html` · that is all`}</p>`}
  </div>`;
}

/** @param {{one: LogRecord}} properties */
function Line({ one }) {
  const [open, setOpen] = useState(false);
  const has = Object.keys(one.attributes).length > 0;
  const raised = exceptionText(one.attributes);
  // What it is about stands before where it was written.
  const names = Object.keys(one.attributes).filter((name) => !name.startsWith("exception."));
  const rest = attributesText(Object.fromEntries([...names.filter((name) => !name.startsWith("code.")), ...names.filter((name) => name.startsWith("code."))].map((name) => [name, one.attributes[name]])));
  return html`<li class=${`log ${level(one.severity)}`}>
    <time title=${date(one.time).toISOString()}>${moment(one.time)}</time><span class="severity">${one.severity_text || level(one.severity) || "–"}</span>
    <span class="service"><i class="dot" style=${`background:${colour(one.service)}`}></i><span>${one.service}</span></span>
    <div class="body">${one.event && html`<b>${one.event} </b>`}${colourless(one.body)}
      ${raised && html`<p class="raised">${raised}</p>`}
      ${has ? html`<button class="more" aria-expanded=${open} onClick=${() => setOpen(!open)}>${open ? "Hide attributes" : [one.scope, rest || "exception"].filter(Boolean).join(" · ")}</button>` : one.scope && html`<small class="more">${one.scope}</small>`}
      <${Dropped} number=${one.dropped} />
      ${open && html`<${AttributeList} of=${{ ...one.attributes, ...(one.scope ? { "(scope)": one.scope } : {}) }} />`}</div>
    ${one.trace ? html`<a href=${address(["trace", one.trace], one.span ? { span: one.span } : {})}>${one.span ? "span" : "trace"}</a>` : html`<span></span>`}</li>`;
}
