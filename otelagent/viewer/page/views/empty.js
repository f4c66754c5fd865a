// @ts-check
// Nothing to show, and what to do about it.
import { html } from "../html.js";

/** @param {{filtered: boolean, complete: boolean}} properties */
export function Empty({ filtered, complete }) {
  if (filtered)
    return html`<div class="empty"><h2>${complete ? "No trace is like that" : "Nothing found in the time that a search may take"}</h2>
      <p>${complete ? "Take a filter away, or wait: new traces are shown as they come." : "Narrow it by service, operation or time."}</p></div>`;
  return html`<div class="empty">
    <h2>No traces yet</h2>
    <p>Send some: any OpenTelemetry SDK on this machine can.</p>
    <pre>otelagent-run --endpoint ${location.origin} python app.py</pre>
    <pre>OTEL_EXPORTER_OTLP_ENDPOINT=${location.origin} node --require @opentelemetry/auto-instrumentations-node/register app.js</pre>
  </div>`;
}
