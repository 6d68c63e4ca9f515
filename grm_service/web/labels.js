/** Labels and explanations for the codes that the API returns. */

/** Why a sample was not counted, by its error code. */
export const SAMPLE_ERRORS = {
  no_scores: "it ended without scores",
  cut_in_thinking: "it was cut off while the model was still thinking",
  wrong_count: "it does not have exactly one score per response",
  not_a_number: "one of its scores is not a number",
  out_of_scale: "one of its scores is outside the scale",
  too_long_to_grade: "it does not fit in the meta RM's context",
  prompt_too_long: "its soft scores do not fit in the context",
  no_score_tokens: "the engine returned no probabilities for its scores",
  soft_not_served: "the model server loses the thinking of an answer that it continues",
  deadline_exceeded: "the deadline passed before it finished",
  engine_failed: "the engine failed",
  engine_unreachable: "the model server did not respond",
  not_ready: "the engine was restarting",
};

/** Why a verdict should be reviewed: a label and an explanation. */
export const REVIEW_REASONS = {
  tie: ["tie", "Several responses share the top reward, so no response is the best."],
  low_agreement: ["low agreement", "The samples disagree on which response is best."],
  high_spread: ["high spread", "The scores of one response vary widely."],
  unreadable: ["unreadable", "Not every sample could be read."],
  votes_apart: ["votes differ", "The samples selected by the meta RM vote differently from all samples together."],
  flagged_principle: ["flagged principle", "A sample uses a principle that a reviewer marked as unsound."],
  probes_failed: ["probes failed", "The judge was failing a bias or attack probe at that time."],
};

/** Why an improvement run ended. */
export const STOP_REASONS = {
  rounds: "All rounds are complete.",
  no_gain: "The last round brought no gain beyond the spread of the votes.",
  tokens: "The token budget is used up.",
  seconds: "The time budget is used up.",
  failed: "A round failed; the results before it are still valid.",
};

/** Why a gain should be doubted: a label and an explanation. */
export const CAVEATS = {
  same_model: ["same model", "The policy is the judge: it rates its own answers."],
  gain_not_shared: ["gain not confirmed", "The second opinion sees no clear gain."],
  gain_unclear: ["gain unclear", "The gain is within the spread of the votes."],
  grew_longer: ["grew longer", "The answer grew by more than half; judges may favour length."],
};

/** Explanations of the linter's flags. */
export const LINT_FLAGS = {
  subjective: "Readers differ on it: it names nothing that can be checked.",
  compound: "It makes two demands.",
  ungrounded: "It is about something other than the queries.",
  style: "It is about length or form.",
  redundant: "It is nearly the same as a more frequent principle.",
  gameable: "Any response can write what earns it.",
};

/** What to do about a problem, by its code. */
const ADVICE = {
  connection_lost: "Check that the service is running and reachable, then try again.",
  unauthorized: "Ask the operator of this server for a key (grm keys add NAME), then try again.",
  overloaded: "Other requests are waiting too. Try again in a moment.",
  not_ready: "The model is still loading or restarting. Try again in a moment.",
  draining: "The server is shutting down. Try again when it is back.",
  all_unreadable: "Check the raw output of the model below. Another seed, more tokens or your own principles may help.",
  deadline_exceeded: "Request fewer samples or fewer tokens.",
  prompt_too_long: "Shorten the conversation or the responses, or judge fewer responses at once.",
  text_too_long: "Shorten the field named above.",
  soft_not_served: "Use hard scores: this engine does not return token probabilities.",
  profile_not_served: "Choose a profile that this server serves.",
  policy_failed: "The operator of this server must check the policy server: GRM_POLICY_URL.",
  audit_broken: "The operator of this server must look at the audit trail: grm audit verify names what is wrong with it.",
  audit_unavailable: "The operator of this server must check the audit trail: GRM_AUDIT_URL.",
};

export function advice(problem) {
  const known = ADVICE[problem.code];
  if (known) return problem.retryAfter ? `${known} The server suggests waiting ${problem.retryAfter} s.` : known;
  return problem.retryable
    ? "The same request may succeed: try again."
    : "Change the request: the same request would fail again.";
}
