// @ts-check
import { html, render, useEffect, useState } from "./html.js";
import { ask, begin, embedded, watch } from "./api.js";
import { address, changed, changes, connected, go, live, place, setTheme, theme, unnamed } from "./state.js";
import { count } from "./model/format.js";
import { TraceList } from "./views/list.js";
import { TracePage } from "./views/trace.js";
import { ServiceMap } from "./views/map.js";
import { Logs } from "./views/logs.js";
import { Metrics } from "./views/metrics.js";
import { Compare } from "./views/compare.js";

const PAGES = [
  ["traces", "Traces"],
  ["map", "Services"],
  ["logs", "Logs"],
  ["metrics", "Metrics"],
];
/** @type {Record<string, [string, string]>} its sign, and which comes after it */
const THEMES = { auto: ["◐", "light"], light: ["☀", "dark"], dark: ["☾", "auto"] };

function App() {
  const { path } = place.value;
  const page = path[0];
  useEffect(() => {
    document.title = page === "trace" ? "Trace · otelagent" : `${PAGES.find(([name]) => name === page)?.[1] ?? "Traces"} · otelagent`;
  }, [page]);
  return html`
    <a class="skip" href="#main">Skip to content</a>
    <header class="top">
      <a class="brand" href=${embedded ? undefined : address(["traces"])}><i class="sign-of" aria-hidden="true"></i>otelagent</a>
      ${embedded ? html`<span class="dim">a shared trace</span>` : html`<nav aria-label="Pages">
        ${PAGES.map(
          ([name, title]) =>
            html`<a href=${address([name])} aria-current=${page === name || (page === "trace" && name === "traces") ? "page" : undefined}>${title}</a>`,
        )}
      </nav>`}
      <span class="grow"></span>
      ${!embedded && html`<${Status} />`}
      <button class="quiet" onClick=${() => setTheme(THEMES[theme.value][1])} title=${`Colours: ${theme.value}`} aria-label=${`Colours: ${theme.value}`}>${THEMES[theme.value][0]}</button>
    </header>
    <main id="main" tabindex="-1">${content(path)}</main>
  `;
}

/** @param {string[]} path */
function content(path) {
  switch (path[0]) {
    case "trace":
      return html`<${TracePage} key=${path[1]} id=${path[1] ?? ""} />`;
    case "compare":
      return html`<${Compare} a=${path[1] ?? ""} b=${path[2] ?? ""} />`;
    case "map":
      return html`<${ServiceMap} />`;
    case "logs":
      return html`<${Logs} />`;
    case "metrics":
      return html`<${Metrics} />`;
    default:
      return html`<${TraceList} />`;
  }
}

function Status() {
  const [status, setStatus] = useState(/** @type {any} */ (null));
  const seen = changes.value;
  useEffect(() => {
    ask("status").then(setStatus, () => undefined);
  }, [seen, connected.value]);
  const lost = status ? status.store.refused + status.store.failed : 0;
  return html`<span class="status">
    ${lost > 0 && html`<span class="bad" title="The store had no room or the disk failed; senders were told.">${count(lost)} not taken</span>`}
    ${status && html`<span class="dim wide" title=${status.endpoints.http}>${count(status.store.spans)} spans</span>`}
    <button class=${`live ${connected.value ? (live.value ? "on" : "") : "off"}`} aria-pressed=${live.value} onClick=${() => (live.value = !live.value)}
      title=${connected.value ? "Show new traces as they come" : "The viewer doesn't answer"}>
      <i></i>${connected.value ? (live.value ? "Live" : "Paused") : "Disconnected"}
    </button>
  </span>`;
}

begin();
watch(
  (change) => {
    const next = new Map(changed.value);
    for (const trace of change.traces) next.set(trace, changes.value + 1);
    changed.value = next.size > 5000 ? new Map([...next].slice(-2500)) : next;
    if (change.more) unnamed.value = changes.value + 1;
    changes.value += 1;
  },
  (state) => (connected.value = state),
);
addEventListener("keydown", (event) => {
  if (event.key === "/" && !(event.target instanceof HTMLInputElement)) {
    const field = /** @type {HTMLElement | null} */ (document.querySelector("input[type=search]"));
    if (field) {
      event.preventDefault();
      field.focus();
    }
  } else if (event.key === "Escape" && event.target instanceof HTMLInputElement) {
    event.target.blur();
  } else if (event.key === "g" && !(event.target instanceof HTMLInputElement) && !event.ctrlKey && !event.metaKey && !event.altKey) {
    go(["traces"]);
  }
});
render(html`<${App} />`, /** @type {HTMLElement} */ (document.getElementById("app")));
