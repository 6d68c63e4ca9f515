/** HTTP requests to the server. Every failure is a Problem. */

import { key, requestKey } from "./key.js";

/** A failed request: the server's problem details (RFC 9457), or our own if there was no response. */
export class Problem extends Error {
  constructor(members, retryAfter = null) {
    super(members.detail);
    Object.assign(this, { status: 0, title: "No response", code: "unknown", retryable: false }, members);
    this.retryAfter = retryAfter;
  }

  /** True if the server does not have the route at all. */
  get missing() {
    return this.status === 404 && this.code === "not_found";
  }
}

/** The problem of a connection that broke before the response was complete. */
export const connectionLost = () => new Problem({
  title: "Connection lost",
  code: "connection_lost",
  detail: "The server did not respond, or the connection broke before the response was complete.",
  retryable: true,
});

export async function getJson(path, signal) {
  return parseJson(await send(path, { signal }));
}

export async function postJson(path, body) {
  return parseJson(await send(path, { method: "POST", body: JSON.stringify(body) }));
}

export async function getBlob(path) {
  return network((await send(path, {})).blob());
}

/** Sends a request and returns a successful response. Prompts for an API key if the server requires one. */
export async function send(path, { method = "GET", body, signal, accept = "application/json" }) {
  for (let presented = key(); ;) {
    const headers = { Accept: accept };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (presented) headers.Authorization = `Bearer ${presented}`;
    const response = await network(fetch(path, { method, body, headers, signal, redirect: "error" }));
    if (response.ok) return response;
    const problem = await toProblem(response);
    if (response.status !== 401) throw problem;
    presented = await requestKey(presented);
    if (!presented) throw problem;
  }
}

/** Awaits a network operation. A broken connection becomes a Problem; an abort by the user is rethrown. */
export async function network(promise) {
  try {
    return await promise;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw connectionLost();
  }
}

async function parseJson(response) {
  return network(response.json());
}

async function toProblem(response) {
  const retryAfter = Number(response.headers.get("Retry-After")) || null;
  try {
    return new Problem({ status: response.status, ...(await response.json()) }, retryAfter);
  } catch {
    const detail = "The response did not come from the service but from something in between, such as a proxy.";
    return new Problem({ status: response.status, title: `Status ${response.status}`, detail }, retryAfter);
  }
}
