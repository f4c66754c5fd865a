// @ts-check
// Numbers and times as a person reads them.

/** A duration of nanoseconds: 812 ns, 4.2 µs, 31.5 ms, 2.04 s, 3 min 12 s. @param {number} ns */
export function duration(ns) {
  if (!Number.isFinite(ns)) return "–";
  if (ns < 1e3) return `${Math.round(ns)} ns`;
  if (ns < 1e6) return `${digits(ns / 1e3)} µs`;
  if (ns < 1e9) return `${digits(ns / 1e6)} ms`;
  if (ns < 60e9) return `${digits(ns / 1e9)} s`;
  const seconds = Math.round(ns / 1e9);
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

/** Three significant digits. @param {number} value */
function digits(value) {
  return value >= 99.95 ? value.toFixed(0) : value >= 9.995 ? value.toFixed(1) : value.toFixed(2);
}

/** @param {number} value */
export function count(value) {
  return value.toLocaleString("en-US");
}

/** @param {number} value bytes */
export function bytes(value) {
  if (value < 1024) return `${value} B`;
  for (const unit of ["KiB", "MiB", "GiB"]) {
    value /= 1024;
    if (value < 1024) return `${digits(value)} ${unit}`;
  }
  return `${digits(value / 1024)} TiB`;
}

/** The moment of nanoseconds since the epoch (as text: JavaScript's numbers end at 2^53). @param {string} ns */
export function date(ns) {
  return new Date(Number(BigInt(ns || "0") / 1000000n));
}

/** 14:03:27.512, with the day if it isn't today. @param {string} ns */
export function moment(ns) {
  const when = date(ns);
  const time = `${two(when.getHours())}:${two(when.getMinutes())}:${two(when.getSeconds())}.${String(when.getMilliseconds()).padStart(3, "0")}`;
  if (when.toDateString() === new Date().toDateString()) return time;
  return `${when.getFullYear()}-${two(when.getMonth() + 1)}-${two(when.getDate())} ${time}`;
}

/** 5 s ago. @param {string} ns @param {number} [now] milliseconds */
export function ago(ns, now = Date.now()) {
  const seconds = Math.max(0, (now - date(ns).getTime()) / 1000);
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

/** @param {number} number */
function two(number) {
  return String(number).padStart(2, "0");
}

export const KINDS = ["", "internal", "server", "client", "producer", "consumer"];

/** @param {number} severity of a log record, 0 to 24 */
export function level(severity) {
  return severity >= 21 ? "fatal" : severity >= 17 ? "error" : severity >= 13 ? "warn" : severity >= 9 ? "info" : severity >= 5 ? "debug" : severity ? "trace" : "";
}

/** An attribute's value as text, and what type it is. @param {any} value @returns {[string, string]} */
export function valueText(value) {
  if (value === null || value === undefined) return ["null", "null"];
  if (typeof value === "string") return [value, "text"];
  if (typeof value === "number" || typeof value === "boolean") return [String(value), typeof value];
  if (typeof value === "object" && "$bytes" in value) return [value.$bytes, "bytes"];
  if (typeof value === "object" && "$double" in value) return [value.$double, "number"];
  if (typeof value === "object" && "$int" in value) return [value.$int, "number"];
  return [JSON.stringify(value, null, 2), "json"];
}
