/** How things are said: numbers, dates, names, reasons. */

/** The caller's response i as a letter: A to Z, then AA. The numbers are kept for positions in the prompt. */
export function letter(i) {
  return (i >= 26 ? letter(Math.floor(i / 26) - 1) : "") + String.fromCharCode(65 + (i % 26));
}

/** A number of at most so many digits after the point; a dash where there is none. */
export const number = (value, digits = 2) => (typeof value === "number" ? String(+value.toFixed(digits)) : "–");

/** A number with exactly so many digits, for columns. */
export const fixed = (value, digits = 2) => (typeof value === "number" ? value.toFixed(digits) : "–");

export const percent = (share) => (typeof share === "number" ? `${Math.round(share * 100)} %` : "–");

export const plural = (n, one, many = `${one}s`) => `${n} ${n === 1 ? one : many}`;

/** The time here, to the second. */
export const when = (iso) => new Date(iso).toLocaleString("sv-SE");

/** Who stood where: "1 is B, 2 is A". */
export const shown = (order) => order.map((i, position) => `${position + 1} is ${letter(i)}`).join(", ");

/** Why a sample did not count. */
export const UNCOUNTED = {
  no_scores: "it ends without scores",
  wrong_count: "it has not one score a response",
  not_a_number: "one of its scores is no number",
  out_of_scale: "one of its scores lies outside the scale",
  too_long_to_grade: "the meta RM cannot read so long a text",
  prompt_too_long: "its soft scores do not fit the context",
  no_score_tokens: "the engine told no probabilities for its scores",
  deadline_exceeded: "time ran out before it was finished",
  engine_failed: "the engine failed",
  engine_unreachable: "the model's server did not answer",
  not_ready: "the engine was being brought back",
};

/** Why a verdict is worth a look: in a word, and in a sentence. */
export const REASONS = {
  tie: ["tie", "The top is shared: the vote names no best response."],
  low_agreement: ["low agreement", "The samples disagree on which response is best."],
  high_spread: ["high spread", "The scores of one response lie far apart."],
  unreadable: ["unreadable", "Not every sample could be read."],
  votes_apart: ["votes apart", "The samples that the meta RM kept vote otherwise than all together."],
  flagged_principle: ["flagged principle", "A sample states a principle that a reviewer called unsound."],
  probes_failed: ["probes failed", "The judge failed a bias or attack probe at that time."],
};

/** Why an improvement ended. */
export const STOPPED = {
  rounds: "All rounds were made.",
  no_gain: "A round brought no gain outside the votes' spread.",
  tokens: "The budget of tokens is used up.",
  seconds: "The time is up.",
  failed: "A round failed; what there was before stands.",
};

/** What speaks against believing a gain: in a word, and in a sentence. */
export const DOUBTS = {
  same_model: ["same model", "The policy is the judge: it rates its own answers."],
  gain_not_shared: ["gain not shared", "The second opinion sees no clear gain."],
  gain_unclear: ["gain unclear", "The gain is within the votes' spread."],
  grew_longer: ["grew longer", "The answer grew by more than half; a judge may like length."],
};

/** What the linter's flags mean. */
export const FLAGS = {
  subjective: "Readers differ on it: it names nothing that one can check.",
  compound: "Two demands in one.",
  ungrounded: "It speaks of something else than the queries did.",
  style: "It is about length or form.",
  redundant: "Much the same as a more frequent one.",
  gameable: "Any response can write what earns it.",
};

/** What to do about a problem, by its code. */
const ADVICE = {
  connection_lost: "Check that the service still runs and can be reached, then try again.",
  unauthorized: "Ask whoever runs this server for a key (grm keys add NAME), then try again.",
  overloaded: "Others are waiting too. Try again in a moment.",
  not_ready: "The model is still being loaded, or brought back. Try again in a moment.",
  draining: "The server is shutting down. Try again when it is back.",
  all_unreadable: "Look at what the model wrote below. Another seed, more tokens or principles of your own may help.",
  deadline_exceeded: "Ask for fewer samples, or fewer tokens.",
  prompt_too_long: "Shorten the conversation or the responses, or judge fewer at once.",
  text_too_long: "Shorten the text that is named.",
  soft_not_served: "Ask for hard scores: this engine tells no token probabilities.",
  profile_not_served: "Choose a profile that this server serves.",
  policy_failed: "Whoever runs this server must look at the policy's server: GRM_POLICY_URL.",
  audit_unavailable: "Whoever runs this server must look at the audit trail: GRM_AUDIT_URL.",
};

export function advice(problem) {
  const known = ADVICE[problem.code];
  if (known) return problem.retryAfter ? `${known} The server says: in ${problem.retryAfter} s.` : known;
  return problem.retryable
    ? "The same request may yet succeed: try again."
    : "Change the request: the same one would fail again.";
}
