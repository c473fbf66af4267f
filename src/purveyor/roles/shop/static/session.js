// The session: a token pair, renewed before it expires and shared by all tabs.

import { Problem, send } from "./http.js";
import * as store from "./store.js";

const KEY = "purveyor.session";
const RENEW_BEFORE_MS = 60_000;

/** Dispatches "change" on sign-in and sign-out in any tab. */
export const changes = new EventTarget();

const isSession = (value) => typeof value.user?.user_id === "string"
  && typeof value.access === "string" && Number.isFinite(value.renewAt);

const read = () => store.read(KEY, isSession);
const write = (session) => store.write(KEY, session);

/** The signed-in user, `{user_id, email, name, role, language}`, or `null`. */
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
  const profile = await send("GET", `/user/${user_id}`, { token: pair.access_token }).then((answer) => answer.json()).catch(() => ({}));
  write(withPair({ user: { user_id, email: verified.email, name, role, language: profile.language ?? "" } }, pair));
  changes.dispatchEvent(new Event("change"));
}

/** A new access token for the user's password, for a step that a forgotten open page must not allow. Throws `Problem`. */
export async function freshToken(password) {
  const answer = await send("POST", "/login", { body: { email: user().email, password } });
  return (await answer.json()).access_token;
}

/** End the session in this browser only. */
export function forget() {
  if (!read()) return;
  store.remove(KEY);
  changes.dispatchEvent(new Event("change"));
}

/** Sign out here and, if it can be reached, on the server. */
export async function signOut() {
  const session = read();
  forget();
  if (session) await send("POST", "/logout", { body: { refresh_token: session.refresh } }).catch(() => null);
}

/** Update what is remembered of the user's profile. */
export function update({ name, email, language, role }) {
  const session = read();
  if (!session) return; // signed out in the meantime
  write({ ...session, user: { ...session.user, name, email, language, role } });
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
  renewing ??= store.exclusively(KEY, () => renew(stale)).finally(() => { renewing = null; });
  return renewing;
}

/** A valid access token, or `null` if nobody is signed in. */
export async function token() {
  const session = read();
  if (!session) return null;
  return Date.now() < session.renewAt ? session.access : renewed(session.access);
}

store.watch(KEY, (now, before) => {
  if (now?.user?.user_id !== before?.user?.user_id) changes.dispatchEvent(new Event("change"));
});
