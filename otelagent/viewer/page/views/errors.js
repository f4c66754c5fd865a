// @ts-check
// What failed in a trace, each with what is known of why.
import { html } from "../html.js";
import { counted, duration } from "../model/format.js";
import { colour } from "../colours.js";

const MOST = 500;

/** @param {{trace: import("../model/trace.js").Trace, failures: number[], onReveal: (span: number) => void}} properties */
export function Errors({ trace, failures, onReveal }) {
  if (!failures.length) return html`<div class="panel"><p class="none">No span of this trace failed.</p></div>`;
  // Where an error came from is where no span below has failed too.
  const first = new Set(failures.filter((span) => !trace.errorsBelow[span]));
  return html`<div class="panel" tabindex="0" role="region" aria-label="Errors"><ul class="errors">${failures.slice(0, MOST).map(
    (span) => html`<li key=${span}><button class="link" onClick=${() => onReveal(span)}><i class="dot" style=${`background:${colour(trace.service(span))}`}></i><b>${trace.name(span)}</b></button><small>${trace.service(span)}</small>
      ${first.has(span) && first.size < failures.length && html`<span class="tag bad">origin</span>`}
      <small class="at">${trace.start[span] ? `at ${duration(trace.start[span])}` : "at the start"}, ${duration(trace.took(span))}</small>
      ${trace.data.messages[span] && html`<p>${trace.data.messages[span]}</p>`}
      ${trace.logsOf.get(span)?.filter((log) => log.severity >= 17).slice(0, 3).map((log) => html`<p class="dim">${log.body}</p>`)}</li>`,
  )}</ul>${failures.length > MOST && html`<p class="note">${counted(failures.length - MOST, "more")}</p>`}</div>`;
}
