/** A list of form rows that the user lengthens and shortens. */

import { el } from "../dom.js";

/**
 * `row(value)` makes a row: {node, read, name(i)}. `fill(values)` replaces all of them, `read()` gives what stands in
 * them. At least `least` and at most `most` rows.
 */
export function rows({ add, least, most, row }) {
  const list = el("ol.rows");
  const more = el("button.small", { type: "button", onclick: () => focus(push()) }, add);
  let all = [];

  function push(value) {
    const made = row(value);
    made.remove = el("button.remove", { type: "button", onclick: () => drop(made) }, "×");
    made.node = el("li", {}, made.node, made.remove);
    all.push(made);
    list.append(made.node);
    count();
    return made;
  }

  function drop(made) {
    const at = all.indexOf(made);
    all.splice(at, 1);
    made.node.remove();
    count();
    if (all.length) focus(all[Math.min(at, all.length - 1)]);
    else more.focus();
  }

  const focus = ({ node }) => node.querySelector("textarea").focus();

  function count() {
    more.disabled = all.length >= most;
    all.forEach((made, i) => {
      const name = made.name(i);
      made.remove.setAttribute("aria-label", `Remove ${name}`);
      made.remove.title = `Remove ${name}`;
      made.remove.disabled = all.length <= least;
    });
  }

  return {
    node: el("div", {}, list, more),
    read: () => all.map((made) => made.read()),
    fill(values) {
      all = [];
      list.replaceChildren();
      values.forEach(push);
      count();
    },
  };
}
