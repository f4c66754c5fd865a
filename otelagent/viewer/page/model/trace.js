// @ts-check
// A trace as the page works with it: tree, self times, critical path, folded siblings, search. Nothing here knows the DOM.

/**
 * @typedef {{id: string[], parent: number[], name: number[], kind: number[], status: number[], start: number[],
 *   duration: number[], resource: number[], scope: number[], events: number[], links: number[]}} Columns
 * @typedef {{id: string, start: string, duration: number, errors: number, names: string[],
 *   resources: {service: string, attributes: Record<string, unknown>}[], scopes: {name: string, version: string}[],
 *   spans: Columns, missing: Record<string, string>, messages: Record<string, string>,
 *   logs: [number, number, number, string, number][], truncated: {spans: number} | null}} TraceData
 * @typedef {{type: "span", span: number, depth: number, children: number}
 *   | {type: "group", key: string, spans: number[], depth: number, open: boolean}} Row
 */

/** So many siblings of one name are folded into one row. */
export const FOLD_FROM = 5;

export class Trace {
  /** @param {TraceData} data */
  constructor(data) {
    this.data = data;
    const spans = data.spans;
    this.size = spans.id.length;
    this.start = Float64Array.from(spans.start);
    this.end = Float64Array.from(spans.start, (start, i) => start + spans.duration[i]);
    this.duration = Math.max(data.duration, 1);
    /** @type {number[][]} */
    this.children = Array.from({ length: this.size }, () => []);
    /** @type {number[]} */
    this.roots = [];
    // The spans come in the order of their start, and so do the children of each.
    for (let i = 0; i < this.size; i++) {
      const parent = spans.parent[i];
      if (parent >= 0) this.children[parent].push(i);
      else this.roots.push(i);
    }
    this.depth = new Int32Array(this.size);
    /** How many spans are below, and how many of them failed. */
    this.below = new Int32Array(this.size);
    this.errorsBelow = new Int32Array(this.size);
    /** @type {number[]} */
    this.order = [];
    this.#walk();
    this.self = this.#selfTimes();
    /** @type {Map<number, [number, number][]>} */
    this.critical = this.#criticalPath();
    this.position = new Map(spans.id.map((id, i) => [id, i]));
    /** @type {Map<number, [number, number, string, number][]>} */
    this.logsOf = new Map();
    for (const [span, at, severity, body, id] of data.logs) {
      const known = this.logsOf.get(span);
      if (known) known.push([at, severity, body, id]);
      else this.logsOf.set(span, [[at, severity, body, id]]);
    }
  }

  /** @param {number} i */
  name(i) {
    return this.data.names[this.data.spans.name[i]];
  }

  /** @param {number} i */
  service(i) {
    return this.data.resources[this.data.spans.resource[i]].service;
  }

  /** @param {number} i */
  failed(i) {
    return this.data.spans.status[i] === 2;
  }

  /** Whether the span's parent is not in the trace. @param {number} i */
  orphan(i) {
    return this.data.spans.parent[i] === -2;
  }

  #walk() {
    // No recursion: a trace may be 10,000 deep.
    const stack = [...this.roots].reverse();
    while (stack.length) {
      const i = /** @type {number} */ (stack.pop());
      this.order.push(i);
      const children = this.children[i];
      for (let at = children.length - 1; at >= 0; at--) {
        this.depth[children[at]] = this.depth[i] + 1;
        stack.push(children[at]);
      }
    }
    for (let at = this.order.length - 1; at >= 0; at--) {
      const i = this.order[at];
      const parent = this.data.spans.parent[i];
      if (parent >= 0) {
        this.below[parent] += this.below[i] + 1;
        this.errorsBelow[parent] += this.errorsBelow[i] + (this.failed(i) ? 1 : 0);
      }
    }
  }

  #selfTimes() {
    const self = new Float64Array(this.size);
    for (let i = 0; i < this.size; i++) {
      let covered = 0;
      let until = this.start[i];
      for (const child of this.children[i]) {
        const from = Math.max(this.start[child], until);
        const to = Math.min(this.end[child], this.end[i]);
        if (to > from) {
          covered += to - from;
          until = to;
        }
      }
      self[i] = Math.max(this.end[i] - this.start[i] - covered, 0);
    }
    return self;
  }

  /**
   * What the duration of the first root is made of: at each moment the span that the end waited for. From the end
   * backwards, the child that ended last is the one that was waited for; what lies between children is the span's own.
   */
  #criticalPath() {
    /** @type {Map<number, [number, number][]>} */
    const path = new Map();
    if (!this.roots.length) return path;
    const root = this.roots.reduce((a, b) => (this.end[b] - this.start[b] > this.end[a] - this.start[a] ? b : a));
    /** @type {[number, number, number][]} span, from when, until when */
    const stack = [[root, this.start[root], this.end[root]]];
    while (stack.length) {
      const [span, from, until] = /** @type {[number, number, number]} */ (stack.pop());
      const byEnd = this.children[span]
        .filter((child) => this.start[child] < until && this.end[child] > from)
        .sort((a, b) => this.end[b] - this.end[a]);
      let at = until;
      /** @type {[number, number][]} */
      const segments = [];
      for (const child of byEnd) {
        if (at <= from) break;
        if (this.start[child] >= at) continue;
        const end = Math.min(this.end[child], at);
        if (end < at) segments.push([end, at]);
        const begin = Math.max(this.start[child], from);
        if (begin < end) stack.push([child, begin, end]);
        at = begin;
      }
      if (at > from) segments.push([from, at]);
      if (segments.length) path.set(span, (path.get(span) ?? []).concat(segments));
    }
    return path;
  }

  /**
   * The rows that are shown.
   *
   * @param {{collapsed: Set<number>, fold: boolean, open: Set<string>}} how collapsed spans; whether repeated siblings
   *   are folded, and which groups are open all the same
   * @returns {Row[]}
   */
  rows({ collapsed, fold, open }) {
    /** @type {Row[]} */
    const rows = [];
    /** @type {{spans: number[], at: number, depth: number, groups: Map<string, number[]> | null, done: Set<string>, parent: number}[]} */
    const stack = [];
    const enter = (/** @type {number[]} */ spans, /** @type {number} */ depth, /** @type {number} */ parent) => {
      const groups = fold && spans.length >= FOLD_FROM ? this.#groups(spans) : null;
      stack.push({ spans, at: 0, depth, groups, done: new Set(), parent });
    };
    enter(this.roots, 0, -1);
    while (stack.length) {
      const level = stack[stack.length - 1];
      if (level.at >= level.spans.length) {
        stack.pop();
        continue;
      }
      const span = level.spans[level.at++];
      const kin = level.groups?.get(this.#likeness(span));
      if (kin && kin.length >= FOLD_FROM) {
        const key = `${level.parent}/${this.#likeness(span)}`;
        if (level.done.has(key)) continue;
        level.done.add(key);
        const opened = open.has(key);
        rows.push({ type: "group", key, spans: kin, depth: level.depth, open: opened });
        if (opened) stack.push({ spans: kin, at: 0, depth: level.depth + 1, groups: null, done: new Set(), parent: span });
        continue;
      }
      const children = this.children[span];
      rows.push({ type: "span", span, depth: level.depth, children: children.length });
      if (children.length && !collapsed.has(span)) enter(children, level.depth + 1, span);
    }
    return rows;
  }

  /** @param {number} i */
  #likeness(i) {
    const spans = this.data.spans;
    return `${spans.name[i]}/${spans.kind[i]}/${spans.resource[i]}`;
  }

  /** @param {number[]} spans */
  #groups(spans) {
    /** @type {Map<string, number[]>} */
    const groups = new Map();
    for (const span of spans) {
      const key = this.#likeness(span);
      const known = groups.get(key);
      if (known) known.push(span);
      else groups.set(key, [span]);
    }
    return groups;
  }

  /**
   * Spans whose name, service, status message or logs hold the text, in the order of the rows.
   *
   * @param {string} text
   */
  search(text) {
    const wanted = text.trim().toLowerCase();
    if (!wanted) return [];
    const names = this.data.names.map((name) => name.toLowerCase().includes(wanted));
    const services = this.data.resources.map((one) => one.service.toLowerCase().includes(wanted));
    const spans = this.data.spans;
    return this.order.filter(
      (i) =>
        names[spans.name[i]] ||
        services[spans.resource[i]] ||
        spans.id[i] === wanted ||
        this.data.messages[i]?.toLowerCase().includes(wanted) ||
        this.logsOf.get(i)?.some(([, , body]) => body.toLowerCase().includes(wanted)),
    );
  }

  /** The span and those above it, the highest first. @param {number} i */
  path(i) {
    const path = [];
    for (let at = i; at >= 0; at = this.data.spans.parent[at]) path.push(at);
    return path.reverse();
  }
}
