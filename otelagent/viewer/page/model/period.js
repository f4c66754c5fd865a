// @ts-check
// Times that a filter speaks of.

const UNITS = /** @type {Record<string, number>} */ ({ s: 1e3, m: 60e3, h: 3600e3, d: 86400e3 });

/** What can be chosen: how it is written in the address, and how it is read. @type {[string, string][]} */
export const PERIODS = [
  ["", "Any time"],
  ["5m", "Last 5 minutes"],
  ["15m", "Last 15 minutes"],
  ["1h", "Last hour"],
  ["6h", "Last 6 hours"],
  ["24h", "Last 24 hours"],
];

/** When a period like 15m began, in nanoseconds since the epoch. @param {string} last @param {number} [now] milliseconds */
export function since(last, now = Date.now()) {
  const found = /^(\d{1,6})([smhd])$/.exec(last);
  if (!found) return "";
  return milliseconds(Math.max(0, now - Number(found[1]) * UNITS[found[2]]));
}

/** Milliseconds since the epoch as the API's nanoseconds. @param {number} ms */
export function milliseconds(ms) {
  return String(BigInt(Math.round(ms)) * 1000000n);
}
