// @ts-check
// Small pictures in the colour of the text.
import { html } from "../html.js";

const PATHS = /** @type {Record<string, string>} */ ({
  system: "M8 2.5a5.5 5.5 0 1 0 0 11zM8 2.5a5.5 5.5 0 0 1 0 11",
  sun: "M8 5.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 0 0 0-5.6M8 1v1.6M8 13.4V15M1 8h1.6M13.4 8H15M3 3l1.2 1.2M11.8 11.8 13 13M13 3l-1.2 1.2M4.2 11.8 3 13",
  moon: "M13 9.6A5.6 5.6 0 0 1 6.4 3 5.6 5.6 0 1 0 13 9.6",
  help: "M8 1.8a6.2 6.2 0 1 0 0 12.4A6.2 6.2 0 0 0 8 1.8M6.2 6.3a1.8 1.8 0 1 1 2.6 1.6c-.5.3-.8.6-.8 1.2M8 11.3v.1",
  import: "M8 2v7M5 6.2 8 9.2l3-3M2.5 10.5v2.2c0 .4.4.8.8.8h9.4c.4 0 .8-.4.8-.8v-2.2",
  export: "M8 9.5V2.2M5 5l3-3 3 3M2.5 10.5v2.2c0 .4.4.8.8.8h9.4c.4 0 .8-.4.8-.8v-2.2",
  share: "M6 8.6 10.4 11M10.4 5 6 7.4M4.5 6.2a1.8 1.8 0 1 0 0 3.6 1.8 1.8 0 0 0 0-3.6M12 2.4a1.8 1.8 0 1 0 0 3.6 1.8 1.8 0 0 0 0-3.6M12 10a1.8 1.8 0 1 0 0 3.6 1.8 1.8 0 0 0 0-3.6",
  close: "M4 4l8 8M12 4l-8 8",
  copy: "M5.5 5.5h7v8h-7zM10.5 5.5v-3h-7v8h2",
  filter: "M2.2 3.5h11.6M4.6 8h6.8M6.8 12.5h2.4",
  back: "M10 3 5 8l5 5",
  menu: "M8 3v.1M8 8v.1M8 13v.1",
  up: "M4 10l4-4 4 4",
  down: "M4 6l4 4 4-4",
  right: "M6 4l4 4-4 4",
  compare: "M5 3v10M11 3v10M2.5 5.5 5 3l2.5 2.5M8.5 10.5 11 13l2.5-2.5",
  pass: "M3.5 8.5 6.5 11.5 12.5 4.5",
  fail: "M4 4l8 8M12 4l-8 8",
  warn: "M8 3v6M8 12v.2",
  skip: "M4 8h8",
  link: "M6.5 9.5a2.6 2.6 0 0 0 3.8 0l2-2a2.7 2.7 0 0 0-3.8-3.8l-.9.9M9.5 6.5a2.6 2.6 0 0 0-3.8 0l-2 2a2.7 2.7 0 0 0 3.8 3.8l.9-.9",
});

/** @param {{name: string}} properties */
export function Icon({ name }) {
  return html`<svg class="i" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" focusable="false"><path d=${PATHS[name]} /></svg>`;
}
