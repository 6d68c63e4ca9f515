/** The error box: what happened, its code, what to do. */

import { el } from "../dom.js";
import { Problem } from "../http.js";
import { advice } from "../labels.js";

/** A box that describes a problem; with `onRetry`, it has a button to try again. */
export function problemBox(error, onRetry = null) {
  if (!(error instanceof Problem)) {
    console.error(error);
    error = new Problem({ title: "Internal page error", code: "page", detail: `${error}. See the browser console.` });
  }
  const fields = error.errors ?? [];
  return el("div.problem", { role: "alert" },
    el("h2", {}, error.title, " ", el("code", {}, error.code)),
    fields.length
      ? el("ul", {}, fields.map(({ field, message }) => el("li", {}, el("code", {}, field || "request"), " ", message)))
      : el("p", {}, error.detail),
    el("p.advice", {}, advice(error)),
    onRetry && el("button", { type: "button", onclick: onRetry }, "Try again"));
}
