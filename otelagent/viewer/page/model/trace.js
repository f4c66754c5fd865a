// @ts-check
// A trace as the page works with it: tree, self times, critical path, search. Nothing here knows the DOM.
import { criticalPath, selfTimes } from "./times.js";

/** @typedef {import("../answers.js").TraceData} TraceData */
/** @typedef {{at: number, severity: number, body: string, id: number}} Log */

export class Trace {
  /** @param {TraceData} data @param {number} [nowMs] milliseconds since the epoch, up to which what is running has run */
  constructor(data, nowMs = Date.now()) {
    this.data = data;
    const spans = data.spans;
    this.size = spans.id.length;
    const states = Object.values(data.states);
    this.running = states.filter((one) => one === "running").length;
    this.lost = states.length - this.running;
    const now = this.running ? Number(BigInt(Math.round(nowMs)) * 1000000n - BigInt(data.start)) : 0;
    this.start = Float64Array.from(spans.start);
    this.end = Float64Array.from(spans.start, (start, i) => start + spans.duration[i]);
    for (let i = 0; states.length && i < this.size; i++) if (this.state(i) === "running") this.end[i] = Math.max(this.start[i], now);
    this.duration = this.end.reduce((a, b) => (b > a ? b : a), Math.max(data.duration, 1));
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
    this.self = selfTimes(this);
    this.critical = criticalPath(this);
    this.position = new Map(spans.id.map((id, i) => [id, i]));
    /** @type {Map<number, Log[]>} */
    this.logsOf = new Map();
    for (const [span, at, severity, body, id] of data.logs) {
      const known = this.logsOf.get(span);
      if (known) known.push({ at, severity, body, id });
      else this.logsOf.set(span, [{ at, severity, body, id }]);
    }
  }

  /** @param {number} i */
  name(i) {
    return this.data.names[this.data.spans.name[i]] || "(no name)";
  }

  /** @param {number} i */
  service(i) {
    return this.data.resources[this.data.spans.resource[i]].service;
  }

  /** @param {number} i */
  failed(i) {
    return this.data.spans.status[i] === 2;
  }

  /** `running` or `lost`; empty for one that has ended. @param {number} i */
  state(i) {
    return this.data.states[i] ?? "";
  }

  /** @param {number} i */
  took(i) {
    return this.end[i] - this.start[i];
  }

  /** Whether the span's parent is not in the trace. @param {number} i */
  orphan(i) {
    return this.data.spans.parent[i] === -2;
  }

  /** The span that stands for the whole: the first root, or the first of those whose parents are missing. */
  get head() {
    return this.roots.find((one) => !this.orphan(one)) ?? this.roots[0] ?? -1;
  }

  /** Services and how many spans each has, the most first. @returns {[string, number][]} */
  get services() {
    /** @type {Map<string, number>} */
    const counts = new Map();
    for (let i = 0; i < this.size; i++) counts.set(this.service(i), (counts.get(this.service(i)) ?? 0) + 1);
    return [...counts].sort((a, b) => b[1] - a[1]);
  }

  /** Spans that failed, in the order of the rows. */
  get failures() {
    return this.order.filter((i) => this.failed(i));
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

  /**
   * Spans whose name, service, status message or logs hold the text, in the order of the rows.
   *
   * @param {string} text
   * @param {Set<string>} more ids of spans that hold it in their attributes or events
   */
  search(text, more) {
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
        more.has(spans.id[i]) ||
        this.data.messages[i]?.toLowerCase().includes(wanted) ||
        this.logsOf.get(i)?.some((log) => log.body.toLowerCase().includes(wanted)),
    );
  }

  /** The span and those above it, the highest first. @param {number} i */
  path(i) {
    const path = [];
    for (let at = i; at >= 0; at = this.data.spans.parent[at]) path.push(at);
    return path.reverse();
  }
}
