/** A list of form rows that the user can add to and remove from. */

import { el } from "../dom.js";

/**
 * A list of `min` to `max` rows. `row(value)` creates one: {node, read, name(i)}. `fill(values)` replaces all rows,
 * `read()` returns their values.
 */
export function rows({ add, min, max, row }) {
  const list = el("ol.rows");
  const addButton = el("button.small", { type: "button", onclick: () => focus(append()) }, add);
  let all = [];

  function append(value) {
    const added = row(value);
    added.remove = el("button.remove", { type: "button", onclick: () => drop(added) }, "×");
    added.node = el("li", {}, added.node, added.remove);
    all.push(added);
    list.append(added.node);
    update();
    return added;
  }

  function drop(dropped) {
    const at = all.indexOf(dropped);
    all.splice(at, 1);
    dropped.node.remove();
    update();
    if (all.length) focus(all[Math.min(at, all.length - 1)]);
    else addButton.focus();
  }

  const focus = ({ node }) => node.querySelector("textarea").focus();

  function update() {
    addButton.disabled = all.length >= max;
    all.forEach((each, i) => {
      const name = each.name(i);
      each.remove.setAttribute("aria-label", `Remove ${name}`);
      each.remove.title = `Remove ${name}`;
      each.remove.disabled = all.length <= min;
    });
  }

  return {
    node: el("div", {}, list, addButton),
    read: () => all.map((each) => each.read()),
    fill(values) {
      all = [];
      list.replaceChildren();
      values.forEach(append);
      update();
    },
  };
}
