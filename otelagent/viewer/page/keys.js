// @ts-check
// Keys that work on every page, and what the help says of all of them.
import { typing } from "./html.js";
import { embedded } from "./api.js";
import { go, helping, live } from "./state.js";

/** @type {{title: string, page?: string, keys: [string[], string][]}[]} */
export const KEYS = [
  {
    title: "Everywhere",
    keys: [
      [["/"], "Search"],
      [["Esc"], "Leave the search, close what is open"],
      [["1", "2", "3", "4"], "Traces, services, logs, metrics"],
      [["p"], "Pause and go on"],
      [["?"], "This help"],
    ],
  },
  {
    title: "List of traces",
    page: "traces",
    keys: [
      [["↓", "↑"], "Next and previous trace"],
      [["Enter"], "Open it"],
      [["x"], "Mark it to compare"],
    ],
  },
  {
    title: "Trace",
    page: "trace",
    keys: [
      [["↓", "↑"], "Next and previous row"],
      [["→", "←"], "Unfold, fold; into, out of"],
      [["Home", "End"], "First and last row"],
      [["PgUp", "PgDn"], "A page up and down"],
      [["Enter"], "Details of the span"],
      [["n", "N"], "Next and previous hit of the search"],
      [["e", "E"], "Next and previous error"],
      [["c"], "Critical path"],
      [["f"], "Fold repeated siblings"],
      [["+", "−", "0"], "Zoom in, out, whole trace"],
    ],
  },
];

const PAGES = /** @type {Record<string, string>} */ ({ 1: "traces", 2: "map", 3: "logs", 4: "metrics" });

/** Has the keys of every page do what they say. */
export function listen() {
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && event.target instanceof HTMLInputElement) {
      event.target.blur();
      event.preventDefault();
    }
    if (typing(event) || event.defaultPrevented || helping.value) return;
    if (event.key === "/") {
      const field = document.querySelector("main input[type=search]");
      if (!(field instanceof HTMLInputElement)) return;
      field.focus();
      field.select();
    } else if (event.key === "?") helping.value = true;
    else if (event.key === "p") live.value = !live.value;
    else if (PAGES[event.key] && !embedded) go([PAGES[event.key]]);
    else return;
    event.preventDefault();
  });
}
