// @ts-check
// What the list of traces is asked for. All of it stands in the address.
import { html, useState, valueOf } from "../html.js";
import { clock, date } from "../model/format.js";
import { PERIODS } from "../model/period.js";
import { go } from "../state.js";
import { useAnswer } from "./answer.js";
import { Icon } from "./icon.js";

const NAMES = ["service", "operation", "error", "min_ms", "max_ms", "q", "from", "to", "last", "sort"];

/** @typedef {Record<string, any> & {attr?: string[]}} Asked */

/** The filters of the address, as the API takes them. @param {URLSearchParams} query @returns {Asked} */
export function asked(query) {
  /** @type {Asked} */
  const found = {};
  for (const name of NAMES) if (query.get(name)) found[name] = query.get(name);
  const attributes = query.getAll("attr").filter(Boolean);
  if (attributes.length) found.attr = attributes;
  return found;
}

/** What stands for names beyond those that can be chosen. @param {{complete: boolean} | null} answer */
export const more = (answer) => answer && !answer.complete && html`<option disabled>… more: search for their words</option>`;

/** @param {{asked: Asked, mark: string[]}} properties */
export function Filters({ asked, mark }) {
  const ofServices = useAnswer("services", {}, { everyMs: 5000, follow: "always" }).answer;
  const services = [...(ofServices?.services ?? [])];
  const known = useAnswer(asked.service ? "operations" : "", { service: asked.service }, { everyMs: 5000, follow: "always" }).answer;
  const operations = asked.service ? [...new Set((known?.operations ?? []).map((/** @type {{name: string}} */ one) => one.name))] : [];
  if (asked.operation && !operations.includes(asked.operation)) operations.push(asked.operation);
  if (asked.service && !services.includes(asked.service)) services.push(asked.service);
  const set = (/** @type {Asked} */ changes, replace = false) => go(["traces"], { ...asked, ...changes, mark }, replace);
  const attributes = asked.attr ?? [];
  const add = (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const field = /** @type {HTMLInputElement} */ (/** @type {HTMLFormElement} */ (event.target).elements.namedItem("attribute"));
    const text = field.value.trim();
    if (text && !attributes.includes(text)) set({ attr: [...attributes, text] });
    field.value = "";
  };
  const [open, setOpen] = useState(false);
  const many = Object.keys(asked).filter((name) => name !== "q" && name !== "sort").length;
  const window = asked.from || asked.to;
  return html`<div class=${`filters ${open ? "open" : ""}`} role="search" aria-label="Filter traces">
    <label>Service<select value=${asked.service ?? ""} onChange=${(/** @type {Event} */ e) => set({ service: valueOf(e), operation: "" })}>
      <option value="">All services</option>${services.map((/** @type {string} */ name) => html`<option value=${name} selected=${name === asked.service}>${name}</option>`)}${more(ofServices)}
    </select></label>
    <label>Operation<select value=${asked.operation ?? ""} disabled=${!asked.service && !asked.operation} onChange=${(/** @type {Event} */ e) => set({ operation: valueOf(e) })}>
      <option value="">All operations</option>${operations.map((name) => html`<option value=${name} selected=${name === asked.operation}>${name}</option>`)}${asked.service && more(known)}
    </select></label>
    <label class="grow">Words<input type="search" placeholder="Names, logs, errors  ( / )" value=${asked.q ?? ""} onInput=${(/** @type {Event} */ e) => set({ q: valueOf(e) }, true)} /></label>
    <button class=${`more toggle ${many ? "on" : ""}`} aria-expanded=${open} onClick=${() => setOpen(!open)}><${Icon} name="filter" />${many ? `Filters: ${many}` : "Filters"}</button>
    <form onSubmit=${add}><label>Attribute<input name="attribute" placeholder="key=value, key>3" autocomplete="off" spellcheck=${false} title="key=value, key!=value, key>3, key<=3, key~part of the text, or key alone; Enter adds it" /></label></form>
    <fieldset class="between"><legend>Duration, ms</legend>
      <${Milliseconds} hint="from" label="At least, ms" value=${asked.min_ms ?? ""} onSet=${(/** @type {string} */ min_ms) => set({ min_ms })} />
      <${Milliseconds} hint="to" label="At most, ms" value=${asked.max_ms ?? ""} onSet=${(/** @type {string} */ max_ms) => set({ max_ms })} /></fieldset>
    <label>Time<select value=${window ? "window" : (asked.last ?? "")} onChange=${(/** @type {Event} */ e) => set({ last: valueOf(e), from: "", to: "" })}>
      ${window && html`<option value="window" selected>Selected</option>`}
      ${PERIODS.map(([value, title]) => html`<option value=${value} selected=${!window && value === (asked.last ?? "")}>${title}</option>`)}
    </select></label>
    <label>Order<select value=${asked.sort ?? ""} onChange=${(/** @type {Event} */ e) => set({ sort: valueOf(e) })}>
      <option value="">Latest first</option><option value="slowest" selected=${asked.sort === "slowest"}>Slowest first</option>
    </select></label>
    <button class=${`toggle ${asked.error ? "on" : ""}`} aria-pressed=${Boolean(asked.error)} onClick=${() => set({ error: asked.error ? "" : 1 })}>Errors only</button>
    ${(attributes.length > 0 || window) &&
    html`<div class="chips">
      ${window && html`<${Chip} text=${`${asked.from ? clock(date(asked.from)) : "…"} – ${asked.to ? clock(date(asked.to)) : "…"}`} onRemove=${() => set({ from: "", to: "" })} />`}
      ${attributes.map((text) => html`<${Chip} text=${text} onRemove=${() => set({ attr: attributes.filter((one) => one !== text) })} />`)}
    </div>`}
    ${Object.keys(asked).length > 0 && html`<button class="quiet" onClick=${() => go(["traces"], { mark })}>Clear</button>`}
  </div>`;
}

/**
 * A number that takes effect when it is finished. What is typed until then is kept here: the list is drawn anew with each
 * trace that comes, which would put back the number that was.
 *
 * @param {{hint: string, label: string, value: string, onSet: (value: string) => void}} properties
 */
function Milliseconds({ hint, label, value, onSet }) {
  const [typed, setTyped] = useState(/** @type {string | null} */ (null));
  return html`<input type="number" min="0" step="any" inputmode="decimal" placeholder=${hint} aria-label=${label} value=${typed ?? value} onInput=${(/** @type {Event} */ e) => setTyped(valueOf(e))}
    onChange=${(/** @type {Event} */ e) => (setTyped(null), onSet(valueOf(e)))} />`;
}

/** @param {{text: string, onRemove: () => void}} properties */
function Chip({ text, onRemove }) {
  return html`<span class="chip on"><span>${text}</span><button aria-label=${`Remove ${text}`} onClick=${onRemove}><${Icon} name="close" /></button></span>`;
}
