/** Side-by-side comparison of two samples. */

import { el, show } from "../dom.js";
import { letter, number } from "../format.js";
import { scoresOf } from "../vote.js";
import { sampleBody } from "./sample.js";
import { choice, field, matrix } from "./widgets.js";

/** Comparison of two samples, initially the two that differ most. */
export function compare(samples) {
  const options = samples.map(({ index }, i) => [i, `Sample ${index}`]);
  const [left, right] = mostDifferent(samples).map((i) => choice(options, i));
  const sides = el("div.sides");
  const draw = () => show(sides, difference(samples[left.value], samples[right.value]),
    [left, right].map((select) => samples[select.value]).map((sample) => el("section",
      { "aria-label": `Sample ${sample.index}` }, el("h3", {}, `Sample ${sample.index}`), sampleBody(sample))));
  for (const select of [left, right]) select.addEventListener("change", draw);
  draw();
  return el("div.compare", {}, el("div.pair", {}, field("Left", left), field("Right", right)), sides);
}

function difference(a, b) {
  const [left, right] = [scoresOf(a), scoresOf(b)];
  const responses = (left ?? right ?? []).map((_, i) => i);
  return matrix(["", `Sample ${a.index}`, `Sample ${b.index}`, "difference"], responses.map((i) => [
    letter(i), number(left?.[i]), number(right?.[i]), bothScored(left, right, i) ? signed(right[i] - left[i]) : "–",
  ]));
}

/** True if both samples have a score for response i. */
const bothScored = (left, right, i) => typeof left?.[i] === "number" && typeof right?.[i] === "number";

const signed = (value) => (value > 0 ? `+${number(value)}` : number(value));

function mostDifferent(samples) {
  let [pair, largest] = [[0, 1], -1];
  samples.forEach((a, i) => samples.slice(0, i).forEach((b, j) => {
    if (distance(a, b) > largest) [pair, largest] = [[j, i], distance(a, b)];
  }));
  return pair;
}

function distance(a, b) {
  const [left, right] = [scoresOf(a), scoresOf(b)];
  if (!left || !right) return -1;
  return left.reduce((sum, score, i) => sum + (bothScored(left, right, i) ? Math.abs(score - right[i]) : 0), 0);
}
