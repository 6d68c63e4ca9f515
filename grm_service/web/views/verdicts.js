/** The verdicts view: all verdicts, newest first, with search and filters. */

import { el } from "../dom.js";
import { letter, localTime, number, percent } from "../format.js";
import { getJson } from "../http.js";
import { choice, field, reasonChips, table } from "../parts/widgets.js";

const FILTERS = ["search", "profile", "status", "reviewed"];

export async function verdictsView({ params, signal }) {
  const query = new URLSearchParams({ limit: 50 });
  for (const name of [...FILTERS, "before"]) if (params.get(name)) query.set(name, params.get(name));
  const [{ verdicts, next }, profiles] = await Promise.all([
    getJson(`v1/verdicts?${query}`, signal),
    getJson("v1/profiles", signal),
  ]);
  const older = new URLSearchParams(params);
  older.set("before", next);
  return el("div", {},
    el("h1", {}, "Verdicts"),
    filters(params, profiles),
    verdicts.length
      ? table("Verdicts, newest first", COLUMNS, verdicts)
      : el("p.note", {}, params.size ? "No matching verdicts." : "No verdicts yet. Judge something in the playground."),
    el("p.row", {},
      params.has("before") && el("a.button", { href: "#/verdicts" }, "Newest"),
      next !== null && el("a.button", { href: `#/verdicts?${older}` }, "Older")));
}

const COLUMNS = [
  { name: "Created", of: ({ created }) => el("time", { datetime: created }, localTime(created)) },
  { name: "Query", of: link },
  { name: "Rewards", of: rewards },
  { name: "Agreement", numeric: true, of: ({ agreement }) => percent(agreement) },
  { name: "Profile", of: ({ profile }) => profile },
  { name: "Caller", of: ({ caller, route }) => `${caller || "anonymous"}, ${route}` },
  { name: "Reasons to review", of: ({ reasons }) => reasonChips(reasons) },
  { name: "Reviews", numeric: true, of: ({ reviews }) => reviews || "–" },
];

/** The query, as a link to its verdict. */
export function link({ id, query }) {
  return el("a.query", { href: `#/verdicts/${id}`, dir: "auto" }, query || "empty");
}

/** The rewards in one line, with the best emphasised; at most six are shown. */
export function rewards({ rewards: all, best }) {
  const max = 6;
  return el("span.each", {},
    all.slice(0, max).map((reward, i) => el(i === best ? "strong" : "span", {}, `${letter(i)} ${number(reward)}`)),
    all.length > max && el("span", {}, `and ${all.length - max} more`));
}

function filters(params, profiles) {
  const controls = {
    search: el("input", { type: "search", autocomplete: "off" }),
    profile: choice([["", "any"], ...profiles.map(({ name }) => [name, name])]),
    status: choice([["", "any"], ["ok", "ok"], ["partial", "partial"]]),
    reviewed: choice([["", "any"], ["true", "reviewed"], ["false", "not reviewed"]]),
  };
  for (const name of FILTERS) controls[name].value = params.get(name) ?? "";
  return el("form.filters", {
    role: "search",
    onsubmit(event) {
      event.preventDefault();
      const selected = FILTERS.map((name) => [name, controls[name].value]).filter(([, value]) => value);
      location.hash = `#/verdicts?${new URLSearchParams(selected)}`;
    },
  },
  field("Text", controls.search),
  field("Profile", controls.profile),
  field("Status", controls.status),
  field("Reviews", controls.reviewed),
  el("button.primary", {}, "Search"));
}
