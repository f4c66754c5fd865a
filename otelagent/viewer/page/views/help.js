// @ts-check
import { html, useEffect, useRef } from "../html.js";
import { helping } from "../state.js";
import { KEYS } from "../keys.js";
import { Icon } from "./icon.js";

/** The keys, in a dialog. @param {{page: string}} properties */
export function Help({ page }) {
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  const open = helping.value;
  useEffect(() => {
    if (open) dialog.current?.showModal();
    else dialog.current?.close();
  }, [open]);
  const onClick = (/** @type {Event} */ event) => event.target === dialog.current && (helping.value = false);
  return html`<dialog class="help" ref=${dialog} aria-labelledby="help-title" onClose=${() => (helping.value = false)} onClick=${onClick}>${
    open &&
    html`<div>
      <div class="head"><h2 id="help-title">Keys</h2><span class="grow"></span><button class="icon" aria-label="Close" onClick=${() => (helping.value = false)}><${Icon} name="close" /></button></div>
      ${KEYS.filter((part) => !part.page || part.page === page || !["trace", "traces"].includes(page)).map(
        (part) => html`<h3>${part.title}</h3><dl>${part.keys.map(([keys, what]) => html`<div><dt>${keys.map((key) => html`<kbd>${key}</kbd>`)}</dt><dd>${what}</dd></div>`)}</dl>`,
      )}
    </div>`
  }</dialog>`;
}
