// @ts-check
import { html, useEffect, useState } from "../html.js";
import { ask } from "../api.js";
import { date, duration, KINDS, level, moment, valueText } from "../model/format.js";
import { address, colour } from "../state.js";

const STATUS = ["unset", "ok", "error"];
const QUERY = ["db.query.text", "db.statement"];

/**
 * @param {{trace: import("../model/trace.js").Trace, span: number, onClose: () => void, onReveal: (span: number) => void}} properties
 */
export function SpanDetail({ trace, span, onClose, onReveal }) {
  const id = trace.data.spans.id[span];
  const [found, setFound] = useState(/** @type {any} */ (null));
  const [error, setError] = useState("");
  const [filter, setFilter] = useState("");
  useEffect(() => {
    const abort = new AbortController();
    setError("");
    ask(`traces/${trace.data.id}/spans/${id}`, {}, { signal: abort.signal }).then(setFound, (problem) => problem.name !== "AbortError" && setError(problem.message));
    return () => abort.abort();
  }, [trace.data.id, id]);
  const one = found?.id === id ? found : null;
  return html`<aside class="detail" aria-label="Span">
    <div class="head"><h2><i class="dot" style=${`background:${colour(trace.service(span))}`}></i>${trace.name(span)}</h2><button class="quiet" aria-label="Close" onClick=${onClose}>×</button></div>
    ${error && html`<p class="problem" role="alert">${error}</p>`}
    <dl class="facts">
      <div><dt>Duration</dt><dd>${duration(trace.end[span] - trace.start[span])}</dd></div>
      <div><dt>Self</dt><dd>${duration(trace.self[span])}</dd></div>
      <div><dt>Starts at</dt><dd>${duration(trace.start[span])}</dd></div>
      <div><dt>Service</dt><dd>${trace.service(span)}</dd></div>
      <div><dt>Kind</dt><dd>${KINDS[trace.data.spans.kind[span]] || "unspecified"}</dd></div>
      <div><dt>Status</dt><dd class=${trace.failed(span) ? "bad" : ""}>${STATUS[trace.data.spans.status[span]] ?? ""}</dd></div>
    </dl>
    ${one?.message && html`<p class="message">${one.message}</p>`}
    ${!one && !error && html`<p class="dim" role="status">Loading…</p>`}
    ${one && html`
      ${one.events.filter((/** @type {any} */ event) => event.name === "exception").map((/** @type {any} */ event) => html`<${Exception} event=${event} />`)}
      ${QUERY.filter((name) => one.attributes[name]).map((name) => html`<section><h3>Query</h3><pre class="sql">${one.attributes[name]}</pre></section>`)}
      <section>
        <h3>Attributes ${Object.keys(one.attributes).length > 12 && html`<input type="text" aria-label="Filter attributes" placeholder="Filter" value=${filter} onInput=${(/** @type {any} */ e) => setFilter(e.target.value)} />`}</h3>
        <${Attributes} of=${one.attributes} filter=${filter} trace=${true} />
        ${Object.entries(one.dropped).map(([what, number]) => html`<p class="note">${number} ${what} were left out before they came here.</p>`)}
      </section>
      ${one.events.some((/** @type {any} */ event) => event.name !== "exception") && html`<section><h3>Events</h3>${one.events.filter((/** @type {any} */ event) => event.name !== "exception").map((/** @type {any} */ event) => html`<div class="event"><b>${event.name}</b><time>${offset(event.time, one.start)}</time><${Attributes} of=${event.attributes} /></div>`)}</section>`}
      ${one.logs.length > 0 && html`<section><h3>Log records</h3>${one.logs.map((/** @type {any} */ log) => html`<div class=${`log ${level(log.severity)}`}><span class="severity">${log.text || level(log.severity)}</span><time title=${date(log.time).toISOString()}>${offset(log.time, one.start)}</time><p>${log.body}</p>${Object.keys(log.attributes).length > 0 && html`<details><summary>Attributes</summary><${Attributes} of=${log.attributes} /></details>`}</div>`)}</section>`}
      ${(one.links.length > 0 || one.linked_from.length > 0) && html`<section><h3>Links</h3><ul class="links">
        ${one.links.map((/** @type {any} */ link) => html`<li>to <${SpanLink} trace=${trace} link=${link} onReveal=${onReveal} /><${Attributes} of=${link.attributes} /></li>`)}
        ${one.linked_from.map((/** @type {any} */ link) => html`<li>from <${SpanLink} trace=${trace} link=${link} onReveal=${onReveal} /></li>`)}</ul></section>`}
      <section><details><summary>Resource: ${one.resource.service}</summary><${Attributes} of=${one.resource.attributes} /></details>
      <details><summary>Scope: ${one.scope.name || "(no name)"} ${one.scope.version}</summary><${Attributes} of=${one.scope.attributes} /></details></section>
      <dl class="ids"><dt>Span id</dt><dd><code>${one.id}</code></dd>${one.parent && html`<dt>Parent</dt><dd>${trace.position.has(one.parent) ? html`<button class="link" onClick=${() => onReveal(/** @type {number} */ (trace.position.get(one.parent)))}><code>${one.parent}</code></button>` : html`<code>${one.parent}</code> (not here)`}</dd>`}
        ${one.trace_state && html`<dt>Trace state</dt><dd><code>${one.trace_state}</code></dd>`}<dt>Start</dt><dd>${moment(one.start)}</dd></dl>
    `}
  </aside>`;
}

/** @param {string} time @param {string} start */
function offset(time, start) {
  return `+${duration(Number(BigInt(time) - BigInt(start)))}`;
}

/** @param {{event: any}} properties */
function Exception({ event }) {
  const { "exception.type": type, "exception.message": message, "exception.stacktrace": stack, ...rest } = event.attributes;
  return html`<section class="exception"><h3>${type || "Exception"}</h3>${message && html`<p class="message">${message}</p>`}
    ${stack && html`<pre tabindex="0" aria-label="Stack trace">${stack}</pre>`}<${Attributes} of=${rest} /></section>`;
}

/** @param {{of: Record<string, any>, filter?: string, trace?: boolean}} properties */
function Attributes({ of, filter = "", trace = false }) {
  const wanted = filter.toLowerCase();
  const entries = Object.entries(of).filter(([key, value]) => !wanted || key.toLowerCase().includes(wanted) || valueText(value)[0].toLowerCase().includes(wanted));
  if (!entries.length) return null;
  return html`<dl class="attributes">${entries
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => {
      const [text, type] = valueText(value);
      return html`<div><dt>${key}</dt><dd class=${type}>${text}${trace && type !== "json" && text.length < 200 ? html`<a class="find" href=${address(["traces"], { attr: `${key}=${text}` })} title="Traces with this value" aria-label=${`Traces with ${key}=${text}`}>⌕</a>` : ""}</dd></div>`;
    })}</dl>`;
}

/** @param {{trace: import("../model/trace.js").Trace, link: {trace: string, span: string}, onReveal: (span: number) => void}} properties */
function SpanLink({ trace, link, onReveal }) {
  const here = link.trace === trace.data.id ? trace.position.get(link.span) : undefined;
  if (here !== undefined) return html`<button class="link" onClick=${() => onReveal(here)}>${trace.name(here)} <code>${link.span}</code></button>`;
  return html`<a href=${address(["trace", link.trace], { span: link.span })}>another trace <code>${link.trace.slice(0, 8)}…/${link.span}</code></a>`;
}
