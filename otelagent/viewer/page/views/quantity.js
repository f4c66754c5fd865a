// @ts-check
import { bytes, count, digits, duration, short } from "../model/format.js";

const SECONDS = /** @type {Record<string, number>} */ ({ s: 1e9, ms: 1e6, us: 1e3, ns: 1 });

/** A metric's value in its unit (UCUM, as the semantic conventions write it). @param {number | null} value @param {string} unit */
export function quantity(value, unit) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (SECONDS[unit]) return duration(value * SECONDS[unit]);
  if (unit === "By") return bytes(value);
  const text = Number.isInteger(value) ? count(value) : Math.abs(value) < 0.01 ? value.toPrecision(2) : digits(value);
  if (unit === "1" || !unit) return text;
  if (unit === "%") return `${text} %`;
  return text;
}

/** The same where it has to be short, as beside an axis. @param {number | null} value @param {string} unit */
export function brief(value, unit) {
  return value === 0 ? "0" : value !== null && Math.abs(value) >= 1e5 && !SECONDS[unit] && unit !== "By" ? short(value) : quantity(value, unit);
}

/** A value with its sign, where it is only a bound. @param {import("../model/series.js").Value | null} value @param {string} unit @param {typeof quantity} how */
export function told(value, unit, how = quantity) {
  return value ? `${value[2] ? `${value[2]} ` : ""}${how(value[1], unit)}` : "–";
}

/** What a chart of it says beside its axis. @param {string} unit @param {string} measure */
export function unitText(unit, measure) {
  const thing = unit.replace(/[{}]/g, "");
  if (measure === "rate") return `${SECONDS[unit] ? "count" : thing === "1" ? "" : thing} per second`.trim();
  return SECONDS[unit] || unit === "By" || unit === "1" ? "" : thing;
}
