// @ts-check
// Preact with htm's templates: `html` in place of JSX, so that there is no build step.
import { h, Fragment, render } from "./vendor/preact.js";
import htm from "./vendor/htm.js";
import { useLayoutEffect } from "./vendor/hooks.js";
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

/**
 * Has an element's keys work where nothing that can have the focus was chosen, too, as on a page that has just been opened.
 *
 * @param {{current: HTMLElement | null}} box
 * @param {(event: KeyboardEvent) => void} onKey
 */
export function useKeys(box, onKey) {
  // Before anyone can press the next key: it must find what is shown now.
  useLayoutEffect(() => {
    const listen = (/** @type {KeyboardEvent} */ event) => {
      const target = /** @type {HTMLElement} */ (event.target);
      if (event.defaultPrevented || document.querySelector("dialog[open]")) return;
      if (target === document.body || target.id === "main" || box.current?.contains(target)) onKey(event);
    };
    addEventListener("keydown", listen);
    return () => removeEventListener("keydown", listen);
  });
}

/** Whether a key was meant for a field, or is a browser's own. @param {KeyboardEvent} event */
export function typing(event) {
  const target = event.target;
  return (
    event.ctrlKey || event.metaKey || event.altKey || target instanceof HTMLInputElement || target instanceof HTMLSelectElement || target instanceof HTMLTextAreaElement
  );
}
