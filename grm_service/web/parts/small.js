/** Small things that every view shows alike. */

import { el } from "../dom.js";
import { REASONS } from "../say.js";

/** A mark of a few words; `title` says more. */
export function chip(text, title = null, kind = "") {
  return el(`span.chip${kind && `.${kind}`}`, { title }, text);
}

export const reasonChips = (reasons) => reasons.length > 0 && el("span", {}, reasons.map((reason) => {
  const [word, why] = REASONS[reason] ?? [reason.replaceAll("_", " ")];
  return chip(word, why, "warn");
}));

/** Names and values; pairs whose value is null are left out. */
export function facts(pairs) {
  const kept = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el("dl.facts", {}, kept.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

/** A text as somebody wrote it. Null where the server keeps no texts. */
export function written(text) {
  if (text === null || text === undefined) return el("p.text.absent", {}, "not kept on this server");
  return text === "" ? el("p.text.absent", {}, "empty") : el("p.text", { dir: "auto" }, text);
}

/**
 * A table that becomes a list of cards on a narrow screen. `columns`: {name, of: row => cell, numeric}.
 */
export function table(caption, columns, rows) {
  const head = ({ name, numeric }) => el(`th${numeric ? ".number" : ""}`, { scope: "col" }, name);
  const cell = ({ name, numeric, of }, row) => el(`td${numeric ? ".number" : ""}`, { "data-name": name }, of(row));
  return el("table.list", {},
    el("caption", {}, caption),
    el("thead", {}, el("tr", {}, columns.map(head))),
    el("tbody", {}, rows.map((row) => el("tr", {}, columns.map((column) => cell(column, row))))));
}

/** A table of numbers: `heads` over the columns, rows of [head, number, ..]. */
export function matrix(heads, rows) {
  return el("table.matrix", {},
    el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))),
    el("tbody", {}, rows.map(([head, ...cells]) => el("tr", {},
      el("th", { scope: "row" }, head),
      cells.map((cell) => el("td", {}, cell))))));
}

/** A bar for a share of 0..1, with a line at `mark` where there is one. */
export function bar(share, mark = null) {
  const meter = el("span.bar", { "aria-hidden": "true" }, el("span"), mark !== null && el("i"));
  meter.firstChild.style.width = `${100 * share}%`;
  if (mark !== null) meter.lastChild.style.left = `${100 * mark}%`;
  return meter;
}

/** Copies a text; says so on the button. */
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

let used = 0;

/** A labelled control; `hint` says what it means. */
export function field(label, control, hint = null) {
  control.id = `field-${used += 1}`;
  if (hint) control.setAttribute("aria-describedby", `${control.id}-hint`);
  return el("div.field", {},
    el("label", { for: control.id }, label),
    control,
    hint && el("small", { id: `${control.id}-hint` }, hint));
}

/** A select of [value, label] pairs. */
export const choice = (options, value, attributes = {}) => el("select", { ...attributes, value },
  options.map(([of, label]) => el("option", { value: of }, label)));
