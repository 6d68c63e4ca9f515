/** The verdict view: one record of the audit trail and its reviews. */

import { el } from "../dom.js";
import { letter, localTime } from "../format.js";
import { getJson } from "../http.js";
import { REVIEW_REASONS } from "../labels.js";
import { compare } from "../parts/compare.js";
import { downloadButton } from "../parts/download.js";
import { reviewForm, reviewList } from "../parts/review.js";
import { principleList, sampleCard } from "../parts/sample.js";
import { summary } from "../parts/summary.js";
import { votes } from "../parts/votes.js";
import { copyButton, facts, plainText, reasonChips } from "../parts/widgets.js";

export async function verdictView({ id, signal }) {
  const path = `v1/verdicts/${encodeURIComponent(id)}`;
  const [record, profiles] = await Promise.all([getJson(path, signal), getJson("v1/profiles", signal)]);
  const { verdict, request } = record;
  const scale = profiles.find(({ name }) => name === verdict.profile)?.scale ?? [1, 10];
  const samples = el("div.samples", {}, verdict.samples.map((sample) => sampleCard(sample)));
  const plot = votes(request.responses, (index) => {
    const card = samples.querySelector(`[data-sample="${Number(index)}"]`);
    card.open = true;
    card.querySelector("summary").focus();
  });
  const review = reviewForm(path, record);
  plot.update(verdict.samples, verdict.samples.length, scale, verdict);
  return el("article.sheet", {},
    el("h1", {}, "Verdict ", el("code", {}, verdict.id)),
    el("div", {},
      summary(verdict),
      el("button", { type: "button", onclick: () => review.querySelector("input").focus() }, "Review this verdict"),
      plot.node,
      section("Request", requestDetails(request)),
      record.standard.length > 0 && section("Supplied principles", principleList(record.standard)),
      section("Samples", samples),
      verdict.samples.length > 1 && section("Compare two samples", compare(verdict.samples))),
    el("div", {},
      record.reasons.length > 0 && section("Reasons to review", reasonList(record.reasons)),
      section("Reviews", reviewList(record.reviews), review),
      section("Record", recordFacts(record), replaySection(path, verdict.id))));
}

const reasonList = (reasons) => el("div.reasons", {},
  reasons.map((reason) => el("p", {}, reasonChips([reason]), " ", REVIEW_REASONS[reason]?.[1])));

const section = (name, ...children) => el("section", {}, el("h2", {}, name), children);

const MODES = { self: "written by the judge", query: "written from the query alone", fixed: "fixed" };

function requestDetails({ messages, responses, reference, principles }) {
  return [
    el("ol.turns", {}, messages.map(({ role, content }) =>
      el("li", {}, el("span.role", {}, role), plainText(content)))),
    el("ol.responses", {}, responses.map((text, i) => el("li", {}, el("span.name", {}, letter(i)), plainText(text)))),
    reference !== null && el("div.reference", {}, el("h3", {}, "Reference answer"), plainText(reference)),
    facts([["Principles", MODES[principles.mode]], ["Principle set", principles.set]]),
  ];
}

function recordFacts({ seq, hash, caller, route, version, verdict, request }) {
  return facts([
    ["Created", localTime(verdict.created)], ["Caller", caller || "anonymous"], ["Route", route],
    ["Profile", verdict.profile], ["Model", verdict.model],
    ["Profile fingerprint", el("code", {}, verdict.fingerprint)],
    ["Seed", request.seed], ["Temperature", request.temperature], ["Max tokens", request.max_tokens],
    ["Thinking tokens", request.thinking_tokens],
    ["Scores", request.score], ["Stop early", request.stop],
    ["Audit entry", seq], ["Entry hash", el("code", {}, hash)], ["Version", version],
  ]);
}

function replaySection(path, id) {
  const command = `grm audit replay ${id}`;
  return [
    el("p", {}, "Judge it again with the same settings and compare:"),
    el("p.row", {}, el("pre.command", {}, command), copyButton(command)),
    el("p.row", {},
      el("a.button", { href: `#/playground?verdict=${id}` }, "Open in the playground"),
      downloadButton("Save as JSON", path, `${id}.json`)),
  ];
}
