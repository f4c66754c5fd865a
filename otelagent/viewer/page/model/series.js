// @ts-check
// What a metric's points say over time: values as they are, sums as rates, histograms as quantiles.

/** @typedef {import("../answers.js").Point} Point */
/** @typedef {import("../answers.js").Distribution} Distribution */
/** @typedef {import("../answers.js").Metric} Metric */
/** @typedef {import("../answers.js").Series} Series */
/** @typedef {[number, number | null, string?]} Value seconds since the epoch; the value; `≤` or `>` where it is only a bound */
/** @typedef {Metric & {ids: number[], sources: Metric[]}} MetricGroup one metric of a service, with what it is for each of its sources, and their ids */

/** Metrics of one service that differ in nothing but who sent them (a process, a scope), as one; the latest first. @param {Metric[]} metrics */
export function grouped(metrics) {
  /** @type {Map<string, MetricGroup>} */
  const found = new Map();
  for (const one of metrics) {
    const key = JSON.stringify([one.service, one.name, one.kind, one.unit, one.temporality, one.monotonic]);
    const known = found.get(key);
    if (!known) found.set(key, { ...one, ids: [], sources: [one] });
    else {
      known.sources.push(one);
      known.series += one.series;
    }
  }
  for (const one of found.values()) {
    one.sources.sort((a, b) => b.id - a.id);
    one.ids = one.sources.map(({ id }) => id);
  }
  return [...found.values()];
}

/** What tells the sources of a metric apart: the instance, the scope, or both; else their number, by who came first. @param {Metric[]} sources @returns {string[]} */
export function sourceNames(sources) {
  const ways = [(/** @type {Metric} */ one) => one.instance, (/** @type {Metric} */ one) => one.scope, (/** @type {Metric} */ one) => `${one.instance} ${one.scope}`.trim()];
  const names = ways.map((way) => sources.map(way)).find((all) => all.every(Boolean) && new Set(all).size === all.length);
  return names ?? sources.map((_, at) => `source ${sources.length - at} of ${sources.length}`);
}

const DELTA = 1;

/** What can be shown of a kind of metric; the first is what is shown first. @param {Metric} metric @returns {[string, string][]} */
export function measures({ kind, monotonic }) {
  if (kind === "histogram" || kind === "exponential_histogram")
    return [["p95", "95th percentile"], ["p50", "Median"], ["p99", "99th percentile"], ["mean", "Average"], ["rate", "Count per second"]];
  if (kind === "summary") return [["mean", "Average"], ["q", "Highest quantile"], ["rate", "Count per second"]];
  if (kind === "sum" && monotonic) return [["rate", "Per second"], ["value", "Total"]];
  return [["value", "Value"]];
}

/**
 * What is shown of a metric unless something else is chosen: the first measure that says anything. Between points there is
 * nothing yet where each series has only one.
 *
 * @param {Metric} metric
 * @param {Series[]} series
 */
export function usualMeasure(metric, series) {
  const all = measures(metric);
  return all.find(([name]) => series.some((one) => valuesOf(metric, one, name).some(([, value]) => value !== null))) ?? all[0];
}

/**
 * A series as a chart has it. A cumulative point counts since its process began, so that what happened between two is
 * their difference, and all of it where the process has begun since the one before. What happened is not known where a
 * total has fallen and nobody says since when it counts, or where those of several are mixed.
 *
 * Source: OpenTelemetry metrics data model, "Resets and Gaps".
 *
 * @param {Metric} metric
 * @param {Series} series
 * @param {string} measure of `measures`
 * @returns {Value[]}
 */
export function valuesOf(metric, { points, mixed }, measure) {
  const delta = metric.temporality === DELTA;
  const summary = metric.kind === "summary";
  /** @type {Value[]} */
  const found = [];
  let last = /** @type {Point | null} */ (null);
  points.forEach((point) => {
    const at = seconds(point);
    const [, value, distribution, , since] = point;
    if (!distribution && value === null) return found.push([at, null]);
    const before = last;
    last = point;
    if (!distribution && measure !== "rate") return found.push([at, value]);
    if (summary && measure === "q") return found.push([at, distribution?.quantiles?.at(-1)?.[1] ?? null]);
    if (summary && measure === "mean") return found.push([at, distribution && mean(distribution)]);
    if (mixed) return;
    const elapsed = delta && since !== "0" ? at - secondsOf(since) : before ? at - seconds(before) : 0;
    const anew = before !== null && since !== before[4];
    // One that counts since its own time has been counting for longer, and nobody knows since when.
    const known = delta || !before || (anew ? since !== point[0] && since !== "0" : total(point) >= total(before));
    if (!distribution || summary) {
      const counted = delta || anew || !before ? 0 : total(before);
      if ((delta || before) && known && elapsed > 0) found.push([at, (total(point) - counted) / elapsed]);
      return;
    }
    const during = delta || anew || !before?.[2] ? distribution : difference(distribution, before[2]);
    if (!known || (!delta && !before && points.length > 1)) return;
    if (measure === "rate") elapsed > 0 && found.push([at, during.count / elapsed]);
    else if (!during.count) found.push([at, null]);
    else if (measure === "mean") found.push([at, mean(during)]);
    else found.push([at, ...quantile(during, Number(measure.slice(1)) / 100)]);
  });
  return found;
}

/** @param {Point} point */
function seconds(point) {
  return secondsOf(point[0]);
}

/** @param {string} ns */
function secondsOf(ns) {
  return Number(BigInt(ns) / 1000000n) / 1000;
}

/** What a point has counted. @param {Point} point */
function total([, value, distribution]) {
  return distribution ? distribution.count : (value ?? 0);
}

/** @param {Distribution} of */
function mean(of) {
  return of.count && of.sum !== null ? of.sum / of.count : null;
}

/** What came between two cumulative points. @param {Distribution} now @param {Distribution} before @returns {Distribution} */
function difference(now, before) {
  if ((now.scale ?? 0) > (before.scale ?? 0)) return now;
  const steps = (before.scale ?? 0) - (now.scale ?? 0);
  const less = (/** @type {number[] | undefined} */ a, /** @type {number[] | undefined} */ b, shift = 0) =>
    a?.map((one, i) => Math.max(0, one - (b?.[i + shift] ?? 0)));
  const side = (/** @type {Distribution["positive"]} */ a, /** @type {Distribution["positive"]} */ b) =>
    a && { offset: a.offset, counts: less(a.counts, ...coarser(b, steps, a.offset)) ?? [] };
  return {
    count: now.count - before.count,
    sum: now.sum === null ? null : now.sum - (before.sum ?? 0),
    // Of all since the process began, and so of these as well.
    min: now.min,
    max: now.max,
    bounds: now.bounds,
    counts: less(now.counts, before.counts),
    scale: now.scale,
    zero_count: (now.zero_count ?? 0) - (before.zero_count ?? 0),
    positive: side(now.positive, before.positive),
    negative: side(now.negative, before.negative),
  };
}

/**
 * Buckets of an exponential histogram at a lower scale, and how far those of another offset are from them: an SDK lowers
 * the scale as values spread, and goes on counting.
 *
 * Source: OpenTelemetry metrics data model, "Exponential Scale".
 *
 * @param {Distribution["positive"]} of
 * @param {number} steps by which the scale is lower
 * @param {number} offset the other's
 * @returns {[number[], number]}
 */
function coarser(of, steps, offset) {
  if (!of) return [[], 0];
  const by = 2 ** steps;
  const first = Math.floor(of.offset / by);
  /** @type {number[]} */
  const counts = [];
  of.counts.forEach((number, i) => {
    const at = Math.floor((of.offset + i) / by) - first;
    counts[at] = (counts[at] ?? 0) + number;
  });
  return [counts, offset - first];
}

/** The buckets from low to high: bounds and count. @param {Distribution} of @returns {[number, number, number][]} */
function buckets(of) {
  if (of.counts) {
    const bounds = of.bounds ?? [];
    return of.counts.map((number, i) => [bounds[i - 1] ?? Math.min(0, bounds[0] ?? 0), bounds[i] ?? Infinity, number]);
  }
  const base = 2 ** (2 ** -(of.scale ?? 0));
  const edge = (/** @type {number} */ index) => base ** index;
  const { positive, negative } = of;
  return [
    ...(negative?.counts ?? []).map((number, i) => /** @type {[number, number, number]} */ ([-edge((negative?.offset ?? 0) + i + 1), -edge((negative?.offset ?? 0) + i), number])).reverse(),
    [0, 0, of.zero_count ?? 0],
    ...(positive?.counts ?? []).map((number, i) => /** @type {[number, number, number]} */ ([edge((positive?.offset ?? 0) + i), edge((positive?.offset ?? 0) + i + 1), number])),
  ];
}

/**
 * Inside a bucket, values are taken to lie evenly, between the least and the greatest where these are told. Of values that
 * all lie in one bucket without a greatest, no more is known than its bound.
 *
 * @param {Distribution} of
 * @param {number} part 0 to 1
 * @returns {[number | null, string?]} the value, and `≤` or `>` if it is a bound
 */
export function quantile(of, part) {
  const filled = buckets(of).filter(([, , number]) => number);
  const { min = -Infinity, max = Infinity } = of;
  let left = part * of.count;
  for (const [at, [from, until, number]] of filled.entries()) {
    if (left > number && at < filled.length - 1) {
      left -= number;
      continue;
    }
    const high = Math.min(until, max);
    const low = Math.min(Math.max(from, min), high);
    if (high === Infinity) return [low, ">"];
    if (of.counts && filled.length === 1 && max >= until) return [high, "≤"];
    return [low + (high - low) * Math.min(1, left / number)];
  }
  return [null];
}
