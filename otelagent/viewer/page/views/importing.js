// @ts-check
// OTLP/JSON from files: chosen, or dropped on the page.
import { html, useEffect, useState } from "../html.js";
import { ask } from "../api.js";
import { counted } from "../model/format.js";
import { address, go, tell } from "../state.js";

/** @param {File[]} files */
export async function importFiles(files) {
  const sum = { spans: 0, logs: 0, points: 0, left_out: 0 };
  /** @type {string[]} */
  const traces = [];
  for (const file of files) {
    try {
      const taken = await ask("import", {}, { method: "POST", body: file });
      for (const name of /** @type {(keyof typeof sum)[]} */ (Object.keys(sum))) sum[name] += taken[name];
      traces.push(...(taken.traces ?? []));
    } catch (problem) {
      tell({ text: `${file.name}: ${/** @type {Error} */ (problem).message}`, bad: true });
      return;
    }
  }
  const parts = [sum.spans && counted(sum.spans, "span"), sum.logs && counted(sum.logs, "log record"), sum.points && counted(sum.points, "data point")];
  const without = sum.left_out ? ` ${counted(sum.left_out, "item")} could not be taken.` : "";
  const text = `Imported ${parts.filter(Boolean).join(", ") || "nothing: there was nothing in it"}.${without}`;
  if (traces.length === 1) {
    tell({ text });
    go(["trace", traces[0]]);
  } else tell(traces.length ? { text, href: address(["traces"]), link: `Show the ${traces.length === 20 ? "" : `${traces.length} `}traces` } : { text });
}

/** Says that a file can be dropped while one is held over the page. */
export function DropZone() {
  const [over, setOver] = useState(false);
  useEffect(() => {
    let depth = 0;
    const files = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files");
    const enter = (/** @type {DragEvent} */ event) => files(event) && (depth++, setOver(true));
    const leave = (/** @type {DragEvent} */ event) => files(event) && --depth <= 0 && setOver(false);
    const move = (/** @type {DragEvent} */ event) => files(event) && event.preventDefault();
    const drop = (/** @type {DragEvent} */ event) => {
      if (!files(event)) return;
      event.preventDefault();
      depth = 0;
      setOver(false);
      importFiles([...(event.dataTransfer?.files ?? [])]);
    };
    const on = /** @type {[string, any][]} */ ([["dragenter", enter], ["dragleave", leave], ["dragover", move], ["drop", drop]]);
    for (const [name, listener] of on) addEventListener(name, listener);
    return () => on.forEach(([name, listener]) => removeEventListener(name, listener));
  }, []);
  return over ? html`<div class="drop"><p>Drop OTLP/JSON here to import it</p></div>` : null;
}
