// @ts-check
// Where a trace's time went: what each span did itself, and what the end waited for.

/** @typedef {{size: number, start: Float64Array, end: Float64Array, children: number[][], roots: number[]}} Tree */

/** Nanoseconds of each span that none of its children covers. @param {Tree} tree */
export function selfTimes({ size, start, end, children }) {
  const self = new Float64Array(size);
  for (let i = 0; i < size; i++) {
    let covered = 0;
    let until = start[i];
    for (const child of children[i]) {
      const from = Math.max(start[child], until);
      const to = Math.min(end[child], end[i]);
      if (to > from) {
        covered += to - from;
        until = to;
      }
    }
    self[i] = Math.max(end[i] - start[i] - covered, 0);
  }
  return self;
}

/**
 * What the duration of the longest root is made of: at each moment the span that the end waited for. From the end
 * backwards, the child that ended last is the one that was waited for; what lies between children is the span's own. A
 * child that still ran when the one after it began was not waited for by that one. One that outlasts its parent counts up
 * to the parent's end.
 *
 * Source: Z. Zhang et al., "CRISP: Critical Path Analysis of Large-Scale Microservice Architectures", USENIX ATC 2022.
 *
 * @param {Tree} tree
 * @returns {Map<number, [number, number][]>} span -> from when, until when
 */
export function criticalPath({ start, end, children, roots }) {
  /** @type {Map<number, [number, number][]>} */
  const path = new Map();
  if (!roots.length) return path;
  const root = roots.reduce((a, b) => (end[b] - start[b] > end[a] - start[a] ? b : a));
  /** @type {[number, number, number][]} span, from when, until when */
  const stack = [[root, start[root], end[root]]];
  while (stack.length) {
    const [span, from, until] = /** @type {[number, number, number]} */ (stack.pop());
    const byEnd = children[span].filter((child) => start[child] < until && end[child] > from).sort((a, b) => end[b] - end[a]);
    let at = until;
    /** @type {[number, number][]} */
    const segments = [];
    for (const child of byEnd) {
      if (at <= from) break;
      if (start[child] >= at || (at < until && end[child] > at)) continue;
      const last = Math.min(end[child], at);
      if (last < at) segments.push([last, at]);
      const begin = Math.max(start[child], from);
      if (begin < last) stack.push([child, begin, last]);
      at = begin;
    }
    if (at > from) segments.push([from, at]);
    if (segments.length) path.set(span, (path.get(span) ?? []).concat(segments));
  }
  return path;
}

/**
 * The critical path's time by service, the largest first.
 *
 * @param {Map<number, [number, number][]>} path
 * @param {(span: number) => string} service
 * @returns {[string, number][]}
 */
export function byService(path, service) {
  /** @type {Map<string, number>} */
  const sums = new Map();
  for (const [span, segments] of path) {
    const name = service(span);
    for (const [from, until] of segments) sums.set(name, (sums.get(name) ?? 0) + until - from);
  }
  return [...sums].sort((a, b) => b[1] - a[1]);
}
