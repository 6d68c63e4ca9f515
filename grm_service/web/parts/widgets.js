/** Small widgets shared by all views. */

import { el } from "../dom.js";
import { REVIEW_REASONS } from "../labels.js";

/** A short label; `title` is its tooltip. */
export function chip(text, title = null, kind = "") {
  return el(`span.chip${kind && `.${kind}`}`, { title }, text);
}

export const reasonChips = (reasons) => reasons.length > 0 && el("span", {}, reasons.map((reason) => {
  const [label, explanation] = REVIEW_REASONS[reason] ?? [reason.replaceAll("_", " ")];
  return chip(label, explanation, "warn");
}));

/** A list of names and values; pairs without a value are omitted. */
export function facts(pairs) {
  const present = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el("dl.facts", {}, present.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

/** A text exactly as the model or a user wrote it; null if the server does not store texts. */
export function plainText(text) {
  if (text === null || text === undefined) return el("p.text.absent", {}, "not stored on this server");
  return text === "" ? el("p.text.absent", {}, "empty") : el("p.text", { dir: "auto" }, text);
}

/**
 * A table; on a narrow screen its rows become cards. `columns`: {name, of: row => cell, numeric}.
 */
export function table(caption, columns, rows) {
  const head = ({ name, numeric }) => el(`th${numeric ? ".number" : ""}`, { scope: "col" }, name);
  const cell = ({ name, numeric, of }, row) => el(`td${numeric ? ".number" : ""}`, { "data-name": name }, of(row));
  return el("table.list", {},
    el("caption", {}, caption),
    el("thead", {}, el("tr", {}, columns.map(head))),
    el("tbody", {}, rows.map((row) => el("tr", {}, columns.map((column) => cell(column, row))))));
}

/** A table of numbers: `heads` are the column headers, each row is [header, number, ..]. */
export function matrix(heads, rows) {
  return el("table.matrix", {},
    el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))),
    el("tbody", {}, rows.map(([head, ...cells]) => el("tr", {},
      el("th", { scope: "row" }, head),
      cells.map((cell) => el("td", {}, cell))))));
}

/** A bar for a share in 0..1, with an optional line at `mark`. */
export function bar(share, mark = null) {
  const meter = el("span.bar", { "aria-hidden": "true" }, el("span"), mark !== null && el("i"));
  meter.firstChild.style.width = `${100 * share}%`;
  if (mark !== null) meter.lastChild.style.left = `${100 * mark}%`;
  return meter;
}

/** A button that copies a text to the clipboard. */
export function copyButton(text, label = "Copy") {
  return el("button.small", {
    type: "button",
    async onclick() {
      await navigator.clipboard.writeText(text);
      this.textContent = "Copied";
      setTimeout(() => { this.textContent = label; }, 1500);
    },
  }, label);
}

let fieldCount = 0;

/** A labelled control with an optional hint. */
export function field(label, control, hint = null) {
  control.id = `field-${fieldCount += 1}`;
  if (hint) control.setAttribute("aria-describedby", `${control.id}-hint`);
  return el("div.field", {},
    el("label", { for: control.id }, label),
    control,
    hint && el("small", { id: `${control.id}-hint` }, hint));
}

/** A select of [value, label] pairs. */
export const choice = (options, value, attributes = {}) => el("select", { ...attributes, value },
  options.map(([optionValue, label]) => el("option", { value: optionValue }, label)));
