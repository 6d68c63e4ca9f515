/** The page: which view stands at which address. */

import { el, show } from "./dom.js";
import { Problem, ask } from "./http.js";
import { problemBox } from "./parts/problem.js";
import { improving } from "./views/improve.js";
import { oversight } from "./views/oversight.js";
import { playground } from "./views/playground.js";
import { principles } from "./views/principles.js";
import { probes } from "./views/probes.js";
import { queue } from "./views/queue.js";
import { verdict } from "./views/verdict.js";
import { verdicts } from "./views/verdicts.js";

const VIEWS = {
  playground: { title: "Playground", view: playground },
  improve: { title: "Improve", view: improving },
  verdicts: { title: "Verdicts", view: (at) => (at.id ? verdict(at) : verdicts(at)) },
  queue: { title: "Queue", view: queue },
  oversight: { title: "Oversight", view: oversight },
  principles: { title: "Principles", view: principles },
  probes: { title: "Probes", view: probes },
};
const main = document.querySelector("main");
let leaving = new AbortController();

/** Where the address points: "#/verdicts/vd_1?profile=p". */
function place() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, id = null] = path.split("/");
  return { name: name in VIEWS ? name : "playground", id, params: new URLSearchParams(query) };
}

async function go(first) {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const at = place();
  const { title, view } = VIEWS[at.name];
  document.title = `${title} · grm-service`;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#/${at.name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  main.setAttribute("aria-busy", "true");
  let content;
  try {
    content = await view({ ...at, signal });
  } catch (error) {
    if (signal.aborted) return;
    content = failed(title, error);
  }
  if (signal.aborted) return;
  show(main, content);
  main.removeAttribute("aria-busy");
  // Who uses a screen reader or the keyboard goes on from the new view, not from the link.
  if (!first) main.focus({ preventScroll: true });
  if (!first) scrollTo(0, 0);
}

function failed(title, error) {
  const heading = el("h1", {}, title);
  if (error instanceof Problem && error.missing) {
    return [heading, el("p.note", {}, "This is not available on this server: it has no such route.")];
  }
  return [heading, problemBox(error, () => go(false))];
}

/** What runs here, in the page's head; asked until it is ready. */
async function server() {
  const place = document.querySelector(".server");
  for (;;) {
    try {
      const ready = await (await ask("readyz", {})).json();
      const model = ready.model.split("/").at(-1);
      place.title = `${ready.model} · profile ${ready.profile} · ${ready.chosen}`;
      place.textContent = ready.engine === model ? model : `${ready.engine} · ${model}`;
      return;
    } catch (error) {
      place.textContent = error.code === "connection_lost" ? "no answer" : "loading the model";
    }
    await new Promise((resolve) => setTimeout(resolve, 2000));
  }
}

addEventListener("hashchange", () => go(false));
document.querySelector(".skip").addEventListener("click", (event) => {
  // The hash is the view's address.
  event.preventDefault();
  main.focus();
});
server();
go(true);
