/* The page of an image: arrow keys and a finger go to its neighbours in the search. It works without them. */
"use strict";

(() => {
  document.documentElement.lang ||= "en";
  const go = (rel) => document.querySelector(`.image-search-large [rel=${rel}]`)?.click();

  document.addEventListener("keydown", (event) => {
    // In a film they go to another time, in a name to another letter.
    if (/^(VIDEO|INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    const rel = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
    if (rel) go(rel);
  });

  let touched = null;
  const large = document.querySelector(".image-search-large");
  large.addEventListener("pointerdown", (event) => {
    const isFree = event.isPrimary && visualViewport.scale === 1 && !event.target.closest("video");
    touched = event.pointerType === "touch" && isFree ? event : null;
  });
  large.addEventListener("pointerup", (event) => {
    if (touched?.pointerId !== event.pointerId) return;
    const [across, down] = [event.clientX - touched.clientX, event.clientY - touched.clientY];
    touched = null;
    if (Math.abs(across) > Math.max(50, 2 * Math.abs(down))) go(across > 0 ? "prev" : "next");
  });

  const menu = document.querySelector(".image-search-menu");
  document.addEventListener("click", (event) => {
    if (!menu.contains(event.target)) menu.open = false;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
})();
