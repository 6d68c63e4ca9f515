/** The vote over the samples received so far. Pure functions. */

/** The scores that a sample contributes to the vote: soft ones if it has them, null if it is unreadable. */
export const scoresOf = (sample) => sample.expected ?? sample.scores;

/** Mean and standard error (null for fewer than two values). */
export function mean(values) {
  const n = values.length;
  const average = values.reduce((sum, value) => sum + value, 0) / n;
  if (n < 2) return { n, mean: average, error: null };
  const squares = values.reduce((sum, value) => sum + (value - average) ** 2, 0);
  return { n, mean: average, error: Math.sqrt(squares / (n - 1) / n) };
}

/** The running mean after each value. */
export const running = (values) => values.map((_, i) => mean(values.slice(0, i + 1)));
