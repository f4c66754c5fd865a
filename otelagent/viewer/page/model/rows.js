// @ts-check
// The rows of a trace that are shown: what is collapsed is left out, repeated siblings are folded into one.

/**
 * @typedef {{type: "span", span: number, depth: number, children: number}
 *   | {type: "group", key: string, spans: number[], depth: number, open: boolean}} Row
 * @typedef {{collapsed: Set<number>, fold: boolean, open: Set<string>}} How collapsed spans; whether repeated siblings
 *   are folded, and which groups are open all the same
 */

/** So many siblings of one name are folded into one row. */
export const FOLD_FROM = 5;

/**
 * @param {import("./trace.js").Trace} trace
 * @param {How} how
 * @returns {Row[]}
 */
export function rowsOf(trace, { collapsed, fold, open }) {
  /** @type {Row[]} */
  const rows = [];
  /** @type {{spans: number[], at: number, depth: number, groups: Map<string, number[]> | null, done: Set<string>, parent: number}[]} */
  const stack = [];
  const enter = (/** @type {number[]} */ spans, /** @type {number} */ depth, /** @type {number} */ parent) => {
    const groups = fold && spans.length >= FOLD_FROM ? groupsOf(trace, spans) : null;
    stack.push({ spans, at: 0, depth, groups, done: new Set(), parent });
  };
  enter(trace.roots, 0, -1);
  while (stack.length) {
    const level = stack[stack.length - 1];
    if (level.at >= level.spans.length) {
      stack.pop();
      continue;
    }
    const span = level.spans[level.at++];
    const kin = level.groups?.get(likeness(trace, span));
    if (kin && kin.length >= FOLD_FROM) {
      // By ids and names, not by positions: those change as spans come.
      const key = `${trace.data.spans.id[level.parent] ?? ""}/${likeness(trace, span)}`;
      if (level.done.has(key)) continue;
      level.done.add(key);
      const opened = open.has(key);
      rows.push({ type: "group", key, spans: kin, depth: level.depth, open: opened });
      if (opened) stack.push({ spans: kin, at: 0, depth: level.depth + 1, groups: null, done: new Set(), parent: span });
      continue;
    }
    const children = trace.children[span];
    rows.push({ type: "span", span, depth: level.depth, children: children.length });
    if (children.length && !collapsed.has(span)) enter(children, level.depth + 1, span);
  }
  return rows;
}

/** @param {import("./trace.js").Trace} trace @param {number} span */
function likeness(trace, span) {
  return `${trace.data.spans.kind[span]}/${trace.service(span)}/${trace.name(span)}`;
}

/** @param {import("./trace.js").Trace} trace @param {number[]} spans */
function groupsOf(trace, spans) {
  /** @type {Map<string, number[]>} */
  const groups = new Map();
  for (const span of spans) {
    const key = likeness(trace, span);
    const known = groups.get(key);
    if (known) known.push(span);
    else groups.set(key, [span]);
  }
  return groups;
}
