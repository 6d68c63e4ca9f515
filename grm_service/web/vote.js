/** What the samples at hand say together. Pure: numbers in, numbers out. */

/** What a sample puts into the vote: soft scores where there are any; null where it could not be read. */
export const scoresOf = (sample) => sample.expected ?? sample.scores;

/** Mean and its standard error (null for fewer than two numbers). */
export function mean(values) {
  const n = values.length;
  const average = values.reduce((sum, value) => sum + value, 0) / n;
  if (n < 2) return { n, mean: average, error: null };
  const squares = values.reduce((sum, value) => sum + (value - average) ** 2, 0);
  return { n, mean: average, error: Math.sqrt(squares / (n - 1) / n) };
}

/** The mean of one response after each sample. */
export const running = (values) => values.map((_, i) => mean(values.slice(0, i + 1)));

/** What was given: a sample of a large group has null for the responses that it was not shown. */
export const given = (scores) => scores.filter((score) => score !== null);

/**
 * Who leads, over rows of scores (one row a sample): `best` (null where the top is tied), `second`, and the lead over
 * it as the mean of the samples' own differences, which a strict or a lenient sample does not blur; where no sample
 * saw both, the difference of their means.
 */
export function lead(rows) {
  const means = rows[0].map((_, i) => mean(given(rows.map((row) => row[i]))).mean);
  const seen = means.map((_, i) => i).filter((i) => !Number.isNaN(means[i]));
  const [best, second] = seen.sort((a, b) => means[b] - means[a]);
  if (second === undefined || means[best] === means[second]) return { best: null };
  const both = rows.filter((row) => row[best] !== null && row[second] !== null);
  if (!both.length) return { best, second, n: 0, mean: means[best] - means[second], error: null };
  return { best, second, ...mean(both.map((row) => row[best] - row[second])) };
}

/** The samples that put this response on top, those that share the top in part. */
export function support(rows, best) {
  return rows.reduce((sum, row) => {
    const top = Math.max(...given(row));
    return sum + (row[best] === top ? 1 / row.filter((score) => score === top).length : 0);
  }, 0);
}
