/** Pictures of numbers, as SVG. */

import { svg } from "../dom.js";

const HEIGHT = 52;

/** Where a value lies between the scale's ends, 0..1. */
const along = (value, [low, high]) => (value - low) / (high - low || 1);

/**
 * One response's scores: a dot a sample (further down, the later its index), the mean as a line, its standard error as
 * a band. `dots`: [{index, score}] of k samples; `vote`: {mean, error}; `pick` is told the sample of a dot.
 */
export function strip(dots, vote, k, scale, label, pick) {
  // The ends of the scale are dots too: room for their radius.
  const x = (value) => `${2.5 + 95 * along(Math.min(Math.max(value, scale[0]), scale[1]), scale)}%`;
  const radius = Math.min(4, Math.max(1.8, (0.4 * HEIGHT) / k));
  const y = (index) => radius + 1 + ((HEIGHT - 2 * radius - 2) * (index + 0.5)) / k;
  const ticks = Array.from({ length: Math.min(scale[1] - scale[0], 20) + 1 }, (_, i) => scale[0] + i);
  const band = vote?.error && [x(vote.mean - vote.error), x(vote.mean + vote.error)].map(parseFloat);
  return svg("svg.strip", { role: "img", "aria-label": label, width: "100%", height: HEIGHT },
    ticks.map((tick) => svg("line.tick", { x1: x(tick), x2: x(tick), y1: 0, y2: HEIGHT })),
    band && svg("rect.band", { x: `${band[0]}%`, width: `${band[1] - band[0]}%`, y: 0, height: HEIGHT }),
    vote && svg("line.mean", { x1: x(vote.mean), x2: x(vote.mean), y1: 0, y2: HEIGHT }),
    dots.map(({ index, score }) => svg("circle.dot",
      { cx: x(score), cy: y(index), r: radius, "data-sample": index, onclick: () => pick?.(index) },
      svg("title", {}, `sample ${index}: ${score}`))));
}

/** How the mean went as samples came in: `votes` [{mean, error}], after 1, 2, .. of k. */
export function trace(votes, k, scale) {
  const [width, pad] = [112, 3];
  const x = (i) => pad + ((width - 2 * pad) * i) / Math.max(1, k - 1);
  const y = (value) => HEIGHT - pad - (HEIGHT - 2 * pad) * Math.min(1, Math.max(0, along(value, scale)));
  const line = (of) => votes.map((vote, i) => `${x(i)},${y(of(vote))}`);
  const up = line(({ mean, error }) => mean + (error ?? 0));
  const down = line(({ mean, error }) => mean - (error ?? 0)).reverse();
  return svg("svg.trace", { "aria-hidden": "true", viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT },
    svg("line.tick", { x1: 0, x2: width, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5 }),
    svg("polygon.band", { points: [...up, ...down].join(" ") }),
    svg("polyline.mean", { points: line(({ mean }) => mean).join(" ") }),
    votes.length > 0 && svg("circle.end", { cx: x(votes.length - 1), cy: y(votes.at(-1).mean), r: 2.5 }));
}

/** A value of -1..1 with its interval, zero marked. */
export function interval(value, [low, high], label) {
  const x = (at) => `${2 + 48 * (at + 1)}%`;
  return svg("svg.interval", { role: "img", "aria-label": label, width: "100%", height: 20 },
    svg("line.tick", { x1: x(-1), x2: x(1), y1: 10, y2: 10 }),
    svg("line.tick", { x1: x(0), x2: x(0), y1: 3, y2: 17 }),
    svg("line.mean", { x1: x(low), x2: x(high), y1: 10, y2: 10 }),
    svg("circle.end", { cx: x(value), cy: 10, r: 4 }));
}

/** Values of -1..1 with their intervals, [{value, ends}] or nulls, evenly spaced over time; zero is marked. */
export function overTime(values, label) {
  const height = 120;
  const x = (i) => `${2 + (96 * (i + 0.5)) / values.length}%`;
  const y = (value) => 6 + (height - 12) * (1 - along(value, [-1, 1]));
  const known = values.map((each, i) => ({ ...each, i })).filter(({ value }) => value !== null);
  return svg("svg.over-time", { role: "img", "aria-label": label, width: "100%", height },
    [1, 0, -1].map((at) => svg("line.tick", { x1: "0%", x2: "100%", y1: y(at), y2: y(at) })),
    known.map(({ ends, i }) => ends && svg("line.range", { x1: x(i), x2: x(i), y1: y(ends[0]), y2: y(ends[1]) })),
    known.slice(1).map(({ value, i }, before) => svg("line.mean",
      { x1: x(known[before].i), y1: y(known[before].value), x2: x(i), y2: y(value) })),
    known.map(({ value, i }) => svg("circle.end", { cx: x(i), cy: y(value), r: 4 })));
}
