/** The principles that the judge wrote for itself, so that drift shows. */

import { el } from "../dom.js";
import { getJson } from "../http.js";
import { bar, chip, choice, field, table } from "../parts/small.js";
import { FLAGS, fixed, percent, plural } from "../say.js";

export async function principles({ params, signal }) {
  const wanted = new URLSearchParams({ verdicts: params.get("verdicts") ?? 1000 });
  if (params.get("profile")) wanted.set("profile", params.get("profile"));
  const [seen, profiles] = await Promise.all([
    getJson(`v1/principles/observed?${wanted}`, signal),
    getJson("v1/profiles", signal),
  ]);
  return el("div", {},
    el("h1", {}, "Principles"),
    el("p.about", {}, "What the judge wrote for itself to judge by, near-identical wordings together. The win rate is ",
      "how often a sample that stated it put the verdict's best response on top; flags are the linter's, and ask for a ",
      "look."),
    filters(params, profiles),
    el("p", {}, `In the last ${plural(seen.verdicts, "verdict")}, ${plural(seen.samples, "sample")}.`),
    seen.principles.length
      ? table("Most frequent first", COLUMNS, seen.principles)
      : el("p.note", {}, "The judge has written no principle yet."));
}

const often = ({ count, share }) => [
  el("span.nowrap", {}, `${count} `, el("small", {}, percent(share))),
  bar(share),
];

const COLUMNS = [
  { name: "Principle", of: ({ text }) => el("span.whole", { dir: "auto" }, text) },
  { name: "Samples", numeric: true, of: often },
  { name: "Weight", numeric: true, of: ({ weight }) => fixed(weight) },
  { name: "Win rate", numeric: true, of: ({ win_rate: rate }) => percent(rate) },
  { name: "Queries", of: asked },
  { name: "Flags", of: marks },
];

function asked({ kinds }) {
  const most = Object.entries(kinds).sort((a, b) => b[1] - a[1]);
  return el("span", {}, most.map(([kind, n]) => chip(`${kind} ${n}`)));
}

function marks({ flags, unsound }) {
  return (flags.length > 0 || unsound > 0) && el("span", {},
    flags.map((flag) => chip(flag, FLAGS[flag], "warn")),
    unsound > 0 && chip(`unsound: ${unsound}`, "So many reviews found it unsound", "bad"));
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
