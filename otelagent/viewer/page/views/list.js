// @ts-check
import { html, useEffect, useRef, useState } from "../html.js";
import { ask } from "../api.js";
import { ago, count, date, duration, moment } from "../model/format.js";
import { address, changed, changes, changesSlowly, colour, connected, go, place, useNews } from "../state.js";
import { Scatter } from "./scatter.js";
import { Empty } from "./empty.js";

const FILTERS = ["service", "operation", "error", "min_ms", "max_ms", "q", "from", "to"];
const PAGE = 100;

/** The filters of the address, as the API takes them. @param {URLSearchParams} query */
function filters(query) {
  /** @type {Record<string, any>} */
  const asked = {};
  for (const name of FILTERS) if (query.get(name)) asked[name] = query.get(name);
  const attributes = query.getAll("attr").filter(Boolean);
  if (attributes.length) asked.attr = attributes;
  return asked;
}

export function TraceList() {
  const query = place.value.query;
  const asked = filters(query);
  const key = JSON.stringify(asked);
  const [found, setFound] = useState(/** @type {any} */ (null));
  const [error, setError] = useState("");
  const [marked, setMarked] = useState(/** @type {string[]} */ ([]));
  const [at, setAt] = useState(-1);
  const seen = useNews(changes.value);
  const shown = useRef(0);

  useEffect(() => {
    const abort = new AbortController();
    const wait = setTimeout(
      () => {
        ask("traces", { ...asked, limit: Math.max(PAGE, Math.min(shown.current, 500)) }, { signal: abort.signal }).then(
          (page) => {
            setFound(page);
            shown.current = page.traces.length;
            setError("");
          },
          (problem) => problem.name !== "AbortError" && setError(problem.message),
        );
      },
      found ? 60 : 0,
    );
    return () => {
      clearTimeout(wait);
      abort.abort();
    };
  }, [key, seen, connected.value]);

  const more = () =>
    ask("traces", { ...asked, limit: PAGE, before: found.next }).then((page) => {
      const traces = [...found.traces, ...page.traces];
      shown.current = traces.length;
      setFound({ ...page, traces });
    }, (problem) => setError(problem.message));

  const mark = (/** @type {string} */ id) =>
    setMarked(marked.includes(id) ? marked.filter((one) => one !== id) : [...marked, id].slice(-2));

  const onKey = (/** @type {KeyboardEvent} */ event) => {
    const rows = found?.traces ?? [];
    /** @type {Record<string, number>} */
    const steps = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 };
    if (event.key in steps) {
      event.preventDefault();
      const next = Math.max(0, Math.min(rows.length - 1, at + steps[event.key]));
      setAt(next);
      document.getElementById(`row-${next}`)?.querySelector("a")?.focus();
    }
  };

  const longest = Math.max(1, ...(found?.traces.map((/** @type {any} */ one) => one.duration) ?? []));
  const filtered = Object.keys(asked).length > 0;
  return html`
    <div class="page list">
      <h1 class="sr">Traces</h1>
      <${Filters} asked=${asked} />
      ${error && html`<p class="problem" role="alert">${error}</p>`}
      ${found && found.traces.length > 0 && html`<${Scatter} traces=${found.traces} />`}
      ${marked.length > 0 &&
      html`<div class="marked">
        ${marked.length === 2 ? html`<a class="button" href=${address(["compare", ...marked])}>Compare the two</a>` : "Mark another trace to compare"}
        <button class="quiet" onClick=${() => setMarked([])}>Clear</button>
      </div>`}
      ${found && found.traces.length === 0 && html`<${Empty} filtered=${filtered} complete=${found.complete} />`}
      ${found &&
      found.traces.length > 0 &&
      html`
        <div class="table" role="table" aria-label="Traces" onKeyDown=${onKey}>
          <div role="rowgroup"><div role="row" class="head">
            <span role="columnheader" class="c-mark"><span class="sr">Compare</span></span>
            <span role="columnheader" class="c-name">Trace</span>
            <span role="columnheader" class="c-services">Services</span>
            <span role="columnheader" class="c-num">Spans</span>
            <span role="columnheader" class="c-num">Errors</span>
            <span role="columnheader" class="c-duration">Duration</span>
            <span role="columnheader" class="c-start">Start</span>
          </div></div>
          <div role="rowgroup">
            ${found.traces.map(
              (/** @type {any} */ one, /** @type {number} */ number) => html`<div role="row" id=${`row-${number}`} key=${one.id} class=${`line ${one.errors ? "failed" : ""} ${changed.value.has(one.id) ? "new" : ""}`}>
                <span role="cell" class="c-mark"><input type="checkbox" aria-label=${`Mark ${one.name} to compare`} checked=${marked.includes(one.id)} onChange=${() => mark(one.id)} /></span>
                <span role="cell" class="c-name"><a href=${address(["trace", one.id])}><i class="dot" style=${`background:${colour(one.service)}`}></i><b>${one.name || "(no name)"}</b><small>${one.service}${one.root ? "" : html` · <em title="The trace's root span has not come (yet)">root is missing</em>`}</small></a></span>
                <span role="cell" class="c-services">${one.services.slice(0, 4).map((/** @type {[string, number]} */ [name, spans]) => html`<span class="chip" title=${`${name}: ${count(spans)} spans`}><i class="dot" style=${`background:${colour(name)}`}></i>${name}</span>`)}${one.services.length > 4 ? html`<span class="chip">+${one.services.length - 4}</span>` : ""}</span>
                <span role="cell" class="c-num">${count(one.spans)}</span>
                <span role="cell" class=${`c-num ${one.errors ? "bad" : "dim"}`}>${one.errors ? count(one.errors) : "–"}</span>
                <span role="cell" class="c-duration"><span class="meter"><i style=${`width:${Math.max(1, (100 * one.duration) / longest)}%`}></i></span>${duration(one.duration)}</span>
                <span role="cell" class="c-start" title=${date(one.start).toISOString()}>${moment(one.start)}<small>${ago(one.start)}</small></span>
              </div>`,
            )}
          </div>
        </div>
        <p class="foot">
          ${count(found.traces.length)} traces${found.complete ? "" : html` · the search was cut off after a quarter of a second, at ${moment(found.searched_to ?? "0")}`}
          ${found.next !== null && html` · <button onClick=${more}>Show more</button>`}
        </p>
      `}
    </div>
  `;
}

/** @param {{asked: Record<string, any>}} properties */
function Filters({ asked }) {
  const [services, setServices] = useState(/** @type {string[]} */ ([]));
  const [operations, setOperations] = useState(/** @type {{name: string}[]} */ ([]));
  const seen = changesSlowly.value;
  useEffect(() => {
    ask("services").then((answer) => setServices(answer.services), () => undefined);
  }, [seen]);
  useEffect(() => {
    if (!asked.service) return setOperations([]);
    ask("operations", { service: asked.service }).then((answer) => setOperations(answer.operations), () => undefined);
  }, [asked.service, seen]);
  const set = (/** @type {Record<string, any>} */ changes, replace = false) => go(["traces"], { ...asked, ...changes }, replace);
  const attributes = asked.attr ?? [];
  const add = (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const field = /** @type {HTMLInputElement} */ (/** @type {HTMLFormElement} */ (event.target).elements.namedItem("attribute"));
    const text = field.value.trim();
    if (text && !attributes.includes(text)) set({ attr: [...attributes, text] });
    field.value = "";
  };
  const names = [...new Set(operations.map((one) => one.name))];
  return html`<div class="filters" role="search" aria-label="Filter traces">
    <label>Service<select value=${asked.service ?? ""} onChange=${(/** @type {any} */ e) => set({ service: e.target.value, operation: "" })}>
      <option value="">All services</option>${services.map((name) => html`<option value=${name} selected=${name === asked.service}>${name}</option>`)}
    </select></label>
    <label>Operation<select value=${asked.operation ?? ""} disabled=${!asked.service} onChange=${(/** @type {any} */ e) => set({ operation: e.target.value })}>
      <option value="">All operations</option>${names.map((name) => html`<option value=${name} selected=${name === asked.operation}>${name}</option>`)}
    </select></label>
    <label class="grow">Words<input type="search" placeholder="Names, log lines, exceptions  ( / )" value=${asked.q ?? ""} onInput=${(/** @type {any} */ e) => set({ q: e.target.value }, true)} /></label>
    <form onSubmit=${add}><label>Attribute<input name="attribute" placeholder="key=value, key>3, key" list="operators" autocomplete="off" spellcheck=${false} /></label></form>
    <${Milliseconds} title="At least, ms" value=${asked.min_ms ?? ""} onSet=${(/** @type {string} */ min_ms) => set({ min_ms })} />
    <${Milliseconds} title="At most, ms" value=${asked.max_ms ?? ""} onSet=${(/** @type {string} */ max_ms) => set({ max_ms })} />
    <button class=${`toggle ${asked.error ? "on" : ""}`} aria-pressed=${Boolean(asked.error)} onClick=${() => set({ error: asked.error ? "" : 1 })}>Errors only</button>
    ${Object.keys(asked).length > 0 && html`<button class="quiet" onClick=${() => go(["traces"], {})}>Clear</button>`}
    ${attributes.length > 0 &&
    html`<div class="chips">${attributes.map((/** @type {string} */ text) => html`<span class="chip on">${text}<button aria-label=${`Remove ${text}`} onClick=${() => set({ attr: attributes.filter((/** @type {string} */ one) => one !== text) })}>×</button></span>`)}</div>`}
  </div>`;
}

/**
 * A number that takes effect when it is finished. What is typed until then is kept here: the list is drawn anew with each
 * trace that comes, which would put back the number that was.
 *
 * @param {{title: string, value: string, onSet: (value: string) => void}} properties
 */
function Milliseconds({ title, value, onSet }) {
  const [typed, setTyped] = useState(/** @type {string | null} */ (null));
  return html`<label class="short">${title}<input type="number" min="0" step="any" value=${typed ?? value} onInput=${(/** @type {any} */ e) => setTyped(e.target.value)}
    onChange=${(/** @type {any} */ e) => (setTyped(null), onSet(e.target.value))} /></label>`;
}
