/** The vote plot: the scores of every response, the running mean and its standard error. */

import { el, show } from "../dom.js";
import { fixed, letter, number, percent, plural } from "../format.js";
import { mean, running, scoresOf } from "../vote.js";
import { strip, trace } from "./plot.js";
import { matrix } from "./widgets.js";

/**
 * The plot for responses (texts); `update(samples, planned, scale, verdict)` redraws it, without a verdict while the
 * planned samples arrive. Its result is the verdict's. `onPick(index)` is called with the sample that the user clicks.
 */
export function votes(responses, onPick) {
  const sentence = el("p.lead");
  const rows = el("ol.votes");
  const all = el("details.scores", {}, el("summary", {}, "All scores as a table"), el("div.scroll"));
  const node = el("figure.vote", {}, sentence, rows, el("figcaption", {},
    "Each dot is the score of one sample, with the first sample at the top. The line is the mean, the band its ",
    "standard error (±). On the right: the running mean."), all);

  function update(samples, planned, scale, verdict = null) {
    const counted = samples.filter((sample) => sample.counted);
    sentence.textContent = verdict ? leadText(verdict, counted.length) : `${counted.length} of ${planned} samples.`;
    show(rows, responses.map((text, i) => row(i, text, counted, { planned, scale, verdict, onPick })), axis(scale));
    show(all.lastChild, matrix(["sample", ...responses.map((_, i) => letter(i))],
      samples.map((sample) => [sample.index, ...responses.map((_, i) => number(scoresOf(sample)?.[i]))])));
  }
  return { node, update };
}

function row(i, text, samples, { planned, scale, verdict, onPick }) {
  const scored = samples.filter((sample) => scoresOf(sample)[i] !== null);
  const scores = scored.map((sample) => scoresOf(sample)[i]);
  const vote = scores.length ? { ...mean(scores), ...(verdict && { mean: verdict.rewards[i] }) } : null;
  const rank = verdict?.ranking[i];
  const dots = scored.map((sample, n) => ({ index: sample.index, score: scores[n] }));
  const label = `Response ${letter(i)}: scores ${scores.map((score) => number(score)).join(", ") || "none yet"}`;
  return el(`li${rank === 1 ? ".best" : ""}`, {},
    el("span.name", { title: `index ${i} in the API` }, letter(i)),
    el("span.excerpt", { dir: "auto" }, text || "empty"),
    el("span.plots", {}, strip(dots, vote, planned, scale, label, onPick), trace(running(scores), planned, scale)),
    el("span.reward", {}, el("strong", {}, fixed(vote?.mean)), el("small", {}, `± ${fixed(vote?.error)}`),
      verdict && el("small", {}, `std ${fixed(verdict.std[i])}`)),
    el("span.rank", {}, rank && `#${rank}`));
}

function axis([low, high]) {
  return el("li.axis", { "aria-hidden": "true" }, el("span"), el("span"),
    el("span.plots", {}, el("span", {}, el("span", {}, low), el("span", {}, high)), el("span.trace")),
    el("span"), el("span"));
}

function leadText({ rewards, best, ranking, agreement }, n) {
  const after = `after ${plural(n, "sample")}`;
  if (rewards.length === 1) return `Mean score ${fixed(rewards[0])} ${after}.`;
  if (best === null) return `There is a tie at the top ${after}.`;
  const second = ranking.indexOf(2);
  return `${letter(best)} leads ${letter(second)} by ${fixed(rewards[best] - rewards[second])} ${after}; `
    + `${percent(agreement)} of them rank it first.`;
}
