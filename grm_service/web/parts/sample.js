/** A sample: its order, scores, principles, critique and raw output. */

import { el } from "../dom.js";
import { letter, number, percent, plural, positions } from "../format.js";
import { SAMPLE_ERRORS } from "../labels.js";
import { scoresOf } from "../vote.js";
import { bar, chip, plainText } from "./widgets.js";

/** A collapsible card: scores in the summary line, everything else below it. */
export function sampleCard(sample, open = false) {
  const scores = scoresOf(sample);
  return el("details.sample", { open, "data-sample": sample.index },
    el("summary", {},
      el("span.name", {}, `Sample ${sample.index}`),
      el("span.scores", {}, scores
        ? scores.map((score, i) => score !== null
          && el("span", {}, `${letter(i)} `, el("strong", {}, number(score))))
        : el("em", {}, "not counted")),
      el("span.order", { title: "The responses in prompt order" }, sample.order.map(letter).join(" ")),
      scores && !sample.counted && chip("not in the vote", "Readable, but left out of the vote.", "warn"),
      sample.thinking_cut && chip("cut", "The thinking did not end.", "warn"),
      sample.closed && chip("closed", "The service completed the output."),
      sample.soft_error && chip("no soft score", "The written scores are voted.", "warn"),
      el("span.tokens", {}, sample.completion_tokens === null ? "tokens unknown" : plural(sample.completion_tokens, "token"))),
    sampleBody(sample));
}

/** All details of a sample. */
export function sampleBody(sample) {
  return el("div.body", {},
    sample.error && el("p.uncounted", {}, el("strong", {}, "Not counted: "),
      reason(sample.error)),
    sample.closed_reason && el("p.reason", {}, el("strong", {}, "Closed by the service: "), reason(sample.closed_reason)),
    sample.soft_error && el("p.reason", {}, el("strong", {}, "No soft score, the written scores are voted: "),
      reason(sample.soft_error)),
    el("p.details", {}, `In the prompt, Response ${positions(sample.order)}. Seed ${sample.seed}`,
      sample.finish_reason === "length" ? ", cut at the token limit" : "",
      sample.grade === null ? "" : `, graded ${number(sample.grade)} by the meta RM`, "."),
    sample.thinking && el("details.thinking", {},
      el("summary", {}, `Thinking (${plural(sample.thinking.length, "character")})`), plainText(sample.thinking)),
    sample.principles.length > 0 && el("h4", {}, "Principles"),
    sample.principles.length > 0 && principleList(sample.principles),
    sample.analysis && el("h4", {}, "Critique"),
    sample.analysis && el("p.text", { dir: "auto" }, annotated(sample.analysis, sample.order)),
    el("details.raw", {}, el("summary", {}, "Raw output"), plainText(sample.text)));
}

/** A code of the API in words. */
const reason = (code) => [SAMPLE_ERRORS[code] ?? "it could not be read", " ", el("code", {}, code)];

/** Principles with their weights, as bars relative to the heaviest. */
export function principleList(principles) {
  const heaviest = Math.max(...principles.map(({ weight }) => weight ?? 0));
  return el(`ul.principles${heaviest ? "" : ".unweighted"}`, {}, principles.map(({ text, weight }) => el("li", {},
    el("span.weight", {}, weight === null ? "" : percent(weight), weight !== null && bar(weight / (heaviest || 1))),
    el("span", { dir: "auto" }, text))));
}

/** The critique, with the letter of the response after each mention of a position such as "Response 2". */
function annotated(text, order) {
  return text.split(/(\bResponse \d+)/).map((part) => {
    const mention = /^Response (\d+)$/.exec(part);
    const response = mention && order[mention[1] - 1];
    return mention && response !== undefined ? [part, el("span.response-letter", {}, letter(response))] : part;
  });
}
