/** The summary of a verdict. */

import { el } from "../dom.js";
import { fixed, letter, number, percent } from "../format.js";
import { chip, facts } from "./widgets.js";

/** Best response, ranking, agreement and cost. The reward of each response is in the vote plot. */
export function summary(verdict) {
  const multiple = verdict.rewards.length > 1;
  return el("div.summary", {},
    el("p.best", {}, headline(verdict), " ", verdict.status === "partial"
      && chip("partial", "Not all samples could be counted.", "warn")),
    multiple && el("p.ranking", { title: "Ranking, best first" }, rankingText(verdict.ranking)),
    facts([
      ["Ties", multiple ? verdict.ties.length || "none" : null],
      ["Agreement", verdict.agreement === null ? null : percent(verdict.agreement)],
      ["Samples", sampleCounts(verdict)],
      ["Tokens", `${number(verdict.usage.prompt_tokens)} in, ${number(verdict.usage.completion_tokens)} out`],
      ["Time", timeText(verdict.timing)],
    ]));
}

function headline({ best, rewards, ties }) {
  if (rewards.length === 1) return [el("strong", {}, fixed(rewards[0])), " for the only response"];
  if (best !== null) return ["Best: ", el("strong", {}, letter(best)), ` with ${fixed(rewards[best])}`];
  const top = Math.max(...rewards);
  const tied = ties.find((group) => rewards[group[0]] === top);
  return ["Tied at the top: ", el("strong", {}, tied.map(letter).join(" = "))];
}

function sampleCounts({ counted, k, samples, stopped }) {
  const closed = samples.filter((sample) => sample.closed).length;
  const early = stopped && `, stopped early (${stopped}, k = ${k})`;
  return `${counted} of ${samples.length} counted${closed ? `, ${closed} closed` : ""}${early || ""}`;
}

function timeText({ judge_s: judging, queue_s: queued }) {
  const queue = queued > 0.05 ? `, after ${fixed(queued, 1)} s in the queue` : "";
  return `${fixed(judging, judging < 1 ? 2 : 1)} s${queue}`;
}

/** The ranking, best first, with "=" for ties: "B > A = C". */
function rankingText(ranking) {
  const order = ranking.map((_, i) => i).sort((a, b) => ranking[a] - ranking[b]);
  const separator = (n) => (ranking[order[n]] === ranking[order[n - 1]] ? " = " : " > ");
  return order.map((i, n) => (n ? separator(n) : "") + letter(i)).join("");
}
