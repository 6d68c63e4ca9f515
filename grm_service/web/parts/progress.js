/** The progress of a request: a bar, the sample count, the elapsed seconds. */

import { el } from "../dom.js";
import { plural } from "../format.js";

export function progress(label = "Samples", initial = "Waiting for the judge…") {
  const bar = el("progress", { "aria-label": label });
  const status = el("span", { role: "status" }, initial);
  // Outside the status element, so that screen readers do not announce every second.
  const clock = el("span");
  const started = performance.now();
  const tick = () => { clock.textContent = ` ${Math.round((performance.now() - started) / 1000)} s`; };
  const timer = setInterval(tick, 1000);
  return {
    node: el("div.progress", {}, bar, el("p", {}, status, clock)),
    update(n, k) {
      bar.max = k;
      bar.value = n;
      status.textContent = `${n} of ${plural(k, "sample")}`;
    },
    setStatus(text) {
      status.textContent = text;
    },
    finish(text, complete = false) {
      clearInterval(timer);
      clock.remove();
      if (complete) bar.value = bar.max;
      else bar.remove();
      status.textContent = text;
    },
  };
}
