/** Reviews of a verdict. A review is a separate record and never changes the verdict. */

import { el, show } from "../dom.js";
import { postJson } from "../http.js";
import { letter, localTime, number } from "../format.js";
import { problemBox } from "./problem.js";
import { choice, field } from "./widgets.js";

const DECISIONS = [
  ["agree", "Agree: the verdict is right"],
  ["overrule", "Overrule: the verdict is wrong"],
  ["unsound_principle", "A principle is unsound: it should not be used"],
];
const DECISION_VERBS = { agree: "agrees", overrule: "overrules", unsound_principle: "marks a principle as unsound" };
const CORRECTIONS = [["ranking", "ranking (1 is best, equal numbers for ties)"], ["scores", "scores"]];
const STORAGE_KEY = "grm-reviewer";

export function reviewList(reviews) {
  if (!reviews.length) return el("p.note.none", {}, "No reviews yet.");
  return el("ol.reviews", {}, reviews.map((review) => el("li", {},
    el("p", {}, el("strong", {}, review.reviewer), ` ${DECISION_VERBS[review.decision]} `,
      el("time", { datetime: review.created }, localTime(review.created))),
    review.ranking && perResponse(review.ranking, (rank) => `#${rank}`),
    review.scores && perResponse(review.scores, number),
    review.principle && el("blockquote.text", { dir: "auto" }, review.principle),
    review.note && el("p.text", { dir: "auto" }, review.note))));
}

const perResponse = (values, format) => el("p.each", {},
  values.map((value, i) => el("span", {}, `${letter(i)} ${format(value)}`)));

/** The review form. A saved review is added to the list above it. */
export function reviewForm(path, { verdict, reviews }) {
  const lastReviewer = sessionStorage.getItem(STORAGE_KEY) ?? "";
  const reviewer = el("input", { required: true, autocomplete: "off", value: lastReviewer });
  const decision = el("div.choices", { role: "radiogroup", "aria-label": "Decision" },
    DECISIONS.map(([value, label], i) => el("label", {},
      el("input", { type: "radio", name: "decision", value, checked: i === 0, onchange: draw }), label)));
  const correction = choice(CORRECTIONS, "ranking", { onchange: draw });
  const numbers = verdict.rewards.map((_, i) => el("input",
    { type: "number", required: true, "aria-label": `Response ${letter(i)}` }));
  const principle = el("textarea", { rows: 2, required: true, dir: "auto" });
  const known = choice([["", "Choose one…"], ...principleTexts(verdict).map((text) => [text, text])], "",
    { onchange: () => { if (known.value) principle.value = known.value; } });
  const note = el("textarea", { rows: 2, dir: "auto" });
  const status = el("div", { role: "status" });
  const extra = el("div");
  const selected = () => decision.querySelector(":checked").value;

  function draw() {
    show(extra,
      selected() === "overrule" && [
        field("Correction", correction),
        el("div.numbers", {}, numbers.map((input, i) => el("label", {}, letter(i), " ", input))),
      ],
      selected() === "unsound_principle" && [
        field("Principle of this verdict", known),
        field("Principle text", principle),
      ]);
    const ranking = correction.value === "ranking";
    const bounds = ranking ? { min: 1, max: numbers.length, step: 1 } : { min: "", max: "", step: "any" };
    for (const input of numbers) Object.assign(input, bounds);
  }

  async function submit(event) {
    event.preventDefault();
    sessionStorage.setItem(STORAGE_KEY, reviewer.value);
    const body = { reviewer: reviewer.value, decision: selected(), note: note.value };
    if (selected() === "overrule") body[correction.value] = numbers.map(({ value }) => Number(value));
    if (selected() === "unsound_principle") body.principle = principle.value;
    submitButton.disabled = true;
    try {
      reviews = [...reviews, await postJson(`${path}/reviews`, body)];
      form.parentNode.querySelector(".reviews, .none").replaceWith(reviewList(reviews));
      note.value = "";
      show(status, el("p.done", {}, "Review saved. The verdict itself is unchanged."));
    } catch (error) {
      show(status, problemBox(error));
    }
    submitButton.disabled = false;
  }

  const submitButton = el("button.primary", {}, "Add review");
  const form = el("form.review", { onsubmit: submit },
    field("Your name", reviewer), decision, extra, field("Note", note), submitButton, status);
  draw();
  return form;
}

function principleTexts({ samples, principles }) {
  return [...new Set([...principles, ...samples.flatMap((sample) => sample.principles)].map(({ text }) => text))];
}
