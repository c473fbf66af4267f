// Server-sent events (HTML section 9.2) over fetch, because EventSource cannot send the access token.

import { request } from "./api.js";
import { Problem } from "./http.js";

const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 15_000;
const SILENCE_MS = 45_000; // the server sends a heartbeat every 15 s

/** Parse a stream into `{id, event, data}`. `onText` is called for every chunk, `onRetry` with a new delay. */
async function* events(stream, { onText = () => {}, onRetry = () => {} } = {}) {
  let buffered = "";
  let event = { id: null, event: "message", data: [] };
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
        if (event.data.length) yield { ...event, data: event.data.join("\n") };
        event = { id: event.id, event: "message", data: [] };
        continue;
      }
      const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line);
      if (name === "data") event.data.push(value);
      else if (name === "event") event.event = value;
      else if (name === "id") event.id = value;
      else if (name === "retry" && /^\d+$/.test(value)) onRetry(Number(value));
    }
  }
}

const pause = (ms, signal) => new Promise((resolve) => {
  const timer = setTimeout(resolve, ms);
  signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
});

/** A signal that aborts with `signal`, or if `alive` is not called for `SILENCE_MS`. */
function watchdog(signal) {
  const own = new AbortController();
  let timer = 0;
  const stop = () => clearTimeout(timer);
  const alive = () => { stop(); timer = setTimeout(() => own.abort(), SILENCE_MS); };
  alive();
  return { signal: AbortSignal.any([signal, own.signal]), alive, stop };
}

/**
 * Follow a stream after the event `lastId` until `signal` aborts, and resume it after a lost connection.
 * `onEvent` gets each event, `onState` "live", "waiting" (will reconnect) or "ended" (refused by the server).
 */
export async function follow(path, { lastId = null, onEvent, onState, signal }) {
  let last = lastId;
  let base = FIRST_PAUSE_MS;
  let failures = 0;
  while (!signal.aborted) {
    const watch = watchdog(signal);
    try {
      const headers = { Accept: "text/event-stream", ...(last === null ? {} : { "Last-Event-ID": last }) };
      const response = await request("GET", path, { headers, signal: watch.signal, timeoutMs: 0 });
      onState("live");
      failures = 0;
      for await (const event of events(response.body, { onText: watch.alive, onRetry: (ms) => { base = ms; } })) {
        last = event.id ?? last;
        onEvent(event);
      }
    } catch (error) {
      if (!signal.aborted && error instanceof Problem && !error.temporary) {
        onState("ended");
        return;
      }
    } finally {
      watch.stop();
    }
    if (signal.aborted) return;
    onState("waiting");
    await pause(Math.min(base * 2 ** failures, LONGEST_PAUSE_MS) * (0.7 + 0.6 * Math.random()), signal);
    failures += 1;
  }
}
