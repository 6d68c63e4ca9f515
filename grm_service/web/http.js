/** Asks the server. What goes wrong is a Problem, whatever the reason. */

import { askKey, key } from "./key.js";

/** What went wrong, as the server's problem details say it (RFC 9457), or as we do where no answer came. */
export class Problem extends Error {
  constructor(members, retryAfter = null) {
    super(members.detail);
    Object.assign(this, { status: 0, title: "No answer", code: "unknown", retryable: false }, members, { retryAfter });
  }

  /** Whether this server has no such route at all. */
  get missing() {
    return this.status === 404 && this.code === "not_found";
  }
}

/** The connection broke before the answer was whole. */
export const lost = () => new Problem({
  title: "Connection lost",
  code: "connection_lost",
  detail: "The server does not answer, or stopped in the middle.",
  retryable: true,
});

export async function getJson(path, signal) {
  return whole(await ask(path, { signal }));
}

export async function postJson(path, body) {
  return whole(await ask(path, { method: "POST", body: JSON.stringify(body) }));
}

/** The answer's bytes. */
export async function getBlob(path) {
  return reading((await ask(path, {})).blob());
}

/** The response to a request that went well. Asks the user for a key where the server wants one. */
export async function ask(path, { method = "GET", body, signal, accept = "application/json" }) {
  for (let presented = key(); ;) {
    const headers = { Accept: accept };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (presented) headers.Authorization = `Bearer ${presented}`;
    const response = await reading(fetch(path, { method, body, headers, signal, redirect: "error" }));
    if (response.ok) return response;
    const problem = await problemOf(response);
    if (response.status !== 401) throw problem;
    presented = await askKey(presented);
    if (!presented) throw problem;
  }
}

/** The promise's value, where a broken connection is a Problem; that the user cancelled stays as it is. */
export async function reading(promise) {
  try {
    return await promise;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw lost();
  }
}

async function whole(response) {
  return reading(response.json());
}

async function problemOf(response) {
  const retryAfter = Number(response.headers.get("Retry-After")) || null;
  try {
    return new Problem({ status: response.status, ...(await response.json()) }, retryAfter);
  } catch {
    const detail = "Something between this page and the service answered in its place.";
    return new Problem({ status: response.status, title: `Status ${response.status}`, detail }, retryAfter);
  }
}
