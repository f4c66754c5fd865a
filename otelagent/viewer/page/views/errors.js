// @ts-check
// What failed in a trace, each with what is known of why.
import { html } from "../html.js";
import { counted, duration, exceptionText } from "../model/format.js";
import { colour } from "../colours.js";
import { useAnswer } from "./answer.js";

const MOST = 500;
/** Spans whose exceptions are asked for, one by one. */
const MOST_ASKED = 50;

/** @param {{trace: import("../model/trace.js").Trace, failures: number[], onReveal: (span: number) => void}} properties */
export function Errors({ trace, failures, onReveal }) {
  if (!failures.length) return html`<div class="panel"><p class="none">No span of this trace failed.</p></div>`;
  // Where an error came from is where no span below has failed too.
  const first = new Set(failures.filter((span) => !trace.errorsBelow[span]));
  return html`<div class="panel" tabindex="0" role="region" aria-label="Errors"><ul class="errors">${failures.slice(0, MOST).map(
    (span, number) => html`<li key=${span}><button class="link" onClick=${() => onReveal(span)}><i class="dot" style=${`background:${colour(trace.service(span))}`}></i><b>${trace.name(span)}</b></button><small>${trace.service(span)}</small>
      ${first.has(span) && first.size < failures.length && html`<span class="tag bad">origin</span>`}
      <small class="at">${trace.start[span] ? `at +${duration(trace.start[span])}` : "at the start"}, took ${duration(trace.took(span))}</small>
      <${Why} trace=${trace} span=${span} asked=${number < MOST_ASKED} />
      ${trace.logsOf.get(span)?.filter((log) => log.severity >= 17).slice(0, 3).map((log) => html`<p class="dim">${log.body}</p>`)}</li>`,
  )}</ul>${failures.length > MOST_ASKED && html`<p class="note">The exceptions of the first ${MOST_ASKED} are told here, of the others with the span.</p>`}${failures.length > MOST && html`<p class="note">${counted(failures.length - MOST, "more")}</p>`}</div>`;
}

/** The exceptions of a span, and its message if that says anything else. @param {{trace: import("../model/trace.js").Trace, span: number, asked: boolean}} properties */
function Why({ trace, span, asked }) {
  const { data } = trace;
  const { answer } = useAnswer(asked ? `traces/${data.id}/spans/${data.spans.id[span]}` : "", {}, { follow: "never", turn: data.spans.duration[span] });
  const one = /** @type {import("../answers.js").SpanData | null} */ (answer);
  const raised = [...new Set(one?.events.filter((event) => event.name === "exception").map((event) => exceptionText(event.attributes)))].filter(Boolean);
  const message = data.messages[span];
  const told = message && raised.some((text) => text === message || text.endsWith(`: ${message}`));
  const type = !raised.length && one?.attributes["error.type"];
  return html`${raised.map((text) => html`<p>${text}</p>`)}${message && !told && html`<p>${message}</p>`}${type && html`<p>error.type ${String(type)}</p>`}`;
}
