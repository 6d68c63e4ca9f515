/** What a person should look at, most worth it first. */

import { el } from "../dom.js";
import { getJson } from "../http.js";
import { reasonChips, table } from "../parts/small.js";
import { number, percent, when } from "../say.js";
import { link, rewards } from "./verdicts.js";

export async function queue({ signal }) {
  const { items } = await getJson("v1/reviews/queue?limit=50", signal);
  return el("div", {},
    el("h1", {}, "Queue"),
    el("p.about", {}, "Verdicts that nobody has reviewed and that are worth a look: where the vote is close or the ",
      "samples disagree, where one could not be read, where a principle is flagged."),
    items.length ? table("Most worth a look first", COLUMNS, items) : el("p.note", {}, "Nothing waits for a review."));
}

const COLUMNS = [
  { name: "Worth", numeric: true, of: ({ worth }) => el("strong", {}, number(worth, 1)) },
  { name: "Query", of: link },
  { name: "Why", of: ({ reasons }) => reasonChips(reasons) },
  { name: "Rewards", of: rewards },
  { name: "Agreement", numeric: true, of: ({ agreement }) => percent(agreement) },
  { name: "When", of: ({ created }) => el("time", { datetime: created }, when(created)) },
];
