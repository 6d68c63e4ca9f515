/** A lineage as a tree: every draft below the one that it revises, with the rewards that it got. */

import { el, show } from "../dom.js";
import { fixed, letter, number, percent, plural } from "../say.js";
import { sampleCard } from "./sample.js";
import { bar, chip, written } from "./small.js";

/** A tree that grows: `draft` and `round` as the events bring them, `end(reply)` marks the best. */
export function lineage(scale) {
  const root = el("ul.tree", { "aria-label": "Drafts, each below the one that it revises" });
  const drafts = new Map();
  const rounds = [];

  function draft(made) {
    const shown = node(made);
    drafts.set(made.id, shown);
    (made.parent === null ? root : drafts.get(made.parent).below).append(shown.item);
    show(shown.origin, origin(made, rounds.at(-1)));
  }

  function round(judged) {
    rounds.push(judged);
    judged.drafts.forEach((id, at) => drafts.get(id).judged(judged, at, scale));
    mark(judged.best);
  }

  function mark(best) {
    for (const [id, { item }] of drafts) item.classList.toggle("best", id === best);
  }

  return { node: root, draft, round, end: ({ best }) => mark(best) };
}

function node(made) {
  const name = `Draft ${made.id}`;
  const reward = el("span.reward");
  const rewards = el("p.seen");
  const origin = el("div");
  const below = el("ul");
  const item = el("li", { "data-draft": made.id },
    el("details.draft", {},
      el("summary", {},
        el("span.name", {}, name), " ",
        reward,
        made.id === 0 && chip("original", "What all gains are measured against."),
        el("span.chip.mark", { title: "It has the highest reward." }, "best"),
        made.cut && chip("cut", "It ended at its token limit.", "warn"),
        made.same_as !== null && chip(`same as ${made.same_as}`, "It says what an earlier draft said: not judged."),
        el("span.start", { dir: "auto" }, made.text.slice(0, 160) || "empty")),
      el("div.body", {}, written(made.text), rewards, origin)),
    below);
  const got = [];

  function judged({ round, verdict }, at, scale) {
    const [value, std] = [verdict.rewards[at], verdict.std[at]];
    got.push({ round, reward: value, id: verdict.id });
    show(reward, el("strong", {}, fixed(value)), el("small", {}, ` std ${fixed(std)}`), bar(along(value, scale)));
    show(rewards, got.map((each, i) => [i > 0 && " · ", `${fixed(each.reward)} in the `,
      el("a", { href: `#/verdicts/${each.id}` }, `verdict of round ${each.round}`)]));
  }
  return { item, below, origin, judged };
}

const along = (value, [low, high]) => (value - low) / (high - low || 1);

/** How a draft came about; `last` is the round whose critiques it revises by. */
function origin(made, last) {
  if (made.given) return el("p.seen", {}, "Given with the request.");
  if (made.parent === null) return el("p.seen", {}, "Sampled from the conversation alone.");
  const samples = last.verdict.samples?.filter(({ index }) => made.critiques.includes(index)) ?? [];
  return [
    el("p.seen", {}, `Revises draft ${made.parent} by ${plural(made.critiques.length, "critique")}. In them, `,
      `${last.drafts.map((id, i) => `${letter(i)} is draft ${id}`).join(", ")}.`),
    el("div.samples", {}, samples.map((sample) => sampleCard(sample))),
  ];
}

/** What to make of an improvement, in facts: pairs of name and value. */
export function account(reply) {
  const { gain, second_opinion: second, length, cost } = reply;
  return [
    ["Gain", gain && spread(gain)],
    ["Second opinion", second && (second.error ?? spread(second.gain))],
    ["Characters", `${length.original} → ${length.best}${length.growth === null ? "" : ` (${percent(length.growth)})`}`],
    ["Tokens generated", number(cost.generated)],
    ["By the policy", number(cost.policy.completion_tokens)],
    ["By the judge", number(cost.judge.completion_tokens + cost.second_opinion.completion_tokens)],
    ["Time", `${fixed(cost.seconds, 1)} s`],
    ["Policy", reply.policy],
    ["Judge", reply.judge],
  ];
}

const spread = (gain) => gain && `${gain.mean > 0 ? "+" : ""}${fixed(gain.mean)} ± ${fixed(gain.error)}`;
