/** What people say of a verdict. It never changes the verdict: a review is a record of its own. */

import { el, show } from "../dom.js";
import { postJson } from "../http.js";
import { letter, number, when } from "../say.js";
import { problemBox } from "./problem.js";
import { choice, field } from "./small.js";

const DECISIONS = [
  ["agree", "Agree: the verdict is right"],
  ["overrule", "Overrule: it should be otherwise"],
  ["unsound_principle", "A principle is unsound: nobody should judge by it"],
];
const SAID = { agree: "agrees", overrule: "overrules", unsound_principle: "finds a principle unsound" };
const WITH = [["ranking", "the right ranking (1 is best, equal for ties)"], ["scores", "the right scores"]];
const NAME = "grm-reviewer";

export function reviewList(reviews) {
  if (!reviews.length) return el("p.note.none", {}, "Nobody has reviewed it yet.");
  return el("ol.reviews", {}, reviews.map((review) => el("li", {},
    el("p", {}, el("strong", {}, review.reviewer), ` ${SAID[review.decision]} `,
      el("time", { datetime: review.created }, when(review.created))),
    review.ranking && each(review.ranking, (rank) => `#${rank}`),
    review.scores && each(review.scores, number),
    review.principle && el("blockquote.text", { dir: "auto" }, review.principle),
    review.note && el("p.text", { dir: "auto" }, review.note))));
}

const each = (values, say) => el("p.each", {}, values.map((value, i) => el("span", {}, `${letter(i)} ${say(value)}`)));

/** The form; once a review is kept it stands in the list above. */
export function reviewForm(path, { verdict, reviews }) {
  const reviewer = el("input", { required: true, autocomplete: "off", value: sessionStorage.getItem(NAME) ?? "" });
  const decision = el("div.choices", { role: "radiogroup", "aria-label": "Decision" },
    DECISIONS.map(([value, label], i) => el("label", {},
      el("input", { type: "radio", name: "decision", value, checked: i === 0, onchange: draw }), label)));
  const how = choice(WITH, "ranking", { onchange: draw });
  const numbers = verdict.rewards.map((_, i) => el("input",
    { type: "number", required: true, "aria-label": `Response ${letter(i)}` }));
  const principle = el("textarea", { rows: 2, required: true, dir: "auto" });
  const known = choice([["", "Choose one…"], ...texts(verdict).map((text) => [text, text])], "",
    { onchange: () => { if (known.value) principle.value = known.value; } });
  const note = el("textarea", { rows: 2, dir: "auto" });
  const says = el("div", { role: "status" });
  const more = el("div");
  const chosen = () => decision.querySelector(":checked").value;

  function draw() {
    show(more,
      chosen() === "overrule" && [
        field("With", how),
        el("div.numbers", {}, numbers.map((input, i) => el("label", {}, letter(i), " ", input))),
      ],
      chosen() === "unsound_principle" && [field("A principle of this verdict", known), field("Its text", principle)]);
    const bounds = how.value === "ranking" ? { min: 1, max: numbers.length, step: 1 } : { min: "", max: "", step: "any" };
    for (const input of numbers) Object.assign(input, bounds);
  }

  async function send(event) {
    event.preventDefault();
    sessionStorage.setItem(NAME, reviewer.value);
    const body = { reviewer: reviewer.value, decision: chosen(), note: note.value };
    if (chosen() === "overrule") body[how.value] = numbers.map(({ value }) => Number(value));
    if (chosen() === "unsound_principle") body.principle = principle.value;
    button.disabled = true;
    try {
      reviews = [...reviews, await postJson(`${path}/reviews`, body)];
      form.parentNode.querySelector(".reviews, .none").replaceWith(reviewList(reviews));
      note.value = "";
      show(says, el("p.done", {}, "Your review is kept. The verdict stays as it is."));
    } catch (error) {
      show(says, problemBox(error));
    }
    button.disabled = false;
  }

  const button = el("button.primary", {}, "Add this review");
  const form = el("form.review", { onsubmit: send },
    field("Your name", reviewer), decision, more, field("Note", note), button, says);
  draw();
  return form;
}

function texts({ samples, principles }) {
  return [...new Set([...principles, ...samples.flatMap((sample) => sample.principles)].map(({ text }) => text))];
}
