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

  const groupOf = (picture) => picture.closest("fieldset");
  const pictures = [...form.querySelectorAll(".image-duplicates-picture")];
  const preview = window.imageSearchPreview(pictures, {
    captionOf: (picture) => picture.parentElement.querySelector(".image-duplicates-name"),
    boxOf: (picture) => picture.parentElement.querySelector("input"),
    numberOf: (at) => {
      const group = pictures.filter((each) => groupOf(each) === groupOf(pictures[at]));
      return [group.indexOf(pictures[at]) + 1, group.length];
    },
    isNear: (one, other) => groupOf(one) === groupOf(other),
    settled: () => history.replaceState({ ...history.state, ...preview.state() }, ""),
  });
  // Loaded again with a preview open, or come back to.
  if (history.state?.preview !== undefined) preview.show(history.state.preview);

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
