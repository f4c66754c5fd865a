// @ts-check
// Preact with htm's templates: `html` in place of JSX, so that there is no build step.
import { h, Fragment, render } from "./vendor/preact.js";
import htm from "./vendor/htm.js";

export const html = htm.bind(h);
export { Fragment, render };
export { useEffect, useLayoutEffect, useMemo, useRef, useState, useCallback } from "./vendor/hooks.js";
export { batch, computed, effect, signal } from "./vendor/signals.js";
