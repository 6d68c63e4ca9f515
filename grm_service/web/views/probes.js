/** How the judge does against bias and attack. */

import { el } from "../dom.js";
import { getJson } from "../http.js";
import { bar, chip, facts, table } from "../parts/small.js";
import { percent, plural, when } from "../say.js";

export async function probes({ signal }) {
  const report = await getJson("v1/probes", signal);
  const columns = [
    { name: "Probe", of: named },
    { name: "Passed", numeric: true, of: ({ passed, cases }) => `${passed} of ${cases}` },
    { name: "Rate", numeric: true, of: ({ rate }) => [percent(rate), rate !== null && bar(rate, report.alarm)] },
    { name: "Unreadable", numeric: true, of: ({ unreadable }) => unreadable || "–" },
    { name: "Result", of: (probe) => [report.failed.includes(probe.name) && failed(), failures(probe)] },
  ];
  return el("div", {},
    el("h1", {}, "Probes"),
    el("p.about", {}, "Small cases of known answer that a judge is easily fooled by: the order swapped, padding, dress, ",
      "instructions in a response. They run on the server's schedule; ",
      el("code", {}, "grm probe"), " runs them in a terminal."),
    report.ran === null
      ? el("p.note", {}, "No probe has run on this server yet: set ", el("code", {}, "GRM_PROBE_EVERY_S"), ".")
      : [
        facts([
          ["Ran", when(report.ran)],
          ["Profile", report.profile],
          ["Alarm below", report.alarm === null ? "not set" : percent(report.alarm)],
        ]),
        table("Results", columns, report.probes),
      ]);
}

const failed = () => chip("failed", "Below the alarm", "bad");
const named = ({ name, what }) => [el("strong", {}, name.replaceAll("_", " ")), el("small.block", {}, what)];

function failures({ failures: found }) {
  return found.length > 0 && el("details", {}, el("summary", {}, plural(found.length, "failure")),
    el("ul", {}, found.map(({ case: name, why }) => el("li", {}, el("strong", {}, name), " ", why))));
}
