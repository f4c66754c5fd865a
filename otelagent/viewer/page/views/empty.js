// @ts-check
// Nothing to show, and why: the doctor's checks.
import { html, useEffect, useState } from "../html.js";
import { ask } from "../api.js";
import { changes } from "../state.js";

const SIGNS = { pass: "✓", warn: "!", fail: "✗" };

/** @param {{filtered: boolean, complete: boolean}} properties */
export function Empty({ filtered, complete }) {
  const [checks, setChecks] = useState(/** @type {any} */ (null));
  const seen = changes.value;
  useEffect(() => {
    if (!filtered) ask("checks").then(setChecks, () => setChecks(null));
  }, [filtered, seen]);
  if (filtered)
    return html`<div class="empty"><h2>${complete ? "No trace is like that" : "Nothing found in the time that a search may take"}</h2>
      <p>${complete ? "Take a filter away, or wait: new traces are shown as they come." : "Narrow it by service, operation or time."}</p></div>`;
  const endpoint = checks?.endpoint ?? location.origin;
  return html`<div class="empty">
    <h2>No traces yet</h2>
    <p>Send some: any OpenTelemetry SDK on this machine can.</p>
    <pre>otelagent-run --endpoint ${endpoint} python app.py</pre>
    <pre>OTEL_EXPORTER_OTLP_ENDPOINT=${endpoint} node --require @opentelemetry/auto-instrumentations-node/register app.js</pre>
    ${checks &&
    html`<ul class="checks">${checks.checks.map((/** @type {any} */ one) => html`<li class=${one.result}><b aria-label=${one.result}>${SIGNS[one.result]}</b><span>${one.title}${one.advice ? html`<small>${one.advice}</small>` : ""}</span></li>`)}</ul>`}
    <p class="dim">Traces were sent and don't come? <code>otelagent doctor -- python app.py</code> says why.</p>
  </div>`;
}
