// @ts-check
// The log records of a trace, in the order of their time, each with its span.
import { html, useState, valueOf } from "../html.js";
import { embedded } from "../api.js";
import { colourless, counted, duration, level } from "../model/format.js";
import { colour } from "../colours.js";
import { address } from "../state.js";

const MOST = 1_000;

/** @param {{trace: import("../model/trace.js").Trace, only: number, onReveal: (span: number) => void}} properties */
export function TraceLogs({ trace, only, onReveal }) {
  const [text, setText] = useState("");
  const { logs, id } = trace.data;
  if (!logs.length) return html`<div class="panel"><p class="none">No log records have come for this trace.</p></div>`;
  const wanted = text.toLowerCase();
  const shown = wanted ? logs.filter(([, , , body]) => body.toLowerCase().includes(wanted)) : logs;
  return html`<div class="panel" tabindex="0" role="region" aria-label="Log records">
    <div class="tools"><div class="search"><label><span class="sr">Search in these log records</span><input type="search" placeholder="Search in these log records  ( / )" value=${text} onInput=${(/** @type {Event} */ e) => setText(valueOf(e))} /></label></div>
      <span class="grow"></span>${!embedded && html`<a href=${address(["logs"], { trace: id })}>With their attributes</a>`}</div>
    <ol class="lines short">${shown.slice(0, MOST).map(
      ([span, at, severity, body, key]) => html`<li key=${key} class=${`log ${level(severity)} ${span === only ? "chosen" : ""}`}>
        <time>${duration(at)}</time><span class="severity">${level(severity) || "–"}</span>
        ${span >= 0 ? html`<button class="link" onClick=${() => onReveal(span)}><i class="dot" style=${`background:${colour(trace.service(span))}`}></i>${trace.name(span)}</button>` : html`<span class="dim">no span</span>`}
        <span class="body">${colourless(body)}</span></li>`,
    )}</ol>
    ${!shown.length && html`<p class="none">No log record is like that.</p>`}
    ${shown.length > MOST && html`<p class="note">${counted(shown.length - MOST, "more")}: narrow the search</p>`}
  </div>`;
}
