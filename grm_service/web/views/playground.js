/** Judge something and watch: samples appear as they are finished. */

import { el, show } from "../dom.js";
import { EXAMPLES } from "../examples.js";
import { getJson } from "../http.js";
import { judge } from "../judging.js";
import { key } from "../key.js";
import { problemBox } from "../parts/problem.js";
import { progress } from "../parts/progress.js";
import { requestForm } from "../parts/request.js";
import { sampleCard } from "../parts/sample.js";
import { choice, copyButton, field } from "../parts/small.js";
import { summary } from "../parts/summary.js";
import { votes } from "../parts/votes.js";
import { plural } from "../say.js";

let kept = null;

/** The playground is made once: what is typed, and what is being judged, stays while other views are looked at. */
export async function playground({ params, signal }) {
  kept ??= build(await getJson("v1/profiles", signal), await getJson("v1/principle-sets", signal));
  if (params.has("verdict")) {
    const path = `v1/verdicts/${encodeURIComponent(params.get("verdict"))}`;
    const { request, verdict } = await getJson(path, signal);
    kept.fill({ ...request, profile: verdict.profile });
  }
  return kept.node;
}

function build(profiles, sets) {
  const form = requestForm(profiles, sets);
  const result = el("section.result", { "aria-label": "Result" }, el("p.note", {}, "The verdict will stand here."));
  const go = el("button.primary", { type: "submit" }, "Judge");
  const cancel = el("button", { type: "button", disabled: true, onclick: () => running?.abort() }, "Cancel");
  const examples = choice([["", "Load an example…"], ...EXAMPLES.map(({ name }, i) => [i, name])], "");
  examples.addEventListener("change", () => {
    if (examples.value !== "") form.fill(EXAMPLES[examples.value].request);
    examples.value = "";
  });
  const asCurl = el("details.curl", { ontoggle: () => asCurl.open && curl(asCurl, form.read()) },
    el("summary", {}, "As a curl line"), el("div"));
  let running = null;

  async function run() {
    running?.abort();
    const mine = new AbortController();
    running = mine;
    cancel.disabled = false;
    // On a phone the result stands below a long form.
    if (result.getBoundingClientRect().top > innerHeight / 2) result.scrollIntoView();
    const again = () => {
      const request = form.read();
      form.fill({ ...request, seed: (request.seed ?? 0) + 1 });
      run();
    };
    await watch(result, form.read(), profiles, mine.signal, run, again);
    if (running === mine) cancel.disabled = true;
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
    el("div.row.act", {}, go, cancel, el("small", {}, el("kbd", {}, "Ctrl"), " ", el("kbd", {}, "Enter"))),
    asCurl),
    result);
  form.fill(EXAMPLES[0].request);
  return { node, fill: form.fill };
}

/** Judges, and shows in `result` how it goes. */
async function watch(result, request, profiles, signal, retry, again) {
  const scale = (name) => profiles.find((profile) => profile.name === name)?.scale ?? [1, 10];
  const bar = progress();
  const head = el("div.head");
  const cards = el("div.samples");
  const picture = votes(request.responses, (index) => pick(cards, index));
  const samples = [];
  let plan = null;
  const redraw = soon(() => picture.update(samples, plan.k, scale(plan.profile)));
  show(result, el("h2", {}, "Verdict"), bar.node, head);
  try {
    const verdict = await judge(request, {
      plan(made) {
        plan = made;
        bar.at(0, plan.k);
        result.append(picture.node, el("h3", {}, "Samples"), cards);
        redraw();
      },
      sample(sample) {
        samples.push(sample);
        samples.sort((a, b) => a.index - b.index);
        cards.insertBefore(sampleCard(sample), cards.children[samples.indexOf(sample)] ?? null);
        bar.at(samples.length, plan.k);
        redraw();
      },
    }, signal);
    redraw.stop();
    bar.end(`Done: ${plural(verdict.samples.length, "sample")}.`, true);
    picture.update(verdict.samples, verdict.k, scale(verdict.profile), verdict);
    show(head, summary(verdict), el("p.row", {},
      el("a.button", { href: `#/verdicts/${verdict.id}` }, "Open the record"),
      el("button", { type: "button", onclick: again }, "Judge with the next seed")));
  } catch (error) {
    if (error.name === "AbortError") return bar.end(`Cancelled after ${plural(samples.length, "sample")}.`);
    bar.end("No verdict.");
    show(head, problemBox(error, error.retryable ? retry : null));
    // What could not be read is shown all the same.
    if (error.samples) show(cards, error.samples.map((sample) => sampleCard(sample)));
  }
}

/** Draws at most once a frame. */
function soon(draw) {
  let due = 0;
  const ask = () => {
    due ||= requestAnimationFrame(() => {
      due = 0;
      draw();
    });
  };
  ask.stop = () => cancelAnimationFrame(due);
  return ask;
}

function pick(cards, index) {
  const card = cards.querySelector(`[data-sample="${Number(index)}"]`);
  if (!card) return;
  card.open = true;
  card.scrollIntoView({ block: "nearest" });
  card.querySelector("summary").focus();
}

function curl(box, request) {
  const quoted = JSON.stringify(request).replaceAll("'", "'\\''");
  const who = key() ? " -H \"Authorization: Bearer $GRM_KEY\"" : "";
  const address = new URL("v1/rewards", document.baseURI);
  const line = `curl -s ${address} -H 'Content-Type: application/json'${who} -d '${quoted}'`;
  show(box.lastChild, el("pre", {}, line), copyButton(line));
}
