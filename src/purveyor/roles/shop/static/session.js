// The session: a token pair in local storage, renewed before it expires and shared by all tabs.

import { Problem, send } from "./http.js";

const KEY = "purveyor.session";
const RENEW_BEFORE_MS = 60_000;

/** Dispatches "change" on sign-in and sign-out in any tab. */
export const changes = new EventTarget();

const read = () => JSON.parse(localStorage.getItem(KEY) ?? "null");

function write(session) {
  if (session) localStorage.setItem(KEY, JSON.stringify(session));
  else localStorage.removeItem(KEY);
}

/** The signed-in user, `{user_id, email, name, role}`, or `null`. */
export const user = () => read()?.user ?? null;

/** Whether the user is staff or admin. */
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

/** End the session in this browser only. */
export function forget() {
  if (!read()) return;
  write(null);
  changes.dispatchEvent(new Event("change"));
}

/** Sign out here and, if it can be reached, on the server. */
export async function signOut() {
  const session = read();
  forget();
  if (session) await send("POST", "/logout", { body: { refresh_token: session.refresh } }).catch(() => null);
}

/** Update the displayed name of the user. */
export function rename(name) {
  const session = read();
  write({ ...session, user: { ...session.user, name } });
  changes.dispatchEvent(new Event("change"));
}

async function renew(stale) {
  const session = read();
  if (session?.access !== stale) return session?.access ?? null; // another tab renewed it
  try {
    const answer = await send("POST", "/token/refresh", { body: { refresh_token: session.refresh } });
    const renewed = withPair(session, await answer.json());
    if (read()?.access !== stale) return read()?.access ?? null; // the session changed in the meantime
    write(renewed);
    return renewed.access;
  } catch (error) {
    if (!(error instanceof Problem) || error.temporary) return session.access;
    forget();
    return null;
  }
}

let renewing = null;

/** A new access token for a `stale` one, or `null` if the session has ended. Tabs take turns. */
export function renewed(stale) {
  renewing ??= (navigator.locks ? navigator.locks.request(KEY, () => renew(stale)) : renew(stale))
    .finally(() => { renewing = null; });
  return renewing;
}

/** A valid access token, or `null` if nobody is signed in. */
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
