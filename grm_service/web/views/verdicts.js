/** The history: every verdict, newest first; search and filters. */

import { el } from "../dom.js";
import { getJson } from "../http.js";
import { choice, field, reasonChips, table } from "../parts/small.js";
import { letter, number, percent, plural, when } from "../say.js";

const FILTERS = ["search", "profile", "status", "reviewed"];

export async function verdicts({ params, signal }) {
  const asked = new URLSearchParams({ limit: 50 });
  for (const name of [...FILTERS, "before"]) if (params.get(name)) asked.set(name, params.get(name));
  const [{ verdicts: found, next }, profiles] = await Promise.all([
    getJson(`v1/verdicts?${asked}`, signal),
    getJson("v1/profiles", signal),
  ]);
  const older = new URLSearchParams(params);
  older.set("before", next);
  return el("div", {},
    el("h1", {}, "Verdicts"),
    filters(params, profiles),
    found.length
      ? table("Verdicts, newest first", COLUMNS, found)
      : el("p.note", {}, params.size ? "No verdict matches." : "No verdict yet: judge something in the playground."),
    el("p.row", {},
      params.has("before") && el("a.button", { href: "#/verdicts" }, "Newest"),
      next !== null && el("a.button", { href: `#/verdicts?${older}` }, "Older")));
}

const COLUMNS = [
  { name: "When", of: ({ created }) => el("time", { datetime: created }, when(created)) },
  { name: "Query", of: link },
  { name: "Rewards", of: rewards },
  { name: "Agreement", numeric: true, of: ({ agreement }) => percent(agreement) },
  { name: "Profile", of: ({ profile }) => profile },
  { name: "Asked by", of: ({ caller, route }) => `${caller || "anybody"}, ${route}` },
  { name: "Worth a look", of: ({ reasons }) => reasonChips(reasons) },
  { name: "Reviews", numeric: true, of: ({ reviews }) => reviews || "–" },
];

/** The query as a link to its verdict. */
export function link({ id, query }) {
  return el("a.query", { href: `#/verdicts/${id}`, dir: "auto" }, query || "empty");
}

/** The rewards in a line, the best marked; many are cut short. */
export function rewards({ rewards: all, best }) {
  const most = 6;
  return el("span.each", {},
    all.slice(0, most).map((reward, i) => el(i === best ? "strong" : "span", {}, `${letter(i)} ${number(reward)}`)),
    all.length > most && el("span", {}, `and ${plural(all.length - most, "more", "more")}`));
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
      const chosen = FILTERS.map((name) => [name, controls[name].value]).filter(([, value]) => value);
      location.hash = `#/verdicts?${new URLSearchParams(chosen)}`;
    },
  },
  field("Text", controls.search),
  field("Profile", controls.profile),
  field("Status", controls.status),
  field("Reviews", controls.reviewed),
  el("button.primary", {}, "Search"));
}
