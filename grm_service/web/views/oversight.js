/** How far people and the judge agree. */

import { el } from "../dom.js";
import { getJson } from "../http.js";
import { interval, overTime } from "../parts/plot.js";
import { saveButton } from "../parts/save.js";
import { table } from "../parts/small.js";
import { fixed, percent } from "../say.js";

export async function oversight({ signal }) {
  const { groups, over_time: weeks } = await getJson("v1/reviews/stats", signal);
  return el("div", {},
    el("h1", {}, "Oversight"),
    el("p.about", {}, "Where people reviewed a verdict: how often they would have chosen the same best response, and ",
      "Cohen's kappa, which takes off what chance alone would give (1: always the same, 0: no more than by chance), ",
      "with its 95 % interval."),
    groups.length
      ? table("Agreement by profile and principles", GROUPS, groups)
      : el("p.note", {}, "No review yet: open a verdict of the queue."),
    weeks.length > 0 && el("section", {}, el("h2", {}, "Over time"),
      weeks.length > 1 && picture(weeks),
      table("By week", WEEKS, weeks)),
    groups.length > 0 && el("section", {}, el("h2", {}, "As preference data"),
      el("p", {}, "What people reviewed, in the format that training and grm eval read."),
      saveButton("Save as JSON Lines", "v1/reviews/export", "reviewed.jsonl")));
}

function picture(weeks) {
  const label = weeks.map(({ from, kappa }) => `${from} ${fixed(kappa)}`).join(", ");
  const values = weeks.map(({ kappa, interval: ends }) => ({ value: kappa, ends }));
  return el("figure", {}, overTime(values, `Kappa by week: ${label}`),
    el("figcaption", {}, "Kappa by ISO week with its interval, from -1 to 1; the line in the middle is 0."));
}

const rate = ({ agreed, reviews }) => percent(reviews ? agreed / reviews : null);
const COUNTS = [
  { name: "Reviews", numeric: true, of: ({ reviews }) => reviews },
  { name: "Agreed", numeric: true, of: rate },
  { name: "Kappa", numeric: true, of: ({ kappa }) => fixed(kappa) },
];
const GROUPS = [
  { name: "Profile", of: ({ profile }) => profile },
  { name: "Principles", of: ({ principles }) => principles },
  ...COUNTS,
  { name: "95 % interval", of: range },
];
const WEEKS = [{ name: "Week from", of: ({ from }) => from }, ...COUNTS];

function range({ kappa, interval: ends }) {
  if (kappa === null || !ends) return "not defined: too few reviews, or all say the same";
  const says = `${fixed(ends[0])} to ${fixed(ends[1])}`;
  return el("span.range", {}, interval(kappa, ends, says), el("small", {}, says));
}
