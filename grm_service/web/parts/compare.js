/** Two samples of a verdict, side by side. */

import { el, show } from "../dom.js";
import { letter, number } from "../say.js";
import { scoresOf } from "../vote.js";
import { sampleBody } from "./sample.js";
import { choice, field, matrix } from "./small.js";

/** Begins with the two that differ most. */
export function compare(samples) {
  const options = samples.map(({ index }, i) => [i, `Sample ${index}`]);
  const [left, right] = furthest(samples).map((i) => choice(options, i));
  const sides = el("div.sides");
  const draw = () => show(sides, difference(samples[left.value], samples[right.value]),
    [left, right].map((at) => el("section", { "aria-label": `Sample ${samples[at.value].index}` },
      el("h3", {}, `Sample ${samples[at.value].index}`), sampleBody(samples[at.value]))));
  for (const each of [left, right]) each.addEventListener("change", draw);
  draw();
  return el("div.compare", {}, el("div.pair", {}, field("Left", left), field("Right", right)), sides);
}

function difference(a, b) {
  const [left, right] = [scoresOf(a), scoresOf(b)];
  const all = (left ?? right ?? []).map((_, i) => i);
  return matrix(["", `Sample ${a.index}`, `Sample ${b.index}`, "difference"], all.map((i) => [
    letter(i), number(left?.[i]), number(right?.[i]), both(left, right, i) ? signed(right[i] - left[i]) : "–",
  ]));
}

/** Whether both gave response i a score. */
const both = (left, right, i) => typeof left?.[i] === "number" && typeof right?.[i] === "number";

const signed = (value) => (value > 0 ? `+${number(value)}` : number(value));

function furthest(samples) {
  let [found, most] = [[0, 1], -1];
  samples.forEach((a, i) => samples.slice(0, i).forEach((b, j) => {
    if (distance(a, b) > most) [found, most] = [[j, i], distance(a, b)];
  }));
  return found;
}

function distance(a, b) {
  const [left, right] = [scoresOf(a), scoresOf(b)];
  if (!left || !right) return -1;
  return left.reduce((sum, score, i) => sum + (both(left, right, i) ? Math.abs(score - right[i]) : 0), 0);
}
