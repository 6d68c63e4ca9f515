/** One verdict, as the audit trail keeps it: why, and what people say of it. */

import { el } from "../dom.js";
import { getJson } from "../http.js";
import { compare } from "../parts/compare.js";
import { reviewForm, reviewList } from "../parts/review.js";
import { principleList, sampleCard } from "../parts/sample.js";
import { saveButton } from "../parts/save.js";
import { copyButton, facts, reasonChips, written } from "../parts/small.js";
import { summary } from "../parts/summary.js";
import { votes } from "../parts/votes.js";
import { REASONS, letter, when } from "../say.js";

export async function verdict({ id, signal }) {
  const path = `v1/verdicts/${encodeURIComponent(id)}`;
  const [record, profiles] = await Promise.all([getJson(path, signal), getJson("v1/profiles", signal)]);
  const { verdict: given, request } = record;
  const scale = profiles.find(({ name }) => name === given.profile)?.scale ?? [1, 10];
  const samples = el("div.samples", {}, given.samples.map((sample) => sampleCard(sample)));
  const picture = votes(request.responses, (index) => {
    const card = samples.querySelector(`[data-sample="${Number(index)}"]`);
    card.open = true;
    card.querySelector("summary").focus();
  });
  const review = reviewForm(path, record);
  picture.update(given.samples, given.k, scale, given);
  return el("article.sheet", {},
    el("h1", {}, "Verdict ", el("code", {}, given.id)),
    el("div", {},
      summary(given),
      el("button", { type: "button", onclick: () => review.querySelector("input").focus() }, "Review it"),
      picture.node,
      section("Request", asked(request)),
      record.standard.length > 0 && section("Principles that people gave", principleList(record.standard)),
      section("Samples", samples),
      given.samples.length > 1 && section("Two samples side by side", compare(given.samples))),
    el("div", {},
      record.reasons.length > 0 && section("Worth a look", reasons(record.reasons)),
      section("Reviews", reviewList(record.reviews), review),
      section("Record", origin(record), again(path, given.id))));
}

const reasons = (all) => el("div.reasons", {},
  all.map((reason) => el("p", {}, reasonChips([reason]), " ", REASONS[reason]?.[1])));

const section = (name, ...children) => el("section", {}, el("h2", {}, name), children);

const MODES = { self: "written by the judge", query: "written from the query alone", fixed: "given" };

function asked({ messages, responses, reference, principles }) {
  return [
    el("ol.turns", {}, messages.map(({ role, content }) => el("li", {}, el("span.role", {}, role), written(content)))),
    el("ol.responses", {}, responses.map((text, i) => el("li", {}, el("span.name", {}, letter(i)), written(text)))),
    reference !== null && el("div.reference", {}, el("h3", {}, "Reference answer"), written(reference)),
    facts([["Principles", MODES[principles.mode]], ["Named set", principles.set]]),
  ];
}

function origin({ seq, hash, caller, route, version, verdict: given, request }) {
  return facts([
    ["Given", when(given.created)], ["Asked by", caller || "anybody"], ["Through", route],
    ["Profile", given.profile], ["Model", given.model], ["Profile's fingerprint", el("code", {}, given.fingerprint)],
    ["Seed", request.seed], ["Temperature", request.temperature], ["Most tokens", request.max_tokens],
    ["Scores", request.score], ["Stop early", request.stop],
    ["Entry", seq], ["Entry's hash", el("code", {}, hash)], ["Version", version],
  ]);
}

function again(path, id) {
  const command = `grm audit replay ${id}`;
  return [
    el("p", {}, "Judge it again as it was, and see the difference:"),
    el("p.row", {}, el("pre.command", {}, command), copyButton(command)),
    el("p.row", {},
      el("a.button", { href: `#/playground?verdict=${id}` }, "Open in the playground"),
      saveButton("Save as JSON", path, `${id}.json`)),
  ];
}
