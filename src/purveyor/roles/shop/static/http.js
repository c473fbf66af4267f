// JSON requests to the API; errors carry the problem document (RFC 9457).

import { t } from "./text.js";

const TIMEOUT_MS = 20_000;

/** An error response, or no response at all (`status` 0). */
export class Problem extends Error {
  constructor(status, document = {}, headers = new Headers()) {
    super(document.detail || document.title || t("Something went wrong"));
    this.status = status;
    this.code = (document.type ?? "").split("/").pop();
    this.title = document.title || t("Something went wrong");
    this.detail = document.detail || "";
    this.errors = document.errors ?? [];
    this.document = document;
    this.requestId = document.request_id ?? "";
    this.retryAfterS = Number(headers.get("Retry-After")) || 0;
  }

  /** Whether the same request may succeed later. */
  get temporary() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

const unreachable = () => ({ title: t("Cannot reach the shop"), detail: t("Check your internet connection and try again.") });

/** The URL of a path of this installation, which need not be at the root of its host. */
export const address = (path) => new URL(path.replace(/^\//, ""), document.baseURI);

/** Read the problem document of an error response. */
async function problemOf(response) {
  const document = await response.json().catch(() => ({ title: `Error ${response.status}` }));
  return new Problem(response.status, document, response.headers);
}

/** Send a request. Throws `Problem` for an error response or none. */
export async function send(method, path, { body, headers = {}, signal, token, timeoutMs = TIMEOUT_MS } = {}) {
  const all = new Headers(headers);
  if (body !== undefined) all.set("Content-Type", "application/json");
  if (token) all.set("Authorization", `Bearer ${token}`);
  const signals = [signal, timeoutMs && AbortSignal.timeout(timeoutMs)].filter(Boolean);
  let response;
  try {
    response = await fetch(address(path), {
      method,
      headers: all,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.any(signals),
      cache: "no-store",
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem(0, unreachable());
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}
