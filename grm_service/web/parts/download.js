/** File downloads. */

import { el, show } from "../dom.js";
import { getBlob } from "../http.js";
import { problemBox } from "./problem.js";

/** A button that downloads `path` to a file, byte for byte as the server sends it. */
export function downloadButton(label, path, name) {
  const problem = el("div");
  async function save() {
    show(problem);
    try {
      const link = el("a", { href: URL.createObjectURL(await getBlob(path)), download: name });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    } catch (error) {
      show(problem, problemBox(error));
    }
  }
  return [el("button", { type: "button", onclick: save }, label), problem];
}
