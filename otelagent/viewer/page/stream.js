// @ts-check
// The stream of changes. One tab holds it and tells the others: a browser allows only six connections to one host.
import { ask, embedded, ready } from "./api.js";
import { changed, changes, connection, unnamed } from "./state.js";

const RETRY_MS = 2_000;
const MOST_REMEMBERED = 5_000;

/** Follows what changes, as long as the page is open. */
export function follow() {
  if (embedded) return;
  const channel = new BroadcastChannel("otelagent-changes");
  channel.onmessage = (event) => {
    if (event.data.change) take(event.data.change);
    else if (event.data.connection) meet(event.data.connection);
  };
  const tell = (/** @type {"yes" | "no" | "token"} */ state) => {
    meet(state);
    channel.postMessage({ connection: state });
  };
  const spread = (/** @type {import("./answers.js").Change} */ change) => {
    take(change);
    channel.postMessage({ change });
  };
  // Whether changes may have come that nobody has heard of: another tab held the stream, or it was broken.
  let missed = false;
  const open = () => {
    const source = new EventSource("/api/events");
    source.onopen = () => {
      tell("yes");
      spread({ traces: [], more: missed, spans: 0, logs: 0, points: 0 });
      missed = true;
    };
    source.onmessage = (event) => spread(JSON.parse(event.data));
    source.onerror = () => {
      // A browser tries again by itself when a stream breaks off, but not when it is refused.
      source.close();
      ask("status").then(
        () => setTimeout(open, RETRY_MS / 4),
        (problem) => {
          tell(problem.status === 401 ? "token" : "no");
          setTimeout(open, RETRY_MS);
        },
      );
    };
  };
  const hold = () => {
    open();
    return new Promise(() => {});
  };
  ready().then(() => {
    const wait = () => {
      missed = true;
      navigator.locks.request("otelagent-changes", hold);
    };
    navigator.locks.request("otelagent-changes", { ifAvailable: true }, (lock) => (lock ? hold() : null)).then(wait);
  });
}

/** @param {"yes" | "no" | "token"} state */
function meet(state) {
  connection.value = state;
}

/** @param {import("./answers.js").Change} change */
function take(change) {
  const next = new Map(changed.value);
  for (const trace of change.traces) next.set(trace, changes.value + 1);
  changed.value = next.size > MOST_REMEMBERED ? new Map([...next].slice(-MOST_REMEMBERED / 2)) : next;
  if (change.more) unnamed.value = changes.value + 1;
  changes.value += 1;
}
