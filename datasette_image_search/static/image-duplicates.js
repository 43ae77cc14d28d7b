/* What is ticked on the page of duplicates: how many, that a group keeps one, all of it at once, and paths to copy. */
"use strict";

(() => {
  // Datasette 0.65 does not name the language.
  document.documentElement.lang ||= "en";

  const form = document.querySelector("form.image-duplicates");
  if (!form) return;
  const count = form.querySelector(".image-duplicates-count");
  const copy = form.querySelector(".image-duplicates-copy");
  const ticked = () => [...form.querySelectorAll("input[type=checkbox]:checked")];

  function tell() {
    const n = ticked().length;
    count.textContent = `${n} selected`;
    for (const group of form.querySelectorAll("fieldset")) {
      const boxes = [...group.querySelectorAll("input[type=checkbox]")];
      // Images that are not shown stay.
      const none = !group.dataset.more && boxes.every((box) => box.checked);
      // Browsers show it beside the box when the form is sent.
      boxes[0].setCustomValidity(none ? "Keep one image of this group" : "");
      group.classList.toggle("keeps-none", none);
    }
  }

  function button(words, act) {
    const made = Object.assign(document.createElement("button"), { type: "button", textContent: words });
    made.addEventListener("click", () => {
      act();
      tell();
    });
    return made;
  }

  for (const group of form.querySelectorAll("fieldset")) {
    const boxes = [...group.querySelectorAll("input[type=checkbox]")];
    const keep = (only) => {
      for (const box of boxes) box.checked = only !== undefined && box !== only;
    };
    for (const box of boxes) {
      const only = button("Keep only this", () => keep(box));
      only.setAttribute("aria-label", `Keep only this: ${box.closest("li").querySelector("img").alt}`);
      box.closest(".image-duplicates-choose").append(only);
    }
    group.querySelector(".image-duplicates-foot").prepend(button("Keep all", () => keep()));
  }

  copy.hidden = !navigator.clipboard;
  copy.addEventListener("click", () => {
    if (!form.reportValidity()) return;
    // A name with a line break would be two other paths.
    const paths = ticked()
      .map((box) => box.dataset.path)
      .filter((path) => !/[\r\n]/.test(path));
    navigator.clipboard.writeText(paths.map((path) => `${path}\n`).join("")).then(
      () => (count.textContent = `${paths.length} path${paths.length === 1 ? "" : "s"} copied`),
      () => (count.textContent = "The browser refused to copy"),
    );
  });
  form.addEventListener("change", tell);
  // Browsers restore ticks after the page was left and entered again.
  window.addEventListener("pageshow", tell);
  tell();
})();
