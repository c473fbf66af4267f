// API requests of the signed-in user. A request answered with 401 is repeated once with a renewed token.

import { Problem, send } from "./http.js";
import * as session from "./session.js";

/** Send a request with the user's token and return the `Response`. Throws `Problem`. */
export async function request(method, path, options = {}) {
  const token = await session.token();
  try {
    return await send(method, path, { ...options, token });
  } catch (error) {
    if (!(error instanceof Problem) || error.status !== 401 || !token) throw error;
    const fresh = await session.renewed(token);
    if (!fresh || fresh === token) throw error;
    return send(method, path, { ...options, token: fresh });
  }
}

async function json(method, path, options) {
  const response = await request(method, path, options);
  return response.status === 204 ? null : response.json();
}

export const get = (path, options) => json("GET", path, options);
export const post = (path, body, options) => json("POST", path, { ...options, body });
export const patch = (path, body, options) => json("PATCH", path, { ...options, body });

/** Read the user's profile again: somebody else may have changed the role. */
export async function readProfile() {
  const user = session.user();
  if (user) session.update(await get(`/user/${user.user_id}`));
}

/** Append the non-empty values to a path as a query string. */
export function withQuery(path, values) {
  const query = new URLSearchParams(Object.entries(values).filter(([, value]) => value !== "" && value != null));
  return query.size ? `${path}?${query}` : path;
}
