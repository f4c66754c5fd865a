// @ts-check
// Nothing to show, and what to do about it.
import { html } from "../html.js";
import { copy } from "../state.js";
import { useAnswer } from "./answer.js";
import { Icon } from "./icon.js";

/** @param {{filtered: boolean, complete: boolean, onMore: (() => void) | null}} properties */
export function Empty({ filtered, complete, onMore }) {
  if (filtered)
    return html`<div class="empty"><h2>${complete ? "No trace is like that" : onMore ? "Nothing found in the time that a search may take" : "Nothing found where the words were looked for"}</h2>
      <p>${complete ? "Take a filter away, or wait: new traces are shown as they come." : "Narrow it by service, operation or time, or search on in what is older."}</p>
      ${!complete && onMore && html`<button onClick=${onMore}>Search on</button>`}</div>`;
  return html`<div class="empty first">
    <h2>No traces yet</h2>
    <p>Any OpenTelemetry SDK on this machine can send them here. A Python program without a change to its code:</p>
    <${Command} text="otelagent-run --ui python app.py" />
    <p>Any other, in any language:</p>
    <${Command} text=${`export OTEL_EXPORTER_OTLP_ENDPOINT=${location.origin}\nexport OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf`} />
    <p>Traces are shown as they come. A file of OTLP/JSON can be dropped on this page.</p>
    <${Checks} />
  </div>`;
}

/** @param {{text: string}} properties */
export function Command({ text }) {
  return html`<div class="command"><pre tabindex="0">${text}</pre><button class="icon" aria-label="Copy the command" title="Copy" onClick=${() => copy(text)}><${Icon} name="copy" /></button></div>`;
}

/** What the doctor finds about the way here. */
function Checks() {
  const { answer } = useAnswer("checks", {}, { everyMs: 5000 });
  /** @type {import("../answers.js").Check[]} */
  const checks = Array.isArray(answer) ? answer : (answer?.checks ?? []);
  if (!checks.length) return null;
  const order = ["fail", "warn", "pass", "skip"];
  const sorted = [...checks].sort((a, b) => order.indexOf(a.status) - order.indexOf(b.status));
  return html`<section class="checks"><h3>Is the way here free?</h3><ul>${sorted.map(
    (one) => html`<li class=${one.status}><span class="badge"><${Icon} name=${one.status} /><span class="sr">${one.status}</span></span>
      <div><b>${one.title}</b>${one.detail && html`<p>${one.detail}</p>`}${one.advice && one.status !== "pass" && html`<p class="advice">${one.advice}</p>`}</div></li>`,
  )}</ul></section>`;
}
