// Small values in local storage, shared by all tabs. Where the browser denies it, they last until the page is closed.

const PROBE = "purveyor.probe";
const memory = new Map();

/** Why the user's data may be gone: "denied" (no storage), "unreadable" (a value was discarded), or "". */
let reason = "";
export const trouble = () => reason;

function openStorage() {
  try {
    const storage = globalThis.localStorage; // throws where site data is blocked
    storage.setItem(PROBE, "1");
    storage.removeItem(PROBE);
    return storage;
  } catch {
    reason = "denied";
    return null;
  }
}

let storage = openStorage();

function attempt(work) {
  if (!storage) return undefined;
  try {
    return work(storage);
  } catch { // blocked or full since it was opened
    storage = null;
    reason = "denied";
    return undefined;
  }
}

/** The stored value if `valid` accepts it, else `null`. An unreadable value is removed. */
export function read(key, valid) {
  const text = memory.get(key) ?? attempt((opened) => opened.getItem(key)) ?? null;
  if (text === null) return null;
  const value = parsed(text);
  if (value !== null && valid(value)) return value;
  remove(key);
  reason ||= "unreadable";
  return null;
}

export function write(key, value) {
  const text = JSON.stringify(value);
  attempt((opened) => opened.setItem(key, text));
  if (storage) memory.delete(key);
  else memory.set(key, text);
}

export function remove(key) {
  memory.delete(key);
  attempt((opened) => opened.removeItem(key));
}

function parsed(text) {
  try {
    return JSON.parse(text ?? "null");
  } catch {
    return null;
  }
}

/** Call `listener(now, before)` when another tab changes the value. */
export function watch(key, listener) {
  addEventListener("storage", (event) => {
    if (event.key === key || event.key === null) listener(parsed(event.newValue), parsed(event.oldValue));
  });
}

/** Run `work` while no other tab runs work with this name. Without Web Locks it runs at once. */
export async function exclusively(name, work) {
  let begun = false;
  try {
    return await navigator.locks.request(name, () => {
      begun = true;
      return work();
    });
  } catch (error) { // no `locks` without TLS; refused where site data is blocked
    if (begun) throw error;
    return work();
  }
}
