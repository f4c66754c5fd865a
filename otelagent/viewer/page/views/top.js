// @ts-check
// What stands above every page, and what it tells now and then.
import { html, useLayoutEffect, useRef, useState } from "../html.js";
import { embedded } from "../api.js";
import { bytes, count, counted, short } from "../model/format.js";
import { address, connection, helping, live, notice, setTheme, theme } from "../state.js";
import { useAnswer } from "./answer.js";
import { Icon } from "./icon.js";
import { importFiles } from "./importing.js";

/** @type {[string, string][]} */
const PAGES = [
  ["traces", "Traces"],
  ["map", "Services"],
  ["logs", "Logs"],
  ["metrics", "Metrics"],
];
/** @type {Record<import("../state.js").Theme, [string, import("../state.js").Theme, string]>} */
const THEMES = {
  auto: ["system", "light", "as the system"],
  light: ["sun", "dark", "light"],
  dark: ["moon", "auto", "dark"],
};

/** @param {{page: string}} properties */
export function Top({ page }) {
  const [icon, next, name] = THEMES[theme.value];
  const within = page === "trace" || page === "compare" ? "traces" : page;
  return html`<header class="top">
    <a class="brand" aria-label="otelagent" href=${embedded ? undefined : address(["traces"])}><i class="logo" aria-hidden="true"></i><span>otelagent</span></a>
    ${embedded
      ? html`<span class="dim">${shared(embedded)}</span>`
      : html`<nav aria-label="Pages">${PAGES.map(([path, title]) => html`<a href=${address([path])} aria-current=${within === path ? "page" : undefined}>${title}</a>`)}</nav>`}
    <span class="grow"></span>
    ${!embedded && html`<${Status} />`}
    <${Menu}>
      ${!embedded && html`<${Import} />`}
      <button class="icon" onClick=${() => setTheme(next)} title=${`Colours: ${name}`} aria-label=${`Colours: ${name}`}><${Icon} name=${icon} /><span aria-hidden="true">Colours: ${name}</span></button>
      <button class="icon" onClick=${() => (helping.value = true)} title="Keys ( ? )" aria-label="Keys"><${Icon} name="help" /><span aria-hidden="true">Keys</span></button>
    <//>
  </header>`;
}

/** What a shared file says of itself. @param {NonNullable<typeof embedded>} file */
function shared(file) {
  const [inside, all] = [Object.keys(file.spans).length, file.trace.spans.id.length];
  return inside < all ? `a shared trace; in detail its first ${counted(inside, "span")}` : "a shared trace";
}

/** Buttons that stand in a row where there is room, and else behind one of their own. @param {{children?: unknown}} properties */
function Menu({ children }) {
  const [open, setOpen] = useState(false);
  const box = useRef(/** @type {HTMLDivElement | null} */ (null));
  useLayoutEffect(() => {
    if (!open) return;
    const onKey = (/** @type {KeyboardEvent} */ event) => {
      if (event.key !== "Escape") return;
      setOpen(false);
      box.current?.querySelector("button")?.focus();
    };
    const onClick = (/** @type {Event} */ event) => !box.current?.contains(/** @type {Node} */ (event.target)) && setOpen(false);
    addEventListener("keydown", onKey);
    addEventListener("click", onClick);
    return () => (removeEventListener("keydown", onKey), removeEventListener("click", onClick));
  }, [open]);
  return html`<div class=${`menu ${open ? "open" : ""}`} ref=${box}>
    <button class="icon opens" aria-label="Menu" title="Menu" aria-expanded=${open} aria-controls="menu" onClick=${() => setOpen(!open)}><${Icon} name="menu" /></button>
    <div class="items" id="menu" onClick=${() => setOpen(false)}>${children}</div></div>`;
}

function Status() {
  const { answer: status } = useAnswer("status", {}, { everyMs: 2000, follow: "always" });
  const store = /** @type {import("../answers.js").Status | null} */ (status)?.store;
  const lost = store ? store.refused + store.failed : 0;
  const up = connection.value === "yes";
  return html`
    ${lost > 0 && html`<span class="tag bad" title="The store had no room, or its disk failed; the senders were told.">${count(lost)} not taken</span>`}
    ${store && store.given_up_traces > 0 && html`<span class="tag wide" title="The store is full or they were too old: the oldest traces went first.">${short(store.given_up_traces)} traces pruned</span>`}
    ${store && html`<span class="dim wide" title=${`${count(store.spans)} spans, ${count(store.traces)} traces, ${count(store.logs)} log records, ${bytes(store.bytes)}`}>${short(store.spans)} spans</span>`}
    <button class=${`live ${up ? (live.value ? "on" : "") : "off"}`} aria-pressed=${live.value} onClick=${() => (live.value = !live.value)}
      title=${up ? (live.value ? "The page follows what comes; a click stops that ( p )" : "The page stands still; a click has it follow what comes ( p )") : "The viewer doesn't answer"}>
      <i></i><span>${up ? (live.value ? "Live" : "Paused") : "Offline"}</span>
    </button>
  `;
}

function Import() {
  const field = useRef(/** @type {HTMLInputElement | null} */ (null));
  const take = () => {
    const files = [...(field.current?.files ?? [])];
    if (field.current) field.current.value = "";
    if (files.length) importFiles(files);
  };
  return html`<button class="icon" title="Import OTLP/JSON; a file can be dropped anywhere" aria-label="Import" onClick=${() => field.current?.click()}><${Icon} name="import" /><span aria-hidden="true">Import</span></button>
    <input ref=${field} type="file" hidden multiple accept=".json,.jsonl,.ndjson,application/json" aria-label="Files to import" onChange=${take} />`;
}

/** Told as long as it lasts. */
export function Banner() {
  if (connection.value === "yes") return null;
  return html`<p class="banner" role="alert">${
    connection.value === "no"
      ? html`<b>The viewer doesn't answer.</b> It has ended, or the machine was asleep. What is on the page stays. The same viewer is found again by itself; one that is started anew (<code>otelagent ui</code>) prints a new address, by which the page has to be opened.`
      : html`<b>The viewer doesn't know this page.</b> It has been started anew, or the page was opened without its token: open the page by the address that otelagent printed.`
  }</p>`;
}

/** Told for a while. */
export function Toast() {
  const told = notice.value;
  return html`<div class="toasts" role="status">${
    told && html`<p class=${told.bad ? "toast bad" : "toast"}>${told.text}${told.href && html` <a href=${told.href}>${told.link}</a>`}<button class="icon" aria-label="Dismiss" onClick=${() => (notice.value = null)}><${Icon} name="close" /></button></p>`
  }</div>`;
}
