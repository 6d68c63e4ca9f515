/** The principles view: principles that the judge wrote itself, to make drift visible. */

import { el } from "../dom.js";
import { fixed, percent, plural } from "../format.js";
import { getJson } from "../http.js";
import { LINT_FLAGS } from "../labels.js";
import { bar, chip, choice, field, table } from "../parts/widgets.js";

export async function principlesView({ params, signal }) {
  const query = new URLSearchParams({ verdicts: params.get("verdicts") ?? 1000 });
  if (params.get("profile")) query.set("profile", params.get("profile"));
  const [observed, profiles] = await Promise.all([
    getJson(`v1/principles/observed?${query}`, signal),
    getJson("v1/profiles", signal),
  ]);
  return el("div", {},
    el("h1", {}, "Principles"),
    el("p.about", {}, "Principles that the judge wrote itself, with near-identical wordings grouped. The win rate is ",
      "how often a sample that states the principle ranks the verdict's best response first. Flags come from the ",
      "linter and mark principles that deserve a look."),
    filters(params, profiles),
    el("p", {}, `Over the last ${plural(observed.verdicts, "verdict")}, ${plural(observed.samples, "sample")}.`),
    observed.principles.length
      ? table("Most frequent first", COLUMNS, observed.principles)
      : el("p.note", {}, "The judge has not written any principles yet."));
}

const frequency = ({ count, share }) => [
  el("span.nowrap", {}, `${count} `, el("small", {}, percent(share))),
  bar(share),
];

const COLUMNS = [
  { name: "Principle", of: ({ text }) => el("span.whole", { dir: "auto" }, text) },
  { name: "Samples", numeric: true, of: frequency },
  { name: "Weight", numeric: true, of: ({ weight }) => fixed(weight) },
  { name: "Win rate", numeric: true, of: ({ win_rate: rate }) => percent(rate) },
  { name: "Query kinds", of: queryKinds },
  { name: "Flags", of: flagChips },
];

function queryKinds({ kinds }) {
  const sorted = Object.entries(kinds).sort((a, b) => b[1] - a[1]);
  return el("span", {}, sorted.map(([kind, n]) => chip(`${kind} ${n}`)));
}

function flagChips({ flags, unsound }) {
  return (flags.length > 0 || unsound > 0) && el("span", {},
    flags.map((flag) => chip(flag, LINT_FLAGS[flag], "warn")),
    unsound > 0 && chip(`unsound: ${unsound}`, "Reviews that marked it as unsound", "bad"));
}

function filters(params, profiles) {
  const profile = choice([["", "any"], ...profiles.map(({ name }) => [name, name])], params.get("profile") ?? "");
  const verdicts = choice(["100", "1000", "5000"].map((n) => [n, `last ${n}`]), params.get("verdicts") ?? "1000");
  return el("form.filters", {
    onsubmit(event) {
      event.preventDefault();
      location.hash = `#/principles?${new URLSearchParams({ verdicts: verdicts.value, profile: profile.value })}`;
    },
  },
  field("Verdicts", verdicts), field("Profile", profile), el("button.primary", {}, "Show"));
}
