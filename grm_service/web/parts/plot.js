/** Plots, as SVG. */

import { svg } from "../dom.js";

const HEIGHT = 52;

/** The position of a value on the scale, 0..1. */
const fraction = (value, [low, high]) => (value - low) / (high - low || 1);

/**
 * The scores of one response: one dot per sample in order of index from top to bottom, the mean as a line, its
 * standard error as a band. `dots`: [{index, score}] of k samples; `vote`: {mean, error}; `onPick(index)` is called
 * when a dot is clicked.
 */
export function strip(dots, vote, k, scale, label, onPick) {
  // Leaves room for the radius of dots at the ends of the scale.
  const x = (value) => `${2.5 + 95 * fraction(Math.min(Math.max(value, scale[0]), scale[1]), scale)}%`;
  const radius = Math.min(4, Math.max(1.8, (0.4 * HEIGHT) / k));
  const y = (index) => radius + 1 + ((HEIGHT - 2 * radius - 2) * (index + 0.5)) / k;
  const ticks = Array.from({ length: Math.min(scale[1] - scale[0], 20) + 1 }, (_, i) => scale[0] + i);
  const band = vote?.error && [x(vote.mean - vote.error), x(vote.mean + vote.error)].map(parseFloat);
  return svg("svg.strip", { role: "img", "aria-label": label, width: "100%", height: HEIGHT },
    ticks.map((tick) => svg("line.tick", { x1: x(tick), x2: x(tick), y1: 0, y2: HEIGHT })),
    band && svg("rect.band", { x: `${band[0]}%`, width: `${band[1] - band[0]}%`, y: 0, height: HEIGHT }),
    vote && svg("line.mean", { x1: x(vote.mean), x2: x(vote.mean), y1: 0, y2: HEIGHT }),
    dots.map(({ index, score }) => svg("circle.dot",
      { cx: x(score), cy: y(index), r: radius, "data-sample": index, onclick: () => onPick?.(index) },
      svg("title", {}, `sample ${index}: ${score}`))));
}

/** The running mean: `votes` [{mean, error}] after 1, 2, .. of k samples. */
export function trace(votes, k, scale) {
  const [width, pad] = [112, 3];
  const x = (i) => pad + ((width - 2 * pad) * i) / Math.max(1, k - 1);
  const y = (value) => HEIGHT - pad - (HEIGHT - 2 * pad) * Math.min(1, Math.max(0, fraction(value, scale)));
  const line = (valueOf) => votes.map((vote, i) => `${x(i)},${y(valueOf(vote))}`);
  const upper = line(({ mean, error }) => mean + (error ?? 0));
  const lower = line(({ mean, error }) => mean - (error ?? 0)).reverse();
  return svg("svg.trace", { "aria-hidden": "true", viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT },
    svg("line.tick", { x1: 0, x2: width, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5 }),
    svg("polygon.band", { points: [...upper, ...lower].join(" ") }),
    svg("polyline.mean", { points: line(({ mean }) => mean).join(" ") }),
    votes.length > 0 && svg("circle.end", { cx: x(votes.length - 1), cy: y(votes.at(-1).mean), r: 2.5 }));
}

/** A value in -1..1 with its interval; zero is marked. */
export function interval(value, [low, high], label) {
  const x = (position) => `${2 + 48 * (position + 1)}%`;
  return svg("svg.interval", { role: "img", "aria-label": label, width: "100%", height: 20 },
    svg("line.tick", { x1: x(-1), x2: x(1), y1: 10, y2: 10 }),
    svg("line.tick", { x1: x(0), x2: x(0), y1: 3, y2: 17 }),
    svg("line.mean", { x1: x(low), x2: x(high), y1: 10, y2: 10 }),
    svg("circle.end", { cx: x(value), cy: 10, r: 4 }));
}

/** Values in -1..1 with their intervals over time, [{value, ends}], null where undefined; zero is marked. */
export function overTime(values, label) {
  const height = 120;
  const x = (i) => `${2 + (96 * (i + 0.5)) / values.length}%`;
  const y = (value) => 6 + (height - 12) * (1 - fraction(value, [-1, 1]));
  const known = values.map((point, i) => ({ ...point, i })).filter(({ value }) => value !== null);
  return svg("svg.over-time", { role: "img", "aria-label": label, width: "100%", height },
    [1, 0, -1].map((tick) => svg("line.tick", { x1: "0%", x2: "100%", y1: y(tick), y2: y(tick) })),
    known.map(({ ends, i }) => ends && svg("line.range", { x1: x(i), x2: x(i), y1: y(ends[0]), y2: y(ends[1]) })),
    known.slice(1).map(({ value, i }, previous) => svg("line.mean",
      { x1: x(known[previous].i), y1: y(known[previous].value), x2: x(i), y2: y(value) })),
    known.map(({ value, i }) => svg("circle.end", { cx: x(i), cy: y(value), r: 4 })));
}
