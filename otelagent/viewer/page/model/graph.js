// @ts-check
// Places for the boxes of a small directed graph: layers from left to right, few crossings.

/**
 * @param {string[]} nodes
 * @param {{from: string, to: string}[]} edges
 * @param {{width: number, height: number, gapX: number, gapY: number, top: number}} size
 */
export function layout(nodes, edges, { width, height, gapX, gapY, top }) {
  const forward = acyclic(nodes, edges);
  /** @type {Map<string, number>} */
  const layer = new Map(nodes.map((node) => [node, 0]));
  // The longest way from a node without callers; there are no circles left, so that it ends.
  for (let round = 0; round < nodes.length; round++) {
    let moved = false;
    for (const { from, to } of forward) {
      const next = /** @type {number} */ (layer.get(from)) + 1;
      if (next > /** @type {number} */ (layer.get(to))) {
        layer.set(to, next);
        moved = true;
      }
    }
    if (!moved) break;
  }
  /** @type {string[][]} */
  const layers = [];
  for (const node of nodes) (layers[/** @type {number} */ (layer.get(node))] ??= []).push(node);
  const row = new Map();
  const settle = () => layers.forEach((level) => level.forEach((node, at) => row.set(node, at - (level.length - 1) / 2)));
  settle();
  for (let round = 0; round < 4; round++) {
    for (const level of round % 2 ? [...layers].reverse() : layers) {
      const weight = new Map(level.map((node) => [node, mean(forward.flatMap(({ from, to }) => (from === node ? [row.get(to)] : to === node ? [row.get(from)] : [])), row.get(node))]));
      level.sort((a, b) => (weight.get(a) ?? 0) - (weight.get(b) ?? 0));
      settle();
    }
  }
  const most = Math.max(1, ...layers.map((level) => level.length));
  const places = new Map();
  layers.forEach((level, column) =>
    level.forEach((node, at) => {
      places.set(node, { x: 10 + column * (width + gapX), y: top + (at + (most - level.length) / 2) * (height + gapY) });
    }),
  );
  return { places, width: layers.length * (width + gapX) - gapX + 10, height: most * (height + gapY) - gapY + top };
}

/** @typedef {[number, number, number, number, number, number, number, number]} Curve a cubic Bézier curve: its begin, two handles, its end */
/** @typedef {{x: number, y: number, width: number, height: number}} Rectangle */
/** @typedef {{x: number, y: number}} Spot the middle of a text */

/** Parts of a line where its text may stand, the best first. */
const PARTS = [0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8];

/**
 * Places for the lines' texts, where they lie on no box and on no other text; null where there is none.
 *
 * @param {{line: Curve, spot: Spot | null, width: number, height: number}[]} texts at its spot, or else along its line
 * @param {Rectangle[]} boxes
 * @returns {(Spot | null)[]}
 */
export function spots(texts, boxes) {
  const taken = [...boxes];
  return texts.map(({ line, spot, width, height }) => {
    for (const { x, y } of spot ? [spot] : PARTS.map((part) => along(line, part))) {
      const place = { x: x - width / 2, y: y - height / 2, width, height };
      if (place.x < 0 || place.y < 0 || taken.some((one) => overlap(one, place))) continue;
      taken.push(place);
      return { x, y };
    }
    return null;
  });
}

/** @param {Curve} curve @param {number} part 0 to 1 */
function along([x1, y1, x2, y2, x3, y3, x4, y4], part) {
  const rest = 1 - part;
  const [a, b, c, d] = [rest ** 3, 3 * rest ** 2 * part, 3 * rest * part ** 2, part ** 3];
  return { x: a * x1 + b * x2 + c * x3 + d * x4, y: a * y1 + b * y2 + c * y3 + d * y4 };
}

/** @param {Rectangle} a @param {Rectangle} b */
function overlap(a, b) {
  return a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;
}

/** The edges without those that close a circle. @param {string[]} nodes @param {{from: string, to: string}[]} edges */
function acyclic(nodes, edges) {
  /** @type {Map<string, string[]>} */
  const to = new Map();
  const kept = [];
  const reaches = (/** @type {string} */ from, /** @type {string} */ target) => {
    const seen = new Set([from]);
    const open = [from];
    while (open.length) {
      const node = /** @type {string} */ (open.pop());
      if (node === target) return true;
      for (const next of to.get(node) ?? []) {
        if (!seen.has(next)) {
          seen.add(next);
          open.push(next);
        }
      }
    }
    return false;
  };
  for (const edge of edges) {
    if (reaches(edge.to, edge.from)) continue;
    kept.push(edge);
    to.set(edge.from, [...(to.get(edge.from) ?? []), edge.to]);
  }
  return kept;
}

/** @param {number[]} values @param {number} none */
function mean(values, none) {
  return values.length ? values.reduce((a, b) => a + b, 0) / values.length : none;
}
