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

/** The scores without nulls: a sample of a large group has null for the responses that were not in its prompt. */
export const nonNull = (scores) => scores.filter((score) => score !== null);

/**
 * The leader over rows of scores (one row per sample): `best` (null for a tie at the top), `second`, and the mean lead.
 * The lead is the mean of the paired differences within samples, so strict and lenient samples do not blur it. If no
 * sample has both responses, it is the difference of their means.
 */
export function lead(rows) {
  const means = rows[0].map((_, i) => mean(nonNull(rows.map((row) => row[i]))).mean);
  const scored = means.map((_, i) => i).filter((i) => !Number.isNaN(means[i]));
  const [best, second] = scored.sort((a, b) => means[b] - means[a]);
  if (second === undefined || means[best] === means[second]) return { best: null };
  const both = rows.filter((row) => row[best] !== null && row[second] !== null);
  if (!both.length) return { best, second, n: 0, mean: means[best] - means[second], error: null };
  return { best, second, ...mean(both.map((row) => row[best] - row[second])) };
}

/** The number of samples that rank this response first; a sample with m tied at the top counts 1/m. */
export function support(rows, best) {
  return rows.reduce((sum, row) => {
    const top = Math.max(...nonNull(row));
    return sum + (row[best] === top ? 1 / row.filter((score) => score === top).length : 0);
  }, 0);
}
