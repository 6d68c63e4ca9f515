/** A picture of the votes: scores per response per sample, the running vote and how sure it is. */

import { el, show } from "../dom.js";
import { fixed, letter, number } from "../say.js";
import { given, lead, mean, running, scoresOf, support } from "../vote.js";
import { strip, trace } from "./plot.js";
import { matrix } from "./small.js";

/**
 * Shows the votes on responses (texts); `update(samples, k, scale, verdict)` draws them anew, the verdict once it is
 * there. `pick` is told which sample the user points at.
 */
export function votes(responses, pick) {
  const says = el("p.lead");
  const rows = el("ol.votes");
  const all = el("details.scores", {}, el("summary", {}, "All scores as a table"), el("div.scroll"));
  const node = el("figure.vote", {}, says, rows, el("figcaption", {},
    "A dot is the score that one sample gave, from the first sample down to the last. The line is the mean, the band ",
    "its standard error (±). On the right: how the mean went as samples came in."), all);

  function update(samples, k, scale, verdict = null) {
    const counted = samples.filter((sample) => sample.counted);
    says.textContent = sentence(counted.map(scoresOf), k);
    show(rows, responses.map((text, i) => row(i, text, counted, { k, scale, verdict, pick })), axis(scale));
    show(all.lastChild, matrix(["sample", ...responses.map((_, i) => letter(i))],
      samples.map((sample) => [sample.index, ...responses.map((_, i) => number(scoresOf(sample)?.[i]))])));
  }
  return { node, update };
}

function row(i, text, samples, { k, scale, verdict, pick }) {
  const seen = samples.filter((sample) => scoresOf(sample)[i] !== null);
  const scores = seen.map((sample) => scoresOf(sample)[i]);
  const vote = scores.length ? mean(scores) : null;
  const rank = verdict?.ranking[i];
  const dots = seen.map((sample, n) => ({ index: sample.index, score: scores[n] }));
  const label = `Response ${letter(i)}: scores ${scores.map((score) => number(score)).join(", ") || "none yet"}`;
  return el(`li${rank === 1 ? ".best" : ""}`, {},
    el("span.name", { title: `index ${i} in the API` }, letter(i)),
    el("span.what", { dir: "auto" }, text || "empty"),
    el("span.plots", {}, strip(dots, vote, k, scale, label, pick), trace(running(scores), k, scale)),
    el("span.reward", {}, el("strong", {}, fixed(verdict?.rewards[i] ?? vote?.mean)), el("small", {}, `± ${fixed(vote?.error)}`),
      verdict && el("small", {}, `std ${fixed(verdict.std[i])}`)),
    el("span.rank", {}, rank && `#${rank}`));
}

function axis([low, high]) {
  return el("li.axis", { "aria-hidden": "true" }, el("span"), el("span"),
    el("span.plots", {}, el("span", {}, el("span", {}, low), el("span", {}, high)), el("span.trace")),
    el("span"), el("span"));
}

function sentence(rows, k) {
  if (!rows.length) return `Nothing to vote on yet: 0 of ${k} samples.`;
  const after = `after ${rows.length} of ${k} samples`;
  if (rows[0].length === 1) return `Mean score ${fixed(mean(rows.map(([score]) => score)).mean)} ${after}.`;
  const { best, second, mean: by, error } = lead(rows);
  if (best === null) return `The top is tied ${after}.`;
  const sure = error === null ? "" : ` ± ${fixed(error)}`;
  return `${letter(best)} leads ${letter(second)} by ${fixed(by)}${sure} ${after}; `
    + `${number(support(rows, best), 1)} of ${given(rows.map((row) => row[best])).length} put it on top.`;
}
