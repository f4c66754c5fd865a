// @ts-check
// Numbers and times as a person reads them.

/** @type {[number, string][]} */
const UNITS = [
  [1e9, "s"],
  [1e6, "ms"],
  [1e3, "µs"],
  [1, "ns"],
];

/** The unit that suits a duration: how many nanoseconds it has, and its sign. @param {number} ns @returns {[number, string]} */
export function unitOf(ns) {
  return UNITS.find(([size]) => ns >= size) ?? [1, "ns"];
}

/** A duration of nanoseconds: 812 ns, 4.20 µs, 31.5 ms, 2.04 s, 3 min 12 s. @param {number} ns @returns {string} */
export function duration(ns) {
  if (!Number.isFinite(ns)) return "–";
  if (ns < 0) return `−${duration(-ns)}`;
  if (ns < 999.5) return `${Math.round(ns)} ns`;
  if (ns < 999.5e3) return `${digits(ns / 1e3)} µs`;
  if (ns < 999.5e6) return `${digits(ns / 1e6)} ms`;
  if (ns < 59.95e9) return `${digits(ns / 1e9)} s`;
  const seconds = Math.round(ns / 1e9);
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min${seconds % 60 ? ` ${seconds % 60} s` : ""}`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

/** Three significant digits, and of a large number all before the point. @param {number} value */
export function digits(value) {
  const size = Math.abs(value);
  return size >= 99.95 ? count(Math.round(value)) : size >= 9.995 ? value.toFixed(1) : value.toFixed(2);
}

/** @param {number} value */
export function count(value) {
  return value.toLocaleString("en-US");
}

/** 3 spans, 1 span. @param {number} value @param {string} one @param {string} [many] */
export function counted(value, one, many = `${one}s`) {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** 12,345 or 1.2 M: what has to be short. @param {number} value */
export function short(value) {
  if (Math.abs(value) < 100_000) return count(value);
  for (const [size, sign] of /** @type {[number, string][]} */ ([[1e9, "G"], [1e6, "M"], [1e3, "k"]])) {
    if (Math.abs(value) >= size) return `${digits(value / size)} ${sign}`;
  }
  return count(value);
}

/** @param {number} value bytes */
export function bytes(value) {
  if (Math.abs(value) < 1024) return `${Math.round(value)} B`;
  for (const unit of ["KiB", "MiB", "GiB"]) {
    value /= 1024;
    if (Math.abs(value) < 1024) return `${digits(value)} ${unit}`;
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
  const time = `${clock(when)}.${String(when.getMilliseconds()).padStart(3, "0")}`;
  return when.toDateString() === new Date().toDateString() ? time : `${day(when)} ${time}`;
}

/** 14:03:27 @param {Date} when */
export function clock(when) {
  return `${two(when.getHours())}:${two(when.getMinutes())}:${two(when.getSeconds())}`;
}

/** 2026-03-09 @param {Date} when */
export function day(when) {
  return `${when.getFullYear()}-${two(when.getMonth() + 1)}-${two(when.getDate())}`;
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
  if (Array.isArray(value) && value.every((one) => typeof one !== "object")) return [JSON.stringify(value), "json"];
  return [JSON.stringify(value, null, 2), "json"];
}

/** Attributes in one line, but for stack traces; where in the code it was comes last. @param {import("../answers.js").Attributes} attributes */
export function attributesText(attributes) {
  return Object.entries(attributes)
    .filter(([key]) => key !== "exception.stacktrace")
    .sort(([a], [b]) => Number(a.startsWith("code.")) - Number(b.startsWith("code.")))
    .map(([key, value]) => `${key}=${colourless(valueText(value)[0])}`)
    .join("  ");
}

/** A text without the colours of a terminal, which are noise here. @param {string} text */
export function colourless(text) {
  return text.replace(/\x1b\[[0-9;]*m/g, "");
}

/** What was raised, `ValueError: no such card`; empty if nothing was. @param {import("../answers.js").Attributes} attributes */
export function exceptionText(attributes) {
  return [attributes["exception.type"], attributes["exception.message"]].filter(Boolean).map(String).join(": ");
}
