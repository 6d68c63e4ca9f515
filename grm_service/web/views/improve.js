/** Improve an answer and watch: drafts appear in a tree as they are written and judged. */

import { el, show } from "../dom.js";
import { getJson } from "../http.js";
import { improve } from "../judging.js";
import { account, lineage } from "../parts/lineage.js";
import { problemBox } from "../parts/problem.js";
import { progress } from "../parts/progress.js";
import { chip, choice, copyButton, facts, field, written } from "../parts/small.js";
import { DOUBTS, STOPPED, plural } from "../say.js";

let kept = null;

/** Made once: what is typed, and what is under way, stays while other views are looked at. */
export async function improving({ signal }) {
  kept ??= build(await getJson("v1/profiles", signal), await getJson("v1/principle-sets", signal));
  return kept;
}

function build(profiles, sets) {
  const form = requestForm(profiles, sets);
  const result = el("section.result", { "aria-label": "Result" }, el("p.note", {}, "The lineage will stand here."));
  const cancel = el("button", { type: "button", disabled: true, onclick: () => running?.abort() }, "Cancel");
  let running = null;

  async function run() {
    running?.abort();
    const mine = new AbortController();
    running = mine;
    cancel.disabled = false;
    if (result.getBoundingClientRect().top > innerHeight / 2) result.scrollIntoView();
    const request = form.read();
    const profile = profiles.find(({ name, default: own }) => (request.profile ? name === request.profile : own));
    await watch(result, request, profile?.scale ?? [1, 10], mine.signal, run);
    if (running === mine) cancel.disabled = true;
  }

  return el("div.playground", {},
    el("form", {
      onsubmit: (event) => { event.preventDefault(); run(); },
      onkeydown: (event) => {
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
          event.preventDefault();
          event.currentTarget.requestSubmit();
        }
      },
    },
    el("h1", {}, "Improve"),
    form.node,
    el("div.row.act", {}, el("button.primary", { type: "submit" }, "Improve"), cancel,
      el("small", {}, el("kbd", {}, "Ctrl"), " ", el("kbd", {}, "Enter")))),
    result);
}

function requestForm(profiles, sets) {
  const named = sets.map(({ name }) => [name, name]);
  const controls = {
    query: el("textarea", { rows: 3, dir: "auto", spellcheck: "false", required: true,
      value: "What is the capital of Australia, and since when?" }),
    draft: el("textarea", { rows: 2, dir: "auto", spellcheck: "false" }),
    n: count(0, 16, 4),
    revisions: count(1, 8, 2),
    rounds: count(0, 8, 2),
    k: count(1, 64),
    max_tokens: count(1, 32768, 256),
    tokens: count(1, 1048576, 32768),
    seconds: count(1, 3600, 300),
    seed: count(0, Number.MAX_SAFE_INTEGER, 0),
    profile: choice(profiles.filter(({ served }) => served).map((each) => [each.default ? "" : each.name, each.name]), ""),
    set: choice([["", "written by the judge"], ...named], ""),
    second: choice(named, "helpfulness"),
  };
  const number = (name) => (controls[name].value === "" ? {} : { [name]: Number(controls[name].value) });

  function read() {
    const asked = { query: controls.query.value, budget: { ...number("tokens"), ...number("seconds") } };
    for (const name of ["n", "revisions", "rounds", "k", "max_tokens", "seed"]) Object.assign(asked, number(name));
    for (const name of ["draft", "profile"]) if (controls[name].value) asked[name] = controls[name].value;
    if (controls.set.value) asked.principles = { mode: "fixed", set: controls.set.value };
    asked.second_opinion = { principles: { mode: "fixed", set: controls.second.value } };
    return asked;
  }

  const node = [
    group("Query", field("What is asked", controls.query),
      field("Your own draft", controls.draft, "The original then; without, the first that the policy writes.")),
    group("Drafts",
      el("div.pair", {}, field("Drafts at first", controls.n), field("Revisions a round", controls.revisions)),
      el("div.pair", {}, field("Rounds at most", controls.rounds), field("Tokens a draft", controls.max_tokens))),
    group("Judging",
      el("div.pair", {}, field("Samples (k)", controls.k), field("Seed", controls.seed)),
      field("Profile", controls.profile),
      field("Principles", controls.set),
      field("Second opinion by", controls.second, "Fixed principles that the original and the best are judged by too.")),
    group("Budget",
      el("div.pair", {}, field("Tokens generated", controls.tokens), field("Seconds", controls.seconds))),
  ];
  return { node, read };
}

const group = (name, ...children) => el("fieldset", {}, el("legend", {}, name), children);
const count = (min, max, value = "") => el("input", { type: "number", min, max, value });

/** Improves, and shows in `result` how it goes. */
async function watch(result, request, scale, signal, retry) {
  const waits = progress("Improvement", "The policy writes…");
  const head = el("div.head");
  const tree = lineage(scale);
  let drafts = 0;
  let judged = 0;
  const told = () => `${plural(drafts, "draft")}, ${plural(judged, "verdict")}`;
  show(result, el("h2", {}, "Lineage"), waits.node, head, tree.node);
  try {
    const reply = await improve(request, {
      draft(made) {
        drafts += 1;
        tree.draft(made);
        waits.say(`${told()}; the judge reads…`);
      },
      round(made) {
        judged += 1;
        tree.round(made);
        waits.say(`${told()}; the policy writes…`);
      },
    }, signal);
    tree.end(reply);
    waits.end(`Done: ${told()}. ${STOPPED[reply.stopped]}`, true);
    show(head, outcome(reply));
  } catch (error) {
    if (error.name === "AbortError") return waits.end(`Cancelled after ${told()}.`);
    waits.end("Nothing was improved.");
    show(head, problemBox(error, error.retryable ? retry : null));
  }
}

function outcome(reply) {
  return el("div.summary", {},
    el("p.best", {}, reply.best === reply.original
      ? "The original stayed the best."
      : ["Best: ", el("strong", {}, `draft ${reply.best}`)]),
    reply.flags.length > 0 && el("div.reasons", {}, reply.flags.map((flag) => {
      const [word, why] = DOUBTS[flag] ?? [flag, ""];
      return el("p", {}, chip(word, null, "warn"), " ", why);
    })),
    reply.failure && el("p.uncounted", {}, el("code", {}, reply.failure.code), " ", reply.failure.detail),
    written(reply.text),
    el("p.row", {}, copyButton(reply.text)),
    facts(account(reply)));
}
