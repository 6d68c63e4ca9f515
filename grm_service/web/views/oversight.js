/** The oversight view: agreement between reviewers and the judge. */

import { el } from "../dom.js";
import { fixed, percent } from "../format.js";
import { getJson } from "../http.js";
import { downloadButton } from "../parts/download.js";
import { interval, overTime } from "../parts/plot.js";
import { table } from "../parts/widgets.js";

export async function oversightView({ signal }) {
  const { groups, over_time: weeks } = await getJson("v1/reviews/stats", signal);
  return el("div", {},
    el("h1", {}, "Oversight"),
    el("p.about", {}, "Agreement between reviewers and the judge on reviewed verdicts: how often both choose the ",
      "same best response, and Cohen's kappa, which corrects for chance (1: always the same, 0: no better than ",
      "chance), with its 95 % interval."),
    groups.length
      ? table("Agreement by profile and principles", GROUPS, groups)
      : el("p.note", {}, "No reviews yet. Open a verdict from the queue."),
    weeks.length > 0 && el("section", {}, el("h2", {}, "Over time"),
      weeks.length > 1 && kappaPlot(weeks),
      table("By week", WEEKS, weeks)),
    groups.length > 0 && el("section", {}, el("h2", {}, "Preference data"),
      el("p", {}, "The reviewed verdicts, in the format that training and grm eval read."),
      downloadButton("Save as JSON Lines", "v1/reviews/export", "reviewed.jsonl")));
}

function kappaPlot(weeks) {
  const label = weeks.map(({ from, kappa }) => `${from} ${fixed(kappa)}`).join(", ");
  const values = weeks.map(({ kappa, interval: ends }) => ({ value: kappa, ends }));
  return el("figure", {}, overTime(values, `Kappa by week: ${label}`),
    el("figcaption", {}, "Kappa by ISO week with its interval, from -1 to 1; the middle line is 0."));
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
const WEEKS = [{ name: "Week of", of: ({ from }) => from }, ...COUNTS];

function range({ kappa, interval: ends }) {
  if (kappa === null || !ends) return "undefined: too few reviews, or all are the same";
  const text = `${fixed(ends[0])} to ${fixed(ends[1])}`;
  return el("span.range", {}, interval(kappa, ends, text), el("small", {}, text));
}
