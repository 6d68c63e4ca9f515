/** The probes view: results of the bias and attack probes. */

import { el } from "../dom.js";
import { localTime, percent, plural } from "../format.js";
import { getJson } from "../http.js";
import { bar, chip, facts, table } from "../parts/widgets.js";

export async function probesView({ signal }) {
  const report = await getJson("v1/probes", signal);
  const columns = [
    { name: "Probe", of: description },
    { name: "Passed", numeric: true, of: ({ passed, cases }) => `${passed} of ${cases}` },
    { name: "Rate", numeric: true, of: ({ rate }) => [percent(rate), rate !== null && bar(rate, report.alarm)] },
    { name: "Unreadable", numeric: true, of: ({ unreadable }) => unreadable || "–" },
    { name: "Result", of: (probe) => [report.failed.includes(probe.name) && failedChip(), failureList(probe)] },
  ];
  return el("div", {},
    el("h1", {}, "Probes"),
    el("p.about", {}, "Small test cases with a known answer that judges easily get wrong: swapped order, padding, ",
      "formatting, instructions inside a response. They run on the server's schedule; ",
      el("code", {}, "grm probe"), " runs them in a terminal."),
    report.ran === null
      ? el("p.note", {}, "No probes have run on this server yet. Set ", el("code", {}, "GRM_PROBE_EVERY_S"),
        " to run them.")
      : [
        facts([
          ["Last run", localTime(report.ran)],
          ["Profile", report.profile],
          ["Alarm threshold", report.alarm === null ? "not set" : percent(report.alarm)],
        ]),
        table("Results", columns, report.probes),
      ]);
}

const failedChip = () => chip("failed", "Below the alarm threshold", "bad");
const description = ({ name, what }) => [el("strong", {}, name.replaceAll("_", " ")), el("small.block", {}, what)];

function failureList({ failures }) {
  return failures.length > 0 && el("details", {}, el("summary", {}, plural(failures.length, "failure")),
    el("ul", {}, failures.map(({ case: name, why }) => el("li", {}, el("strong", {}, name), " ", why))));
}
