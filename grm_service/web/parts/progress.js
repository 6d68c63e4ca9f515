/** How far a judgement is: a bar, the count, the seconds. */

import { el } from "../dom.js";
import { plural } from "../say.js";

export function progress(label = "Samples", waiting = "Waiting for the judge…") {
  const bar = el("progress", { "aria-label": label });
  const says = el("span", { role: "status" }, waiting);
  // Beside what is read aloud: a screen reader should not count seconds.
  const clock = el("span");
  const began = performance.now();
  const tick = () => { clock.textContent = ` ${Math.round((performance.now() - began) / 1000)} s`; };
  const ticking = setInterval(tick, 1000);
  return {
    node: el("div.progress", {}, bar, el("p", {}, says, clock)),
    at(n, k) {
      bar.max = k;
      bar.value = n;
      says.textContent = `${n} of ${plural(k, "sample")}`;
    },
    say(text) {
      says.textContent = text;
    },
    end(text, whole = false) {
      clearInterval(ticking);
      clock.remove();
      if (whole) bar.value = bar.max;
      else bar.remove();
      says.textContent = text;
    },
  };
}
