/** Errors for people: what happened, its code, what to do. */

import { el } from "../dom.js";
import { Problem } from "../http.js";
import { advice } from "../say.js";

/** A box that tells a problem; with `again`, a button that tries again. */
export function problemBox(error, again = null) {
  if (!(error instanceof Problem)) {
    console.error(error);
    error = new Problem({ title: "The page failed", code: "page", detail: `${error}; the browser's console has it.` });
  }
  const fields = error.errors ?? [];
  return el("div.problem", { role: "alert" },
    el("h2", {}, error.title, " ", el("code", {}, error.code)),
    fields.length
      ? el("ul", {}, fields.map(({ field, message }) => el("li", {}, el("code", {}, field || "request"), " ", message)))
      : el("p", {}, error.detail),
    el("p.do", {}, advice(error)),
    again && el("button", { type: "button", onclick: again }, "Try again"));
}
