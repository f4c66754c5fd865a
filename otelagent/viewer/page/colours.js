// @ts-check
// A service's colour: the same on every page and, as far as no other has taken it, in every session.

const HUES = [258, 155, 35, 320, 205, 85, 0, 285, 180, 120, 345, 225, 60];
/** @type {Map<string, number>} */
const slots = new Map();

/** @param {string} service a CSS colour, whose lightness the theme sets */
export function colour(service) {
  let slot = slots.get(service);
  if (slot === undefined) {
    slot = hash(service) % HUES.length;
    const taken = new Set(slots.values());
    if (taken.size < HUES.length) while (taken.has(slot)) slot = (slot + 1) % HUES.length;
    slots.set(service, slot);
  }
  return hue(HUES[slot]);
}

/** Of a series in a chart. @param {number} number */
export function seriesColour(number) {
  return hue((258 + number * 137.5) % 360);
}

/** @param {number} degrees */
function hue(degrees) {
  return `oklch(var(--bar-l) var(--bar-c) ${degrees})`;
}

/** What a canvas takes: it knows no variables. @param {Element} where @param {string[]} colours */
export function painted(where, colours) {
  const probe = document.createElement("i");
  where.append(probe);
  const found = colours.map((one) => {
    probe.style.color = one;
    return getComputedStyle(probe).color;
  });
  probe.remove();
  return found;
}

/** @param {string} text */
function hash(text) {
  let found = 7;
  for (let i = 0; i < text.length; i++) found = (found * 31 + text.charCodeAt(i)) >>> 0;
  return found;
}
