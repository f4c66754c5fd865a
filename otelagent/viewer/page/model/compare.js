// @ts-check
// Two traces by the way to each span: names and services from the root down. Spans with the same way are one row.

/** @typedef {{spans: number, total: number, errors: number}} Sum */
/** @typedef {{key: string, name: string, service: string, depth: number, a: Sum, b: Sum}} Pair */

/** @param {import("./trace.js").Trace} a @param {import("./trace.js").Trace} b @returns {Pair[]} */
export function compare(a, b) {
  /** @type {{pair: Pair | null, children: Map<string, any>}} */
  const root = { pair: null, children: new Map() };
  add(root, a, "a");
  add(root, b, "b");
  /** @type {Pair[]} */
  const rows = [];
  const stack = [...root.children.values()].reverse();
  while (stack.length) {
    const node = stack.pop();
    rows.push(node.pair);
    stack.push(...[...node.children.values()].reverse());
  }
  return rows;
}

/** @param {any} root @param {import("./trace.js").Trace} trace @param {"a" | "b"} side */
function add(root, trace, side) {
  const nodes = new Array(trace.size);
  for (const span of trace.order) {
    const parent = trace.data.spans.parent[span];
    const above = parent >= 0 ? nodes[parent] : root;
    const key = `${trace.service(span)}\n${trace.name(span)}\n${trace.data.spans.kind[span]}`;
    let node = above.children.get(key);
    if (!node) {
      const none = () => ({ spans: 0, total: 0, errors: 0 });
      node = { pair: { key, name: trace.name(span), service: trace.service(span), depth: trace.depth[span], a: none(), b: none() }, children: new Map() };
      above.children.set(key, node);
    }
    nodes[span] = node;
    const sum = node.pair[side];
    sum.spans += 1;
    sum.total += trace.end[span] - trace.start[span];
    sum.errors += trace.failed(span) ? 1 : 0;
  }
}
