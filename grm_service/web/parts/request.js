/** The form of a request, as POST /v1/rewards takes it. */

import { el } from "../dom.js";
import { letter } from "../say.js";
import { rows } from "./rows.js";
import { choice, field } from "./small.js";

const MODES = [
  ["self", "written by the judge, with each critique"],
  ["query", "written by the judge from the query alone, once"],
  ["fixed", "given: exactly these"],
];
const STOPS = [
  ["none", "no"],
  ["exact", "once the winner cannot change"],
  ["confident", "once it would change in at most 5 of 100"],
];
const SCORES = [["hard", "hard: the whole number written"], ["soft", "soft: expected, by token probabilities"]];

/** `fill(request)` puts a request into the form, `read()` takes it out. */
export function requestForm(profiles, sets) {
  const turns = rows({ add: "Add a turn", least: 1, most: 1000, row: turn });
  const responses = rows({ add: "Add a response", least: 1, most: 64, row: response });
  const items = rows({ add: "Add a principle", least: 0, most: 64, row: principle });
  const controls = {
    mode: choice(MODES),
    set: choice([["", "none"], ...sets.map(({ name }) => [name, name])]),
    // No name for the server's own: what it is may change.
    profile: choice(profiles.filter(({ served }) => served).map((each) => [each.default ? "" : each.name, each.name])),
    k: count(1, 64),
    seed: count(0, Number.MAX_SAFE_INTEGER),
    stop: choice(STOPS),
    score: choice(SCORES),
    reference: area(2),
    temperature: count(0, 2, "any"),
    max_tokens: count(1, 32768),
    timeout_s: count(0.1, 3600, "any"),
  };
  const aboutProfile = el("small");
  const aboutSet = el("small");
  function tell() {
    const { value } = controls.profile;
    const profile = profiles.find((each) => (value ? each.name === value : each.default));
    controls.k.placeholder = profile?.k ?? "";
    aboutProfile.textContent = profile?.description ?? "";
    aboutSet.textContent = sets.find(({ name }) => name === controls.set.value)?.description ?? "";
  }
  for (const each of [controls.profile, controls.set]) each.addEventListener("change", tell);

  function read() {
    const messages = turns.read();
    const plain = messages.length === 1 && messages[0].role === "user";
    const asked = plain ? { query: messages[0].content } : { messages };
    asked.responses = responses.read();
    asked.principles = { mode: controls.mode.value };
    if (controls.set.value) asked.principles.set = controls.set.value;
    if (items.read().length) asked.principles.items = items.read();
    for (const name of ["profile", "reference"]) if (controls[name].value) asked[name] = controls[name].value;
    for (const name of ["k", "seed", "temperature", "max_tokens", "timeout_s"]) {
      if (controls[name].value !== "") asked[name] = Number(controls[name].value);
    }
    return { ...asked, stop: controls.stop.value, score: controls.score.value };
  }

  function fill(request) {
    turns.fill(request.messages ?? [{ role: "user", content: request.query ?? "" }]);
    responses.fill(request.responses.map((each) => each.content ?? each));
    items.fill(request.principles?.items ?? []);
    controls.mode.value = request.principles?.mode ?? "self";
    controls.set.value = request.principles?.set ?? "";
    controls.stop.value = request.stop ?? "none";
    controls.score.value = request.score ?? "hard";
    for (const name of ["profile", "k", "seed", "reference", "temperature", "max_tokens", "timeout_s"]) {
      controls[name].value = request[name] ?? "";
    }
    // A profile that is not offered here leaves the choice to the server.
    if (controls.profile.selectedIndex < 0) controls.profile.value = "";
    tell();
  }

  const node = [
    group("Query", turns.node),
    group("Responses", responses.node),
    group("Principles",
      field("Where they come from", controls.mode),
      field("Named set", controls.set), aboutSet,
      items.node),
    group("Judging",
      el("div.pair", {}, field("Profile", controls.profile), field("Samples (k)", controls.k)), aboutProfile,
      el("div.pair", {}, field("Seed", controls.seed), field("Stop early", controls.stop)),
      el("details", {}, el("summary", {}, "More"),
        field("Scores", controls.score),
        field("Reference answer", controls.reference),
        el("div.pair", {},
          field("Temperature", controls.temperature),
          field("Most tokens a critique", controls.max_tokens)),
        field("Seconds at most", controls.timeout_s, "Then the samples at hand are voted."))),
  ];
  return { node, read, fill };
}

const group = (name, ...children) => el("fieldset", {}, el("legend", {}, name), children);
const area = (lines) => el("textarea", { rows: lines, dir: "auto", spellcheck: "false" });
const count = (min, max, step = 1) => el("input", { type: "number", min, max, step });

function turn({ role = "user", content = "" } = {}) {
  const who = choice(["user", "assistant", "system"].map((name) => [name, name]), role, { "aria-label": "Role" });
  const text = area(3);
  text.value = content;
  return {
    node: el("div.turn", {}, who, text),
    read: () => ({ role: who.value, content: text.value }),
    name(i) {
      text.setAttribute("aria-label", `Turn ${i + 1}`);
      return `turn ${i + 1}`;
    },
  };
}

function response(content = "") {
  const name = el("span.name");
  const text = area(3);
  text.value = content;
  return {
    node: el("div.response", {}, name, text),
    read: () => text.value,
    name(i) {
      name.textContent = letter(i);
      text.setAttribute("aria-label", `Response ${letter(i)}`);
      return `response ${letter(i)}`;
    },
  };
}

function principle({ text = "", weight = null } = {}) {
  const says = area(1);
  says.required = true;
  says.placeholder = "One sentence that a reader can check";
  says.value = text;
  const heavy = count(0.001, 1, "any");
  heavy.placeholder = "weight";
  heavy.value = weight ?? "";
  return {
    node: el("div.item", {}, says, heavy),
    read: () => (heavy.value === "" ? { text: says.value } : { text: says.value, weight: Number(heavy.value) }),
    name(i) {
      says.setAttribute("aria-label", `Principle ${i + 1}`);
      heavy.setAttribute("aria-label", `Weight of principle ${i + 1}, 0 to 1`);
      return `principle ${i + 1}`;
    },
  };
}
