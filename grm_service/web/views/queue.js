/** The queue view: verdicts to review, highest priority first. */

import { el } from "../dom.js";
import { localTime, number, percent } from "../format.js";
import { getJson } from "../http.js";
import { reasonChips, table } from "../parts/widgets.js";
import { link, rewards } from "./verdicts.js";

export async function queueView({ signal }) {
  const { items } = await getJson("v1/reviews/queue?limit=50", signal);
  return el("div", {},
    el("h1", {}, "Queue"),
    el("p.about", {}, "Unreviewed verdicts that a person should look at: the vote is close, the samples disagree, a ",
      "sample could not be read, or a principle is flagged."),
    items.length
      ? table("Highest priority first", COLUMNS, items)
      : el("p.note", {}, "No verdicts are waiting for a review."));
}

const COLUMNS = [
  { name: "Priority", numeric: true, of: ({ worth }) => el("strong", {}, number(worth, 1)) },
  { name: "Query", of: link },
  { name: "Reasons", of: ({ reasons }) => reasonChips(reasons) },
  { name: "Rewards", of: rewards },
  { name: "Agreement", numeric: true, of: ({ agreement }) => percent(agreement) },
  { name: "Created", of: ({ created }) => el("time", { datetime: created }, localTime(created)) },
];
