/* What is ticked on the page of duplicates: how many, that a group keeps one, and their paths to copy. */
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
    count.textContent = `${n} image${n === 1 ? "" : "s"} ticked`;
    for (const group of form.querySelectorAll("fieldset")) {
      const boxes = [...group.querySelectorAll("input[type=checkbox]")];
      // Images that are not shown stay.
      const none = !group.dataset.more && boxes.every((box) => box.checked);
      // Browsers show it beside the box when the form is sent.
      boxes[0].setCustomValidity(none ? "Keep one image of this group" : "");
      group.classList.toggle("keeps-none", none);
    }
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
