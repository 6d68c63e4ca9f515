/** Creates elements from plain values. Strings become text nodes, so HTML cannot be injected. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * Creates an element: `el("p.note", {id: "x"}, "text", node, [more])`.
 * Attributes that are functions become listeners (`onclick`); true and false set and omit an attribute. Children that
 * are null, undefined or false are omitted.
 */
export function el(name, attributes = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  return fill(document.createElement(tag), classes, attributes, children);
}

/** Creates an SVG element; see `el`. */
export function svg(name, attributes = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  return fill(document.createElementNS(SVG, tag), classes, attributes, children);
}

/** Replaces the children of a node. */
export function show(node, ...children) {
  node.replaceChildren(...nodes(children));
  return node;
}

function fill(node, classes, attributes, children) {
  if (classes.length) node.classList.add(...classes);
  node.append(...nodes(children));
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(key.slice(2), value);
    else if (key === "value") node.value = value;
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
  }
  return node;
}

function nodes(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : document.createTextNode(String(child))));
}
