// @ts-check
import { html } from "../html.js";
import { embedded } from "../api.js";
import { counted, valueText } from "../model/format.js";
import { address, copy } from "../state.js";
import { Icon } from "./icon.js";

const LONGEST_FILTER = 200;
/** Of so many characters a value may have to be scrolled, for which the keyboard has to get there. */
const LONG = 300;

/** What was left out before it came here. @param {{number: number | undefined, what?: string}} properties */
export function Dropped({ number, what = "attribute" }) {
  return number ? html`<p class="note warn">${counted(number, what)} ${number === 1 ? "was" : "were"} left out before ${number === 1 ? "it" : "they"} came here.</p>` : null;
}

/**
 * Attributes by name, each to be copied, and where they are a span's or its resource's, to find other traces by.
 *
 * @param {{of: import("../answers.js").Attributes | undefined, filter?: string, find?: boolean}} properties
 */
export function AttributeList({ of = {}, filter = "", find = false }) {
  const wanted = filter.toLowerCase();
  const entries = Object.entries(of)
    .map(([key, value]) => /** @type {[string, string, string]} */ ([key, ...valueText(value)]))
    .filter(([key, text]) => !wanted || key.toLowerCase().includes(wanted) || text.toLowerCase().includes(wanted))
    .sort(([a], [b]) => (a < b ? -1 : 1));
  if (!entries.length) return wanted ? html`<p class="none">No attribute is like that.</p>` : null;
  return html`<dl class="attributes">${entries.map(
    ([key, text, type]) => html`<div key=${key}><dt>${key || html`<em>(empty)</em>`}</dt><dd><span class=${`value ${type}`} tabindex=${text.length > LONG ? 0 : undefined}>${text}</span>
      <span class="acts"><button class="icon small" aria-label=${`Copy ${key}`} title="Copy the value" onClick=${() => copy(text)}><${Icon} name="copy" /></button>${
        find && !embedded && key && !/[\s=!<>~]/.test(key) && type !== "json" && type !== "bytes" && type !== "null" && text.length <= LONGEST_FILTER
          ? html`<a class="icon small" href=${address(["traces"], { attr: `${key}=${text}` })} title="Filter by this: traces with this value" aria-label=${`Filter by ${key}=${text}`}><${Icon} name="filter" /></a>`
          : ""
      }</span></dd></div>`,
  )}</dl>`;
}
