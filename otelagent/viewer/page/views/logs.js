// @ts-check
import { html, useEffect, useState } from "../html.js";
import { ask } from "../api.js";
import { count, date, level, moment, valueText } from "../model/format.js";
import { address, changes, colour, connected, go, place, useNews } from "../state.js";

const LEVELS = [[0, "All levels"], [5, "Debug and above"], [9, "Info and above"], [13, "Warnings and above"], [17, "Errors"]];

export function Logs() {
  const query = place.value.query;
  const asked = { service: query.get("service") ?? "", severity: query.get("severity") ?? "", q: query.get("q") ?? "", trace: query.get("trace") ?? "" };
  const [found, setFound] = useState(/** @type {any} */ (null));
  const [services, setServices] = useState(/** @type {string[]} */ ([]));
  const [error, setError] = useState("");
  const seen = useNews(changes.value);
  const key = JSON.stringify(asked);
  useEffect(() => {
    ask("services").then((answer) => setServices(answer.services), () => undefined);
  }, []);
  useEffect(() => {
    const wait = setTimeout(() => ask("logs", { ...asked, limit: 200 }).then((answer) => (setFound(answer), setError("")), (problem) => setError(problem.message)), 60);
    return () => clearTimeout(wait);
  }, [key, seen, connected.value]);
  const set = (/** @type {any} */ changes, replace = false) => go(["logs"], { ...asked, ...changes }, replace);
  const more = () => ask("logs", { ...asked, limit: 200, before: found.next }).then((page) => setFound({ ...page, logs: [...found.logs, ...page.logs] }), (problem) => setError(problem.message));
  return html`<div class="page logs"><h1 class="sr">Log records</h1>
    <div class="filters" role="search" aria-label="Filter log records">
      <label>Service<select value=${asked.service} onChange=${(/** @type {any} */ e) => set({ service: e.target.value })}><option value="">All services</option>${services.map((name) => html`<option value=${name} selected=${name === asked.service}>${name}</option>`)}</select></label>
      <label>Level<select value=${asked.severity} onChange=${(/** @type {any} */ e) => set({ severity: e.target.value })}>${LEVELS.map(([value, title]) => html`<option value=${value || ""} selected=${String(value || "") === asked.severity}>${title}</option>`)}</select></label>
      <label class="grow">Text<input type="search" placeholder="Part of the text  ( / )" value=${asked.q} onInput=${(/** @type {any} */ e) => set({ q: e.target.value }, true)} /></label>
    </div>
    ${error && html`<p class="problem" role="alert">${error}</p>`}
    ${found && !found.logs.length && html`<div class="empty"><h2>No log records${asked.q || asked.service || asked.severity ? " like that" : " yet"}</h2><p>${found.complete ? html`Send them with <code>--logs-exporter otlp</code>.` : "The search was cut off: narrow it."}</p></div>`}
    ${found && found.logs.length > 0 && html`<ol class="lines">${found.logs.map((/** @type {any} */ one) => html`<li key=${one.id} class=${`log ${level(one.severity)}`}>
        <time title=${date(one.time).toISOString()}>${moment(one.time)}</time><span class="severity">${one.severity_text || level(one.severity) || "–"}</span>
        <span class="service"><i class="dot" style=${`background:${colour(one.service)}`}></i>${one.service}</span>
        <span class="body">${one.event && html`<b>${one.event} </b>`}${one.body}${Object.keys(one.attributes).length > 0 && html`<small>${Object.entries(one.attributes).map(([name, value]) => `${name}=${valueText(value)[0]}`).join("  ")}</small>`}</span>
        ${one.trace ? html`<a href=${address(["trace", one.trace], one.span ? { span: one.span } : {})}>trace</a>` : html`<span></span>`}</li>`)}</ol>
      <p class="foot">${count(found.logs.length)} records ${found.next !== null && html`· <button onClick=${more}>Show more</button>`}</p>`}
  </div>`;
}
