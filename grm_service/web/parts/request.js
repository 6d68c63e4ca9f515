/** The form for a request to POST /v1/rewards. */

import { el } from "../dom.js";
import { letter } from "../format.js";
import { rows } from "./rows.js";
import { choice, field } from "./widgets.js";

const MODES = [
  ["self", "self: written by the judge in each critique"],
  ["query", "query: written by the judge once, from the query alone"],
  ["fixed", "fixed: exactly the ones below"],
];
const STOPS = [
  ["none", "no"],
  ["exact", "exact: once the winner cannot change"],
  ["confident", "confident: once it would change in at most 5 of 100 cases"],
];
const SCORES = [
  ["", "as the profile has it"],
  ["hard", "hard: the number as written"],
  ["soft", "soft: by token probabilities"],
];

/** The form: `fill(request)` loads a request into it, `read()` returns the request. */
export function requestForm(profiles, sets) {
  const turns = rows({ add: "Add a turn", min: 1, max: 1000, row: turn });
  const responses = rows({ add: "Add a response", min: 1, max: 64, row: response });
  const items = rows({ add: "Add a principle", min: 0, max: 64, row: principle });
  const controls = {
    mode: choice(MODES),
    set: choice([["", "none"], ...sets.map(({ name }) => [name, name])]),
    // The default profile has an empty value, so requests follow the server if its default changes.
    profile: choice(profiles.filter(({ served }) => served)
      .map(({ name, default: isDefault }) => [isDefault ? "" : name, name])),
    k: numberInput(1, 64),
    seed: numberInput(0, Number.MAX_SAFE_INTEGER),
    stop: choice(STOPS),
    score: choice(SCORES),
    reference: textArea(2),
    temperature: numberInput(0, 2, "any"),
    max_tokens: numberInput(1, 32768),
    thinking_tokens: numberInput(0, 131072),
    timeout_s: numberInput(0.1, 3600, "any"),
  };
  const profileHint = el("small");
  const setHint = el("small");
  function updateHints() {
    const { value } = controls.profile;
    const profile = profiles.find(({ name, default: isDefault }) => (value ? name === value : isDefault));
    controls.k.placeholder = profile?.k ?? "";
    profileHint.textContent = profile?.description ?? "";
    setHint.textContent = sets.find(({ name }) => name === controls.set.value)?.description ?? "";
  }
  for (const select of [controls.profile, controls.set]) select.addEventListener("change", updateHints);

  function read() {
    const messages = turns.read();
    const isQuery = messages.length === 1 && messages[0].role === "user";
    const request = isQuery ? { query: messages[0].content } : { messages };
    request.responses = responses.read();
    request.principles = { mode: controls.mode.value };
    if (controls.set.value) request.principles.set = controls.set.value;
    if (items.read().length) request.principles.items = items.read();
    for (const name of ["profile", "reference", "score"]) {
      if (controls[name].value) request[name] = controls[name].value;
    }
    for (const name of ["k", "seed", "temperature", "max_tokens", "thinking_tokens", "timeout_s"]) {
      if (controls[name].value !== "") request[name] = Number(controls[name].value);
    }
    return { ...request, stop: controls.stop.value };
  }

  function fill(request) {
    turns.fill(request.messages ?? [{ role: "user", content: request.query ?? "" }]);
    responses.fill(request.responses.map((response) => response.content ?? response));
    items.fill(request.principles?.items ?? []);
    controls.mode.value = request.principles?.mode ?? "self";
    controls.set.value = request.principles?.set ?? "";
    controls.stop.value = request.stop ?? "none";
    controls.score.value = request.score ?? "";
    for (const name of ["profile", "k", "seed", "reference", "temperature", "max_tokens", "thinking_tokens", "timeout_s"]) {
      controls[name].value = request[name] ?? "";
    }
    // If the profile is not offered here, use the server's default.
    if (controls.profile.selectedIndex < 0) controls.profile.value = "";
    updateHints();
  }

  const node = [
    group("Query", turns.node),
    group("Responses", responses.node),
    group("Principles",
      field("Mode", controls.mode),
      field("Principle set", controls.set), setHint,
      items.node),
    group("Judging",
      el("div.pair", {}, field("Profile", controls.profile), field("Samples (k)", controls.k)), profileHint,
      el("div.pair", {}, field("Seed", controls.seed), field("Stop early", controls.stop)),
      el("details", {}, el("summary", {}, "More options"),
        field("Scores", controls.score),
        field("Reference answer", controls.reference),
        el("div.pair", {},
          field("Temperature", controls.temperature),
          field("Max tokens per critique", controls.max_tokens)),
        field("Max tokens of thinking", controls.thinking_tokens, "On top of the critique's, for models that think; 0: off."),
        field("Timeout (s)", controls.timeout_s, "The vote then uses the samples finished so far."))),
  ];
  return { node, read, fill };
}

const group = (name, ...children) => el("fieldset", {}, el("legend", {}, name), children);
const textArea = (lines) => el("textarea", { rows: lines, dir: "auto", spellcheck: "false" });
const numberInput = (min, max, step = 1) => el("input", { type: "number", min, max, step });

function turn({ role = "user", content = "" } = {}) {
  const roles = ["user", "assistant", "system", "tool", "developer", "function"].map((name) => [name, name]);
  const roleSelect = choice(roles, role, { "aria-label": "Role" });
  const text = textArea(3);
  text.value = content;
  return {
    node: el("div.turn", {}, roleSelect, text),
    read: () => ({ role: roleSelect.value, content: text.value }),
    name(i) {
      text.setAttribute("aria-label", `Turn ${i + 1}`);
      return `turn ${i + 1}`;
    },
  };
}

function response(content = "") {
  const name = el("span.name");
  const text = textArea(3);
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
  const textInput = textArea(1);
  textInput.required = true;
  textInput.placeholder = "One sentence that can be checked";
  textInput.value = text;
  const weightInput = numberInput(0.001, 1, "any");
  weightInput.placeholder = "weight";
  weightInput.value = weight ?? "";
  return {
    node: el("div.item", {}, textInput, weightInput),
    read: () => (weightInput.value === ""
      ? { text: textInput.value }
      : { text: textInput.value, weight: Number(weightInput.value) }),
    name(i) {
      textInput.setAttribute("aria-label", `Principle ${i + 1}`);
      weightInput.setAttribute("aria-label", `Weight of principle ${i + 1}, 0 to 1`);
      return `principle ${i + 1}`;
    },
  };
}
