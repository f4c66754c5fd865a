// @ts-check
import { html, render, useEffect } from "./html.js";
import { begin, embedded } from "./api.js";
import { follow } from "./stream.js";
import { place } from "./state.js";
import { listen } from "./keys.js";
import { Banner, Toast, Top } from "./views/top.js";
import { Help } from "./views/help.js";
import { DropZone } from "./views/importing.js";
import { TraceList } from "./views/list.js";
import { TracePage } from "./views/trace.js";
import { ServiceMap } from "./views/map.js";
import { Logs } from "./views/logs.js";
import { Metrics } from "./views/metrics.js";
import { Compare } from "./views/compare.js";

const TITLES = /** @type {Record<string, string>} */ ({ map: "Services", logs: "Logs", metrics: "Metrics", trace: "Trace", compare: "Compare" });

function App() {
  const { path } = place.value;
  useEffect(() => {
    document.title = `${TITLES[path[0]] ?? "Traces"} · otelagent`;
  }, [path[0]]);
  return html`
    <a class="skip" href="#main" onClick=${toContent}>Skip to content</a>
    <${Top} page=${path[0]} />
    <${Banner} />
    <main id="main" tabindex="-1">${content(path)}</main>
    <${Toast} />
    <${Help} page=${path[0]} />
    ${!embedded && html`<${DropZone} />`}
  `;
}

/** The address is the page's place, so that a jump to an anchor isn't one of the browser's. @param {Event} event */
function toContent(event) {
  event.preventDefault();
  document.getElementById("main")?.focus();
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

begin();
follow();
listen();
render(html`<${App} />`, /** @type {HTMLElement} */ (document.getElementById("app")));
