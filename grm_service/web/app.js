/** Routing: shows the view of the current address. */

import { el, show } from "./dom.js";
import { Problem, send } from "./http.js";
import { problemBox } from "./parts/problem.js";
import { improveView } from "./views/improve.js";
import { oversightView } from "./views/oversight.js";
import { playgroundView } from "./views/playground.js";
import { principlesView } from "./views/principles.js";
import { probesView } from "./views/probes.js";
import { queueView } from "./views/queue.js";
import { verdictView } from "./views/verdict.js";
import { verdictsView } from "./views/verdicts.js";

const VIEWS = {
  playground: { title: "Playground", view: playgroundView },
  improve: { title: "Improve", view: improveView },
  verdicts: { title: "Verdicts", view: (route) => (route.id ? verdictView(route) : verdictsView(route)) },
  queue: { title: "Queue", view: queueView },
  oversight: { title: "Oversight", view: oversightView },
  principles: { title: "Principles", view: principlesView },
  probes: { title: "Probes", view: probesView },
};
/** Why there are no verdicts now, by the code of the problem. */
const NOT_READY = {
  connection_lost: "no connection",
  audit_broken: "the audit trail is broken",
  audit_unavailable: "the audit trail is unavailable",
};
const main = document.querySelector("main");
let navigation = new AbortController();

/** The route in the address, such as "#/verdicts/vd_1?profile=p". */
function currentRoute() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, id = null] = path.split("/");
  return { name: name in VIEWS ? name : "playground", id, params: new URLSearchParams(query) };
}

async function navigate(first) {
  navigation.abort();
  navigation = new AbortController();
  const { signal } = navigation;
  const route = currentRoute();
  const { title, view } = VIEWS[route.name];
  document.title = `${title} · grm-service`;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#/${route.name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  main.setAttribute("aria-busy", "true");
  let content;
  try {
    content = await view({ ...route, signal });
  } catch (error) {
    if (signal.aborted) return;
    content = errorView(title, error);
  }
  if (signal.aborted) return;
  show(main, content);
  main.removeAttribute("aria-busy");
  // Keyboard and screen reader users continue from the new view, not from the link.
  if (!first) main.focus({ preventScroll: true });
  if (!first) scrollTo(0, 0);
}

function errorView(title, error) {
  const heading = el("h1", {}, title);
  if (error instanceof Problem && error.missing) {
    return [heading, el("p.note", {}, "This view is not available on this server: the API route does not exist.")];
  }
  return [heading, problemBox(error, () => navigate(false))];
}

/** Shows the served model in the page header, or why there are no verdicts now. */
async function showServer() {
  const status = document.querySelector(".server");
  for (;;) {
    let pause = 15_000;
    try {
      const ready = await (await send("readyz", {})).json();
      const model = ready.model.split("/").at(-1);
      status.title = `${ready.model} · profile ${ready.profile} · ${ready.chosen}`;
      status.textContent = ready.engine === model ? model : `${ready.engine} · ${model}`;
      status.classList.remove("alarm");
    } catch (error) {
      pause = 2_000;
      status.title = error.message;
      status.textContent = NOT_READY[error.code] ?? "loading the model";
      status.classList.toggle("alarm", error.code === "audit_broken");
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

addEventListener("hashchange", () => navigate(false));
document.querySelector(".skip").addEventListener("click", (event) => {
  // A jump to #main would change the hash, which holds the route.
  event.preventDefault();
  main.focus();
});
showServer();
navigate(true);
