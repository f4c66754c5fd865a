// @ts-check
// Preact with htm's templates: `html` in place of JSX, so that there is no build step.
import { h, Fragment, render } from "./vendor/preact.js";
import htm from "./vendor/htm.js";
// Reading a signal's value in a component has the component drawn again when it changes.
import "./vendor/signals.js";

export const html = htm.bind(h);
export { Fragment, render };
export { useEffect, useLayoutEffect, useMemo, useRef, useState } from "./vendor/hooks.js";
export { computed, signal } from "./vendor/signals.js";

/** What stands in the field that an event is about. @param {Event} event */
export function valueOf(event) {
  return /** @type {HTMLInputElement | HTMLSelectElement} */ (event.target).value;
}

/** Whether a key was meant for a field, or is a browser's own. @param {KeyboardEvent} event */
export function typing(event) {
  const target = event.target;
  return (
    event.ctrlKey || event.metaKey || event.altKey || target instanceof HTMLInputElement || target instanceof HTMLSelectElement || target instanceof HTMLTextAreaElement
  );
}
