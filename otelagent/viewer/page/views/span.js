// @ts-check
// One span with everything that is known of it.
import { html, useState, valueOf } from "../html.js";
import { embedded } from "../api.js";
import { KINDS, colourless, count, date, duration, level, moment } from "../model/format.js";
import { sql } from "../model/sql.js";
import { colour } from "../colours.js";
import { address, copy } from "../state.js";
import { Problem, useAnswer, Waiting } from "./answer.js";
import { AttributeList, Dropped } from "./attributes.js";
import { Icon } from "./icon.js";
import { SpanMetrics } from "./span-metrics.js";
import { Tabs } from "./tabs.js";

/** @typedef {import("../answers.js").SpanData} SpanData */
/** @typedef {import("../model/trace.js").Trace} Trace */

const QUERIES = ["db.query.text", "db.statement"];
const MANY_ATTRIBUTES = 12;
/** By the status; of one that isn't set there is nothing to say. */
const STATUS_TAGS = [null, html`<span class="tag good">ok</span>`, html`<span class="tag bad">failed</span>`];

/** @param {{trace: Trace, span: number, onClose: () => void, onReveal: (span: number) => void}} properties */
export function SpanDetail({ trace, span, onClose, onReveal }) {
  const id = trace.data.spans.id[span];
  const state = trace.state(span);
  const [tab, setTab] = useState("details");
  const { answer, error } = useAnswer(`traces/${trace.data.id}/spans/${id}`, {}, { follow: "never", turn: trace.data.spans.duration[span] + (state ? 0.5 : 0) });
  const found = /** @type {SpanData | null} */ (answer);
  const one = found?.id === id ? found : null;
  const lost = state === "lost";
  const logs = one?.logs.length ?? trace.logsOf.get(span)?.length ?? 0;
  const tabs = [{ name: "details", title: "Details" }, { name: "logs", title: "Logs", note: logs ? count(logs) : "" }, ...(embedded ? [] : [{ name: "metrics", title: "Metrics" }])];
  return html`<aside class="detail" aria-label="Span">
    <div class="head"><h2>${trace.name(span)}</h2><span class="grow"></span>
      ${one && html`<button class="icon" aria-label="Copy the span as JSON" title="Copy as JSON" onClick=${() => copy(JSON.stringify(one, null, 2))}><${Icon} name="copy" /></button>`}
      <button class="icon" aria-label="Close" title="Close ( Esc )" onClick=${onClose}><${Icon} name="close" /></button></div>
    <p class="sub"><span class="service"><i class="dot" style=${`background:${colour(trace.service(span))}`}></i>${trace.service(span)}</span><span>${KINDS[trace.data.spans.kind[span]] || "kind not given"}</span>
      ${state ? html`<span class=${`tag ${state === "running" ? "running" : "warn"}`}>${state}</span>` : STATUS_TAGS[trace.data.spans.status[span]]}</p>
    <dl class="facts">
      <div><dt>Duration</dt><dd>${lost ? "unknown" : duration(trace.took(span))}</dd></div>
      ${!lost && html`<div><dt>Self</dt><dd>${duration(trace.self[span])}</dd></div>`}
      <div><dt>Starts at</dt><dd>${duration(trace.start[span])}</dd></div>
      ${!lost && html`<div><dt>Of the trace</dt><dd>${((100 * trace.took(span)) / trace.duration).toFixed(1)} %</dd></div>`}
    </dl>
    ${one?.message && !one.events.some((event) => event.attributes["exception.message"] === one.message) && html`<p class="message">${one.message}</p>`}
    <${Tabs} label="About the span" panel="span-panel" chosen=${tab} tabs=${tabs} onChoose=${setTab} />
    <div role="tabpanel" id="span-panel" aria-labelledby=${`span-panel-${tab}`} class="tab" tabindex="0">
      <${Problem} error=${error} />
      ${!one && !error && html`<${Waiting} rows=${6} />`}
      ${one && tab === "details" && html`<${Details} trace=${trace} one=${one} onReveal=${onReveal} />`}
      ${one && tab === "logs" && html`<${SpanLogs} one=${one} />`}
      ${one && tab === "metrics" && html`<${SpanMetrics} service=${one.resource.service} start=${one.start} took=${trace.took(span)} />`}
    </div>
  </aside>`;
}

/** @param {{trace: Trace, one: SpanData, onReveal: (span: number) => void}} properties */
function Details({ trace, one, onReveal }) {
  const [filter, setFilter] = useState("");
  const exceptions = one.events.filter((event) => event.name === "exception");
  const events = one.events.filter((event) => event.name !== "exception");
  const dropped = Object.entries(one.dropped).filter(([, number]) => number);
  const query = QUERIES.find((name) => typeof one.attributes[name] === "string");
  const attributes = Object.fromEntries(Object.entries(one.attributes).filter(([name]) => name !== query));
  const names = Object.keys(attributes);
  return html`
    ${exceptions.map((event) => html`<${Exception} event=${event} start=${one.start} />`)}
    ${query && html`<${Query} text=${String(one.attributes[query])} attributes=${one.attributes} />`}
    <section>
      <div class="head"><h3>Attributes <small>${count(names.length)}</small></h3><span class="grow"></span>${names.length > MANY_ATTRIBUTES && html`<input type="text" class="narrow" aria-label="Filter attributes" placeholder="Filter" value=${filter} onInput=${(/** @type {Event} */ e) => setFilter(valueOf(e))} />`}</div>
      ${names.length ? html`<${AttributeList} of=${attributes} filter=${filter} find />` : html`<p class="none">It has none.</p>`}
      ${dropped.map(([what, number]) => html`<${Dropped} number=${number} what=${what.replace(/s$/, "").replace("_", " ")} />`)}
    </section>
    ${events.length > 0 &&
    html`<section><h3>Events <small>${count(events.length)}</small></h3>${events.map(
      (event) => html`<div class="event"><p><b>${event.name}</b><time title=${date(event.time).toISOString()}>${offset(event.time, one.start)}</time></p><${AttributeList} of=${event.attributes} /><${Dropped} number=${event.dropped} /></div>`,
    )}</section>`}
    ${(one.links.length > 0 || one.linked_from.length > 0) &&
    html`<section><h3>Links <small>${count(one.links.length + one.linked_from.length)}</small></h3><ul class="links">
      ${one.links.map((link) => html`<li><${SpanLink} trace=${trace} link=${link} way="to" onReveal=${onReveal} /><${AttributeList} of=${link.attributes} /><${Dropped} number=${link.dropped} /></li>`)}
      ${one.linked_from.map((link) => html`<li><${SpanLink} trace=${trace} link=${link} way="from" onReveal=${onReveal} /></li>`)}</ul>
      ${one.truncated.includes("linked_from") && html`<p class="note warn">More spans link to this one than are shown.</p>`}</section>`}
    <section class="folds">
      <details><summary>Resource <small>${one.resource.service}</small></summary><${AttributeList} of=${one.resource.attributes} find /></details>
      <details><summary>Scope <small>${one.scope.name || "(no name)"} ${one.scope.version}</small></summary><${AttributeList} of=${one.scope.attributes} /></details>
    </section>
    <dl class="ids">
      <dt>Span id</dt><dd><code>${one.id}</code><button class="icon small" aria-label="Copy the span id" title="Copy" onClick=${() => copy(one.id)}><${Icon} name="copy" /></button></dd>
      ${one.parent && html`<dt>Parent</dt><dd><${Parent} trace=${trace} id=${one.parent} onReveal=${onReveal} /></dd>`}
      ${one.trace_state && html`<dt>Trace state</dt><dd><code>${one.trace_state}</code></dd>`}
      <dt>Start</dt><dd title=${date(one.start).toISOString()}>${moment(one.start)}</dd>
    </dl>
  `;
}

/** @param {{trace: Trace, id: string, onReveal: (span: number) => void}} properties */
function Parent({ trace, id, onReveal }) {
  const at = trace.position.get(id);
  if (at === undefined) return html`<code>${id}</code> <span class="tag warn">missing</span>`;
  return html`<button class="link" onClick=${() => onReveal(at)}>${trace.name(at)}</button>`;
}

/** @param {{text: string, attributes: import("../answers.js").Attributes}} properties */
function Query({ text, attributes }) {
  const system = attributes["db.system.name"] ?? attributes["db.system"];
  const where = attributes["db.namespace"] ?? attributes["db.name"];
  return html`<section><div class="head"><h3>Query ${system && html`<small>${String(system)}${where ? ` · ${where}` : ""}</small>`}</h3><span class="grow"></span><button class="icon small" aria-label="Copy the query" title="Copy" onClick=${() => copy(text)}><${Icon} name="copy" /></button></div>
    <pre class="sql" tabindex="0" aria-label="Query">${sql(text).map(({ text, kind }) => (kind === "plain" ? text : html`<span class=${kind}>${text}</span>`))}</pre></section>`;
}

/** Python's stack traces have what was raised at their end. @param {HTMLElement | null} box */
function toEnd(box) {
  if (box?.textContent?.startsWith("Traceback (most recent call last)")) box.scrollTop = box.scrollHeight;
}

/** @param {{event: import("../answers.js").SpanEvent, start: string}} properties */
function Exception({ event, start }) {
  const { "exception.type": type, "exception.message": message, "exception.stacktrace": stack, ...rest } = event.attributes;
  return html`<section class="exception"><div class="head"><h3>${type || "Exception"}</h3><time>${offset(event.time, start)}</time><span class="grow"></span>
      ${stack && html`<button class="icon small" aria-label="Copy the stack trace" title="Copy" onClick=${() => copy(String(stack))}><${Icon} name="copy" /></button>`}</div>
    ${message && html`<p class="message">${message}</p>`}
    ${stack && html`<pre class="stack" ref=${toEnd} tabindex="0" aria-label="Stack trace">${stack}</pre>`}<${AttributeList} of=${rest} /></section>`;
}

/** @param {{trace: Trace, link: import("../answers.js").SpanLink, way: string, onReveal: (span: number) => void}} properties */
function SpanLink({ trace, link, way, onReveal }) {
  const here = link.trace === trace.data.id ? trace.position.get(link.span) : undefined;
  const what = here !== undefined ? html`<button class="link" onClick=${() => onReveal(here)}>${trace.name(here)}</button> in this trace` : html`<a href=${address(["trace", link.trace], { span: link.span })}>trace <code>${link.trace.slice(0, 8)}…</code></a>, span <code>${link.span}</code>`;
  return html`<p><${Icon} name="link" /> ${way} ${what}</p>`;
}

/** @param {{one: SpanData}} properties */
function SpanLogs({ one }) {
  if (!one.logs.length) return html`<p class="none">No log records have come for this span.</p>`;
  return html`${one.logs.map(
    (log) => html`<div class=${`log ${level(log.severity)}`}><p class="line"><span class="severity">${log.text || level(log.severity) || "–"}</span><time title=${date(log.time).toISOString()}>${offset(log.time, one.start)}</time></p>
      <p class="body">${colourless(log.body)}</p>
      ${Object.keys(log.attributes).length > 0 && html`<details><summary>Attributes <small>${Object.keys(log.attributes).length}</small></summary><${AttributeList} of=${log.attributes} /></details>`}</div>`,
  )}${one.truncated.includes("logs") && html`<p class="note warn">The span has more log records than the ${count(one.logs.length)} that are shown.</p>`}
  ${!embedded && html`<p><a href=${address(["logs"], { trace: one.trace })}>All of this trace</a> · <a href=${address(["logs"], { service: one.resource.service })}>all of ${one.resource.service}</a></p>`}`;
}

/** @param {string} time @param {string} start */
function offset(time, start) {
  const ns = Number(BigInt(time) - BigInt(start));
  return `${ns < 0 ? "" : "+"}${duration(ns)}`;
}
