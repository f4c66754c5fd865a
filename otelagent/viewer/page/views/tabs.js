// @ts-check
// Views of the same thing, one at a time: the arrows go from one to the next, as a tab list's do everywhere.
import { html } from "../html.js";

/** @typedef {{name: string, title: string, note?: string, bad?: boolean}} Tab */

/** @param {{label: string, tabs: Tab[], chosen: string, panel: string, onChoose: (name: string) => void}} properties `panel`: id of what they show */
export function Tabs({ label, tabs, chosen, panel, onChoose }) {
  const onKey = (/** @type {KeyboardEvent} */ event) => {
    const steps = /** @type {Record<string, number>} */ ({ ArrowRight: 1, ArrowLeft: -1 });
    if (!(event.key in steps)) return;
    event.preventDefault();
    const at = tabs.findIndex((one) => one.name === chosen);
    const next = (at + steps[event.key] + tabs.length) % tabs.length;
    onChoose(tabs[next].name);
    /** @type {HTMLElement | undefined} */ (/** @type {HTMLElement} */ (event.currentTarget).querySelectorAll("button")[next])?.focus();
  };
  return html`<div class="views" role="tablist" aria-label=${label} onKeyDown=${onKey}>${tabs.map(
    ({ name, title, note, bad }) => html`<button role="tab" id=${`${panel}-${name}`} aria-selected=${chosen === name} aria-controls=${panel} tabindex=${chosen === name ? 0 : -1} class=${chosen === name ? "on" : ""}
      onClick=${() => onChoose(name)}>${title}${note && html` <small class=${bad ? "bad" : ""}>${note}</small>`}</button>`,
  )}</div>`;
}
