// Live entries of an order's timeline. One tab of the browser holds a stream, because a browser opens only six
// connections to an HTTP/1.1 server. The other tabs ask again and again, and so does a tab whose stream fails.

import { get, request } from "./api.js";
import { Problem } from "./http.js";

const NAME = "purveyor.live";
const POLL_MS = 4000;
const LONGEST_PAUSE_MS = 30_000;
const SILENCE_MS = 45_000; // the server sends a heartbeat every 15 s
const FIRST_BYTE_MS = 10_000;

/** Parse server-sent events (HTML section 9.2). `onText` is called for every chunk. */
async function* events(stream, onText) {
  let buffered = "";
  let data = [];
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader(); // not every browser can iterate a stream
  while (true) {
    const { value: text, done } = await reader.read();
    if (done) return;
    onText();
    buffered += text;
    const lines = buffered.split(/\r\n|\n|\r(?!$)/);
    buffered = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (data.length) yield data.join("\n");
        data = [];
        continue;
      }
      const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line);
      if (name === "data") data.push(value);
    }
  }
}

/** Wait; ends early with `signal`, or when a hidden page is shown. */
const pause = (ms, signal) => new Promise((resolve) => {
  const done = () => {
    clearTimeout(timer);
    removeEventListener("visibilitychange", shown, true);
    resolve();
  };
  const shown = () => document.hidden || done();
  const timer = setTimeout(done, ms);
  addEventListener("visibilitychange", shown, true);
  if (signal.aborted) done();
  else signal.addEventListener("abort", done, { once: true });
});

/** A signal that aborts with `signal`, or if `alive` is not called in time. */
function watchdog(signal) {
  const own = new AbortController();
  let timer = setTimeout(() => own.abort(), FIRST_BYTE_MS);
  const stop = () => clearTimeout(timer);
  const alive = () => { stop(); timer = setTimeout(() => own.abort(), SILENCE_MS); };
  return { signal: AbortSignal.any([signal, own.signal]), alive, stop };
}

/** Entries that another tab of this browser received. */
function otherTabs(order, onEntry, signal) {
  let channel = null;
  try {
    channel = new BroadcastChannel(NAME);
  } catch {
    return () => {}; // refused where site data is blocked
  }
  channel.addEventListener("message", ({ data }) => { if (data.order === order) onEntry(data.entry); });
  signal.addEventListener("abort", () => channel.close(), { once: true });
  return (entry) => channel.postMessage({ order, entry });
}

const delay = (ms, failures) => Math.min(ms * 2 ** Math.min(failures, 4), LONGEST_PAUSE_MS) * (0.7 + 0.6 * Math.random());

/**
 * Follow an order from the entry `last` until `signal` aborts. `onEntry` gets each entry, some of them twice;
 * `onState` "live", "waiting" (will reconnect) or "ended" (refused by the server).
 */
export function follow(order, { last, onEntry, onState, signal }) {
  const path = `/api/orders/${order}`;
  const over = new AbortController();
  const ended = AbortSignal.any([signal, over.signal]);
  const tell = otherTabs(order, onEntry, signal);
  let nap = new AbortController(); // wakes the polling
  let streaming = false;

  /** Read one stream to its end. Returns whether anything came. */
  async function stream() {
    const watch = watchdog(ended);
    let opened = false;
    const alive = () => {
      if (!streaming) onState("live");
      streaming = opened = true;
      watch.alive();
    };
    try {
      const headers = { Accept: "text/event-stream", ...(last ? { "Last-Event-ID": String(last) } : {}) };
      const response = await request("GET", `${path}/live`, { headers, signal: watch.signal, timeoutMs: 0 });
      for await (const data of events(response.body, alive)) {
        const entry = JSON.parse(data);
        if (!entry?.id) continue;
        last = entry.id;
        onEntry(entry);
        tell(entry);
      }
    } catch {
      // refused, lost or silent: the polling goes on and tells why
    } finally {
      watch.stop();
      streaming = false;
      nap.abort();
    }
    return opened;
  }

  async function streams() {
    let failures = 0;
    while (!ended.aborted) {
      failures = await stream() ? 0 : failures + 1;
      await pause(delay(POLL_MS / 4, failures), ended);
    }
  }

  async function polls() {
    let failures = 0;
    while (!ended.aborted) {
      nap = new AbortController();
      await pause(delay(POLL_MS, failures), AbortSignal.any([ended, nap.signal]));
      if (ended.aborted || streaming) continue;
      try {
        const { entries } = await get(`${path}/timeline`, { signal: ended });
        entries.forEach(onEntry);
        last = entries.at(-1)?.id ?? last;
        failures = 0;
        onState("live");
      } catch (error) {
        if (ended.aborted) return;
        if (error instanceof Problem && !error.temporary) {
          over.abort();
          onState("ended");
          return;
        }
        failures += 1;
        onState("waiting");
      }
    }
  }

  onState("live"); // the caller has just read the timeline
  navigator.locks?.request(NAME, { signal: ended }, streams).catch(() => null); // aborted while it waited, or refused
  polls();
}
