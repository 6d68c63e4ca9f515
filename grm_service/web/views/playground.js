/** The playground view: judges a request and shows samples as they arrive. */

import { el, show } from "../dom.js";
import { EXAMPLES } from "../examples.js";
import { plural } from "../format.js";
import { getJson } from "../http.js";
import { key } from "../key.js";
import { problemBox } from "../parts/problem.js";
import { progress } from "../parts/progress.js";
import { requestForm } from "../parts/request.js";
import { sampleCard } from "../parts/sample.js";
import { summary } from "../parts/summary.js";
import { votes } from "../parts/votes.js";
import { choice, copyButton, field } from "../parts/widgets.js";
import { judge } from "../stream.js";

let cached = null;

/** Built once, so that input and a running judgement survive a visit to other views. */
export async function playgroundView({ params, signal }) {
  cached ??= build(await getJson("v1/profiles", signal), await getJson("v1/principle-sets", signal));
  if (params.has("verdict")) {
    const path = `v1/verdicts/${encodeURIComponent(params.get("verdict"))}`;
    const { request, verdict } = await getJson(path, signal);
    cached.fill({ ...request, profile: verdict.profile });
  }
  return cached.node;
}

function build(profiles, sets) {
  const form = requestForm(profiles, sets);
  const result = el("section.result", { "aria-label": "Result" }, el("p.note", {}, "The verdict will appear here."));
  const submit = el("button.primary", { type: "submit" }, "Judge");
  const cancel = el("button", { type: "button", disabled: true, onclick: () => running?.abort() }, "Cancel");
  const examples = choice([["", "Load an example…"], ...EXAMPLES.map(({ name }, i) => [i, name])], "");
  examples.addEventListener("change", () => {
    if (examples.value !== "") form.fill(EXAMPLES[examples.value].request);
    examples.value = "";
  });
  const curl = el("details.curl", { ontoggle: () => curl.open && showCurl(curl, form.read()) },
    el("summary", {}, "As a curl command"), el("div"));
  let running = null;

  async function run() {
    running?.abort();
    const controller = new AbortController();
    running = controller;
    cancel.disabled = false;
    // On a phone the result is below a long form.
    if (result.getBoundingClientRect().top > innerHeight / 2) result.scrollIntoView();
    const judgeNextSeed = () => {
      const request = form.read();
      form.fill({ ...request, seed: (request.seed ?? 0) + 1 });
      run();
    };
    await judgeAndShow(result, form.read(), profiles, controller.signal, run, judgeNextSeed);
    if (running === controller) cancel.disabled = true;
  }

  const node = el("div.playground", {},
    el("form", {
      onsubmit: (event) => { event.preventDefault(); run(); },
      onkeydown: (event) => {
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
          event.preventDefault();
          event.currentTarget.requestSubmit();
        }
      },
    },
    el("h1", {}, "Playground"),
    field("Example", examples),
    form.node,
    el("div.row.act", {}, submit, cancel, el("small", {}, el("kbd", {}, "Ctrl"), " ", el("kbd", {}, "Enter"))),
    curl),
    result);
  form.fill(EXAMPLES[0].request);
  return { node, fill: form.fill };
}

/** Judges the request and shows its progress and the verdict in `result`. */
async function judgeAndShow(result, request, profiles, signal, retry, judgeNextSeed) {
  const scale = (name) => profiles.find((profile) => profile.name === name)?.scale ?? [1, 10];
  const bar = progress();
  const head = el("div.head");
  const cards = el("div.samples");
  const plot = votes(request.responses, (index) => openSample(cards, index));
  const samples = [];
  let plan = null;
  const redraw = oncePerFrame(() => plot.update(samples, plan.orders.length, scale(plan.profile)));
  show(result, el("h2", {}, "Verdict"), bar.node, head);
  try {
    const verdict = await judge(request, {
      plan(value) {
        plan = value;
        bar.update(0, plan.orders.length);
        result.append(plot.node, el("h3", {}, "Samples"), cards);
        redraw();
      },
      sample(sample) {
        samples.push(sample);
        samples.sort((a, b) => a.index - b.index);
        cards.insertBefore(sampleCard(sample), cards.children[samples.indexOf(sample)] ?? null);
        bar.update(samples.length, plan.orders.length);
        redraw();
      },
    }, signal);
    redraw.cancel();
    bar.finish(`Done: ${plural(verdict.samples.length, "sample")}.`, true);
    plot.update(verdict.samples, verdict.samples.length, scale(verdict.profile), verdict);
    show(head, summary(verdict), el("p.row", {},
      el("a.button", { href: `#/verdicts/${verdict.id}` }, "Open the record"),
      el("button", { type: "button", onclick: judgeNextSeed }, "Judge again with the next seed")));
  } catch (error) {
    if (error.name === "AbortError") return bar.finish(`Cancelled after ${plural(samples.length, "sample")}.`);
    bar.finish("No verdict.");
    show(head, problemBox(error, error.retryable ? retry : null));
    // Unreadable samples are shown too.
    if (error.samples) show(cards, error.samples.map((sample) => sampleCard(sample)));
  }
}

/** Wraps `draw` so that it runs at most once per frame. */
function oncePerFrame(draw) {
  let frame = 0;
  const request = () => {
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      draw();
    });
  };
  request.cancel = () => cancelAnimationFrame(frame);
  return request;
}

function openSample(cards, index) {
  const card = cards.querySelector(`[data-sample="${Number(index)}"]`);
  if (!card) return;
  card.open = true;
  card.scrollIntoView({ block: "nearest" });
  card.querySelector("summary").focus();
}

function showCurl(box, request) {
  const quoted = JSON.stringify(request).replaceAll("'", "'\\''");
  const authorization = key() ? " -H \"Authorization: Bearer $GRM_KEY\"" : "";
  const url = new URL("v1/rewards", document.baseURI);
  const command = `curl -s ${url} -H 'Content-Type: application/json'${authorization} -d '${quoted}'`;
  show(box.lastChild, el("pre", {}, command), copyButton(command));
}
