/* Keys on the page of an image: the arrows go to its neighbours in the search. It works without them. */
"use strict";

document.documentElement.lang ||= "en";
document.addEventListener("keydown", (event) => {
  // In a film they go to another time.
  if (event.target.tagName === "VIDEO") return;
  if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
  const rel = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
  if (rel) document.querySelector(`.image-search-way [rel=${rel}]`)?.click();
});
