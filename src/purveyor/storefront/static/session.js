// Who is signed in: the token pair, renewed before it expires, shared by all tabs of this browser.

import { Problem, send } from "./http.js";

const KEY = "purveyor.session";
const RENEW_BEFORE_MS = 60_000;

/** Says "change" when somebody signs in or out, here or in another tab. */
export const changes = new EventTarget();

const read = () => JSON.parse(localStorage.getItem(KEY) ?? "null");

function write(session) {
  if (session) localStorage.setItem(KEY, JSON.stringify(session));
  else localStorage.removeItem(KEY);
}

/** `{user_id, email, name, role}` of who is signed in, or `null`. */
export const user = () => read()?.user ?? null;

/** Whether who is signed in works for the shop. */
export const isStaff = () => ["staff", "admin"].includes(user()?.role);

function withPair(session, pair) {
  const renewAt = Date.now() + Math.max(pair.expires_in * 1000 - RENEW_BEFORE_MS, pair.expires_in * 500);
  return { ...session, access: pair.access_token, refresh: pair.refresh_token, renewAt };
}

/** Sign in. Throws `Problem`. */
export async function signIn(email, password) {
  const pair = await (await send("POST", "/login", { body: { email, password } })).json();
  const verified = await (await send("POST", "/verify-token", { token: pair.access_token })).json();
  const { user_id, name, role } = verified;
  write(withPair({ user: { user_id, email: verified.email, name, role } }, pair));
  changes.dispatchEvent(new Event("change"));
}

/** Forget who was signed in, here only. */
export function forget() {
  if (!read()) return;
  write(null);
  changes.dispatchEvent(new Event("change"));
}

/** Sign out: the tokens end on the server too, if it can be reached. */
export async function signOut() {
  const session = read();
  forget();
  if (session) await send("POST", "/logout", { token: session.access }).catch(() => null);
}

/** Put a new name where the page shows who is signed in. */
export function rename(name) {
  const session = read();
  write({ ...session, user: { ...session.user, name } });
  changes.dispatchEvent(new Event("change"));
}

async function renew(stale) {
  const session = read();
  if (session?.access !== stale) return session?.access ?? null; // another tab was faster
  try {
    const answer = await send("POST", "/token/refresh", { body: { refresh_token: session.refresh } });
    const renewed = withPair(session, await answer.json());
    if (read()?.access !== stale) return read()?.access ?? null; // signed out, or somebody else in, meanwhile
    write(renewed);
    return renewed.access;
  } catch (error) {
    if (!(error instanceof Problem) || error.passing) return session.access;
    forget();
    return null;
  }
}

let renewing = null;

/** A new access token in place of a `stale` one; `null` when nobody is signed in any more. One at a time. */
export function renewed(stale) {
  renewing ??= (navigator.locks ? navigator.locks.request(KEY, () => renew(stale)) : renew(stale))
    .finally(() => { renewing = null; });
  return renewing;
}

/** An access token that is good for a while; `null` when nobody is signed in. */
export async function token() {
  const session = read();
  if (!session) return null;
  return Date.now() < session.renewAt ? session.access : renewed(session.access);
}

addEventListener("storage", (event) => {
  if (event.key !== KEY) return;
  const who = (text) => JSON.parse(text ?? "null")?.user?.user_id;
  if (who(event.oldValue) !== who(event.newValue)) changes.dispatchEvent(new Event("change"));
});
