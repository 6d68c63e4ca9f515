/** The API key, where the server wants one: for this tab only. */

const NAME = "grm-key";
let asking = null;

/** The key that the user gave, or null. */
export const key = () => sessionStorage.getItem(NAME);

/** Asks the user, once for all who need it; null where none is given. `refused` is a key that did not do. */
export function askKey(refused) {
  // Another request may have got a newer key meanwhile.
  if (key() && key() !== refused) return Promise.resolve(key());
  asking ??= dialog(refused).finally(() => { asking = null; });
  return asking;
}

function dialog(refused) {
  const box = document.querySelector("dialog.key");
  const field = box.querySelector("input");
  box.querySelector(".wrong").textContent = refused ? "The server does not know this key." : "";
  box.querySelector("[value=cancel]").onclick = () => box.close("");
  field.value = "";
  box.returnValue = "";
  box.showModal();
  field.focus();
  return new Promise((resolve) => {
    box.addEventListener("close", () => {
      const given = box.returnValue === "use" ? field.value.trim() : "";
      field.value = "";
      if (given) sessionStorage.setItem(NAME, given);
      else sessionStorage.removeItem(NAME);
      resolve(given || null);
    }, { once: true });
  });
}
