/** Files for the user to keep. */

import { el, show } from "../dom.js";
import { getBlob } from "../http.js";
import { problemBox } from "./problem.js";

/** A button that saves what stands at `path`, byte for byte as the server sent it. */
export function saveButton(label, path, name) {
  const wrong = el("div");
  async function save() {
    show(wrong);
    try {
      const link = el("a", { href: URL.createObjectURL(await getBlob(path)), download: name });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    } catch (error) {
      show(wrong, problemBox(error));
    }
  }
  return [el("button", { type: "button", onclick: save }, label), wrong];
}
