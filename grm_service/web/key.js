/** The API key, stored for this tab only. */

const STORAGE_KEY = "grm-key";
let pending = null;

/** The key that the user entered, or null. */
export const key = () => sessionStorage.getItem(STORAGE_KEY);

/**
 * Prompts for a key, once for all requests that need it, and returns it, or null if the user cancels.
 * `rejected` is the key that the server refused, if any.
 */
export function requestKey(rejected) {
  // Another request may have a newer key by now.
  if (key() && key() !== rejected) return Promise.resolve(key());
  pending ??= openDialog(rejected).finally(() => { pending = null; });
  return pending;
}

function openDialog(rejected) {
  const dialog = document.querySelector("dialog.key");
  const field = dialog.querySelector("input");
  dialog.querySelector(".error").textContent = rejected ? "The server does not accept this key." : "";
  dialog.querySelector("[value=cancel]").onclick = () => dialog.close("");
  field.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  field.focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const entered = dialog.returnValue === "use" ? field.value.trim() : "";
      field.value = "";
      if (entered) sessionStorage.setItem(STORAGE_KEY, entered);
      else sessionStorage.removeItem(STORAGE_KEY);
      resolve(entered || null);
    }, { once: true });
  });
}
