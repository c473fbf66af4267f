// Places an order exactly once. The request and its Idempotency-Key are stored until the server has answered.
// A second click, a reload or a lost connection repeats the same request with the same key.

import { request } from "./api.js";
import * as cart from "./cart.js";
import { Problem } from "./http.js";
import { user } from "./session.js";
import * as store from "./store.js";

const KEY = "purveyor.checkout";
const KEPT_MS = 23 * 3_600_000; // the server keeps keys for 24 h
const TRIES = 5;

const isAttempt = (value) => typeof value.key === "string" && typeof value.body === "object" && Number.isFinite(value.at);

/** The user's unanswered attempt, `{key, user_id, body, at}`, or `null`. */
export function open() {
  const attempt = store.read(KEY, isAttempt);
  const good = attempt?.user_id === user()?.user_id && Date.now() - attempt?.at < KEPT_MS;
  return good ? attempt : null;
}

/** Discard the attempt; the next one gets a new key. */
export const drop = () => store.remove(KEY);

// crypto.randomUUID is not available on pages without TLS.
const newKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

const pause = (seconds) => new Promise((resolve) => { setTimeout(resolve, seconds * 1000); });

async function send(attempt) {
  for (let tries = 1; ; tries += 1) {
    try {
      return await request("POST", "/api/orders/", { body: attempt.body, headers: { "Idempotency-Key": attempt.key } });
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (error.code === "request-in-progress" && tries < TRIES) {
        await pause(error.retryAfterS || 1);
        continue;
      }
      if (error.code === "price-changed" || (!error.temporary && ![401, 409].includes(error.status))) drop();
      throw error;
    }
  }
}

let running = null;

/** Finish the open attempt and return the order. Throws `Problem`. */
export function finish() {
  running ??= (async () => {
    const attempt = open();
    const order = await (await send(attempt)).json();
    drop();
    cart.removeOrdered(order.items);
    return order;
  })().finally(() => { running = null; });
  return running;
}

/** Place and return an order; an open attempt is finished instead. Throws `Problem`. */
export function place(body) {
  if (!open()) {
    store.write(KEY, { key: newKey(), user_id: user().user_id, body, at: Date.now() });
  }
  return finish();
}
