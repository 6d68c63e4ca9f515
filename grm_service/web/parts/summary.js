/** A verdict in a few lines. */

import { el } from "../dom.js";
import { fixed, letter, percent } from "../say.js";
import { chip, facts } from "./small.js";

/** Best response, ranking, agreement, cost. What each response got stands in the picture of the votes. */
export function summary(verdict) {
  const several = verdict.rewards.length > 1;
  return el("div.summary", {},
    el("p.best", {}, headline(verdict), " ", verdict.status === "partial"
      && chip("partial", "Not every sample that was taken could be counted.", "warn")),
    several && el("p.ranking", { title: "The ranking, best first" }, ranked(verdict.ranking)),
    facts([
      ["Ties", several ? verdict.ties.length || "none" : null],
      ["Agreement", verdict.agreement === null ? null : percent(verdict.agreement)],
      ["Samples", counted(verdict)],
      ["Tokens", `${verdict.usage.prompt_tokens} in, ${verdict.usage.completion_tokens} out`],
      ["Time", time(verdict.timing)],
    ]));
}

function headline({ best, rewards, ties }) {
  if (rewards.length === 1) return [el("strong", {}, fixed(rewards[0])), " for the one response"];
  if (best !== null) return ["Best: ", el("strong", {}, letter(best)), ` with ${fixed(rewards[best])}`];
  const top = Math.max(...rewards);
  const tied = ties.find((group) => rewards[group[0]] === top);
  return ["Tied at the top: ", el("strong", {}, tied.map(letter).join(" = "))];
}

function counted({ counted: n, k, samples, stopped }) {
  const closed = samples?.filter((sample) => sample.closed).length;
  return `${n} counted of ${k}${closed ? `, ${closed} closed` : ""}${stopped ? `, stopped early (${stopped})` : ""}`;
}

function time({ judge_s: judged, queue_s: waited }) {
  const inLine = waited > 0.05 ? ` after ${fixed(waited, 1)} s in line` : "";
  return `${fixed(judged, judged < 1 ? 2 : 1)} s${inLine}`;
}

/** Best first, equal ones with "=": "B > A = C". */
function ranked(ranking) {
  const order = ranking.map((_, i) => i).sort((a, b) => ranking[a] - ranking[b]);
  const sign = (at) => (ranking[order[at]] === ranking[order[at - 1]] ? " = " : " > ");
  return order.map((i, at) => (at ? sign(at) : "") + letter(i)).join("");
}
