// @ts-check
// Round places on a ruler of time.
import { unitOf } from "./format.js";

/**
 * @param {number} from nanoseconds
 * @param {number} until nanoseconds
 * @param {number} most how many there is room for
 * @returns {{at: number, text: string}[]}
 */
export function ticks(from, until, most) {
  const span = Math.max(until - from, 1);
  const raw = span / Math.max(1, most);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = Math.max(1, power * (/** @type {number} */ ([1, 2, 5, 10].find((one) => one * power >= raw))));
  const [size, unit] = unitOf(until);
  const decimals = Math.max(0, Math.min(6, -Math.floor(Math.log10(step / size) + 1e-9)));
  const found = [];
  for (let at = Math.ceil(from / step) * step; at <= until; at += step) found.push({ at, text: `${(at / size).toFixed(decimals)} ${unit}` });
  return found;
}
