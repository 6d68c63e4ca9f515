/** The improve view: drafts appear in a tree as they are written and judged. */

import { el, show } from "../dom.js";
import { plural } from "../format.js";
import { getJson } from "../http.js";
import { CAVEATS, STOP_REASONS } from "../labels.js";
import { improvementFacts, lineage } from "../parts/lineage.js";
import { problemBox } from "../parts/problem.js";
import { progress } from "../parts/progress.js";
import { chip, choice, copyButton, facts, field, plainText } from "../parts/widgets.js";
import { improve } from "../stream.js";

let cached = null;

/** Built once, so that input and a running request survive a visit to other views. */
export async function improveView({ signal }) {
  cached ??= build(await getJson("v1/profiles", signal), await getJson("v1/principle-sets", signal));
  return cached;
}

function build(profiles, sets) {
  const form = requestForm(profiles, sets);
  const result = el("section.result", { "aria-label": "Result" }, el("p.note", {}, "The drafts will appear here."));
  const cancel = el("button", { type: "button", disabled: true, onclick: () => running?.abort() }, "Cancel");
  let running = null;

  async function run() {
    running?.abort();
    const controller = new AbortController();
    running = controller;
    cancel.disabled = false;
    if (result.getBoundingClientRect().top > innerHeight / 2) result.scrollIntoView();
    const request = form.read();
    const { profile: wanted } = request;
    const profile = profiles.find(({ name, default: isDefault }) => (wanted ? name === wanted : isDefault));
    await improveAndShow(result, request, profile?.scale ?? [1, 10], controller.signal, run);
    if (running === controller) cancel.disabled = true;
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
  const setOptions = sets.map(({ name }) => [name, name]);
  const controls = {
    query: el("textarea", { rows: 3, dir: "auto", spellcheck: "false", required: true,
      value: "What is the capital of Australia, and since when?" }),
    draft: el("textarea", { rows: 2, dir: "auto", spellcheck: "false" }),
    n: numberInput(0, 16, 4),
    revisions: numberInput(1, 8, 2),
    rounds: numberInput(0, 8, 2),
    k: numberInput(1, 64),
    max_tokens: numberInput(1, 32768, 256),
    tokens: numberInput(1, 1048576, 32768),
    seconds: numberInput(1, 3600, 300),
    seed: numberInput(0, Number.MAX_SAFE_INTEGER, 0),
    profile: choice(profiles.filter(({ served }) => served)
      .map(({ name, default: isDefault }) => [isDefault ? "" : name, name]), ""),
    set: choice([["", "written by the judge"], ...setOptions], ""),
    second: choice(setOptions, "helpfulness"),
  };
  const numberField = (name) => (controls[name].value === "" ? {} : { [name]: Number(controls[name].value) });

  function read() {
    const request = { query: controls.query.value, budget: { ...numberField("tokens"), ...numberField("seconds") } };
    for (const name of ["n", "revisions", "rounds", "k", "max_tokens", "seed"]) {
      Object.assign(request, numberField(name));
    }
    for (const name of ["draft", "profile"]) if (controls[name].value) request[name] = controls[name].value;
    if (controls.set.value) request.principles = { mode: "fixed", set: controls.set.value };
    request.second_opinion = { principles: { mode: "fixed", set: controls.second.value } };
    return request;
  }

  const node = [
    group("Query", field("Prompt", controls.query),
      field("Your own draft", controls.draft, "Used as the original. If empty, it is the first draft of the policy.")),
    group("Drafts",
      el("div.pair", {}, field("Initial drafts", controls.n), field("Revisions per round", controls.revisions)),
      el("div.pair", {}, field("Max rounds", controls.rounds), field("Max tokens per draft", controls.max_tokens))),
    group("Judging",
      el("div.pair", {}, field("Samples (k)", controls.k), field("Seed", controls.seed)),
      field("Profile", controls.profile),
      field("Principles", controls.set),
      field("Second opinion", controls.second, "A fixed principle set to judge the original and the best draft again.")),
    group("Budget",
      el("div.pair", {}, field("Tokens generated", controls.tokens), field("Seconds", controls.seconds))),
  ];
  return { node, read };
}

const group = (name, ...children) => el("fieldset", {}, el("legend", {}, name), children);
const numberInput = (min, max, value = "") => el("input", { type: "number", min, max, value });

/** Runs the improvement and shows its progress and outcome in `result`. */
async function improveAndShow(result, request, scale, signal, retry) {
  const bar = progress("Improvement", "The policy is writing…");
  const head = el("div.head");
  const tree = lineage(scale);
  let drafts = 0;
  let verdicts = 0;
  const counts = () => `${plural(drafts, "draft")}, ${plural(verdicts, "verdict")}`;
  show(result, el("h2", {}, "Lineage"), bar.node, head, tree.node);
  try {
    const reply = await improve(request, {
      draft(draft) {
        drafts += 1;
        tree.draft(draft);
        bar.setStatus(`${counts()}; judging…`);
      },
      round(round) {
        verdicts += 1;
        tree.round(round);
        bar.setStatus(`${counts()}; writing…`);
      },
    }, signal);
    tree.end(reply);
    bar.finish(`Done: ${counts()}. ${STOP_REASONS[reply.stopped]}`, true);
    show(head, outcome(reply));
  } catch (error) {
    if (error.name === "AbortError") return bar.finish(`Cancelled after ${counts()}.`);
    bar.finish("The improvement failed.");
    show(head, problemBox(error, error.retryable ? retry : null));
  }
}

function outcome(reply) {
  return el("div.summary", {},
    el("p.best", {}, reply.best === reply.original
      ? "No draft is better than the original."
      : ["Best: ", el("strong", {}, `draft ${reply.best}`)]),
    reply.flags.length > 0 && el("div.reasons", {}, reply.flags.map((flag) => {
      const [label, explanation] = CAVEATS[flag] ?? [flag, ""];
      return el("p", {}, chip(label, null, "warn"), " ", explanation);
    })),
    reply.failure && el("p.uncounted", {}, el("code", {}, reply.failure.code), " ", reply.failure.detail),
    plainText(reply.text),
    el("p.row", {}, copyButton(reply.text)),
    facts(improvementFacts(reply)));
}
