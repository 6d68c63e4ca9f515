/** A lineage as a tree: each draft under the draft it revises, with its rewards. */

import { el, show } from "../dom.js";
import { fixed, letter, number, percent, plural } from "../format.js";
import { sampleCard } from "./sample.js";
import { bar, chip, plainText } from "./widgets.js";

/** A tree that grows: `draft` and `round` add events as they arrive, `end(reply)` marks the best draft. */
export function lineage(scale) {
  const root = el("ul.tree", { "aria-label": "Drafts, each under the draft it revises" });
  const drafts = new Map();
  const rounds = [];

  function addDraft(draft) {
    const node = draftNode(draft);
    drafts.set(draft.id, node);
    (draft.parent === null ? root : drafts.get(draft.parent).children).append(node.item);
    show(node.origin, origin(draft, rounds.at(-1)));
  }

  function addRound(round) {
    rounds.push(round);
    round.drafts.forEach((id, i) => drafts.get(id).addReward(round, i, scale));
    markBest(round.best);
  }

  function markBest(best) {
    for (const [id, { item }] of drafts) item.classList.toggle("best", id === best);
  }

  return { node: root, draft: addDraft, round: addRound, end: ({ best }) => markBest(best) };
}

function draftNode(draft) {
  const reward = el("span.reward");
  const rewards = el("p.details");
  const origin = el("div");
  const children = el("ul");
  const item = el("li", { "data-draft": draft.id },
    el("details.draft", {},
      el("summary", {},
        el("span.name", {}, `Draft ${draft.id}`), " ",
        reward,
        draft.id === 0 && chip("original", "All gains are measured against it."),
        el("span.chip.mark", { title: "Highest reward." }, "best"),
        draft.cut && chip("cut", "Cut at the token limit.", "warn"),
        draft.same_as !== null && chip(`same as ${draft.same_as}`, "Same text as an earlier draft: not judged."),
        el("span.excerpt", { dir: "auto" }, draft.text.slice(0, 160) || "empty")),
      el("div.body", {}, plainText(draft.text), rewards, origin)),
    children);
  const history = [];

  function addReward({ round, verdict }, i, scale) {
    const [value, std] = [verdict.rewards[i], verdict.std[i]];
    history.push({ round, reward: value, id: verdict.id });
    show(reward, el("strong", {}, fixed(value)), el("small", {}, ` std ${fixed(std)}`), bar(fraction(value, scale)));
    show(rewards, history.map((entry, n) => [n > 0 && " · ", `${fixed(entry.reward)} in the `,
      el("a", { href: `#/verdicts/${entry.id}` }, `verdict of round ${entry.round}`)]));
  }
  return { item, children, origin, addReward };
}

const fraction = (value, [low, high]) => (value - low) / (high - low || 1);

/** The origin of a draft; `lastRound` has the critiques that a revision is based on. */
function origin(draft, lastRound) {
  if (draft.given) return el("p.details", {}, "Supplied with the request.");
  if (draft.parent === null) return el("p.details", {}, "Sampled from the conversation alone.");
  const samples = lastRound.verdict.samples?.filter(({ index }) => draft.critiques.includes(index)) ?? [];
  return [
    el("p.details", {}, `Revises draft ${draft.parent} based on ${plural(draft.critiques.length, "critique")}, where `,
      `${lastRound.drafts.map((id, i) => `${letter(i)} is draft ${id}`).join(", ")}.`),
    el("div.samples", {}, samples.map((sample) => sampleCard(sample))),
  ];
}

/** The figures of an improvement, as pairs of name and value. */
export function improvementFacts(reply) {
  const { gain, second_opinion: second, length, cost } = reply;
  return [
    ["Gain", gain && gainText(gain)],
    ["Second opinion", second && (second.error ?? gainText(second.gain))],
    ["Characters", `${length.original} → ${length.best}${length.growth === null ? "" : ` (${percent(length.growth)})`}`],
    ["Tokens generated", number(cost.generated)],
    ["Policy tokens", number(cost.policy.completion_tokens)],
    ["Judge tokens", number(sum(cost.judge.completion_tokens, cost.second_opinion.completion_tokens))],
    ["Time", `${fixed(cost.seconds, 1)} s`],
    ["Policy model", reply.policy],
    ["Judge model", reply.judge],
  ];
}

/** A sum of counts, null if one is unknown. */
const sum = (a, b) => (a === null || b === null ? null : a + b);

const gainText = (gain) => gain && `${gain.mean > 0 ? "+" : ""}${fixed(gain.mean)} ± ${fixed(gain.error)}`;
