/** One sample: what the model saw, what it wrote, whether it counted. */

import { el } from "../dom.js";
import { UNCOUNTED, letter, number, percent, plural, shown } from "../say.js";
import { scoresOf } from "../vote.js";
import { bar, chip, written } from "./small.js";

/** A sample that opens: its scores in a line, all of it below. */
export function sampleCard(sample, open = false) {
  const scores = scoresOf(sample);
  return el("details.sample", { open, "data-sample": sample.index },
    el("summary", {},
      el("span.name", {}, `Sample ${sample.index}`),
      el("span.scores", {}, scores
        ? scores.map((score, i) => score !== null
          && el("span", {}, `${letter(i)} `, el("strong", {}, number(score))))
        : el("em", {}, "not counted")),
      el("span.order", { title: "Which response stood at which position" }, sample.order.map(letter).join(" ")),
      scores && !sample.counted && chip("left out", "It was read, and is not in the vote.", "warn"),
      sample.closed && chip("closed", "The service finished an answer that ended without scores."),
      el("span.tokens", {}, plural(sample.completion_tokens, "token"))),
    sampleBody(sample));
}

/** All of a sample. */
export function sampleBody(sample) {
  return el("div.body", {},
    sample.error && el("p.uncounted", {}, el("strong", {}, "Did not count: "),
      UNCOUNTED[sample.error] ?? "it could not be read", " ", el("code", {}, sample.error)),
    el("p.seen", {}, `In the prompt, Response ${shown(sample.order)}. Seed ${sample.seed}`,
      sample.finish_reason === "length" ? ", cut at its token limit" : "",
      sample.grade === null ? "" : `, graded ${number(sample.grade)} by the meta RM`, "."),
    sample.principles.length > 0 && el("h4", {}, "Principles"),
    sample.principles.length > 0 && principleList(sample.principles),
    sample.analysis && el("h4", {}, "Critique"),
    sample.analysis && el("p.text", { dir: "auto" }, annotated(sample.analysis, sample.order)),
    el("details.raw", {}, el("summary", {}, "As the model wrote it"), written(sample.text)));
}

/** Principles with their weights. */
export function principleList(principles) {
  const heaviest = Math.max(...principles.map(({ weight }) => weight ?? 0));
  return el(`ul.principles${heaviest ? "" : ".unweighted"}`, {}, principles.map(({ text, weight }) => el("li", {},
    el("span.weight", {}, weight === null ? "" : percent(weight), weight !== null && bar(weight / (heaviest || 1))),
    el("span", { dir: "auto" }, text))));
}

/** The text, with the letter behind every "Response 2" that names a position. */
function annotated(text, order) {
  return text.split(/(\bResponse \d+)/).map((part) => {
    const place = /^Response (\d+)$/.exec(part);
    const response = place && order[place[1] - 1];
    return place && response !== undefined ? [part, el("span.who", {}, letter(response))] : part;
  });
}
