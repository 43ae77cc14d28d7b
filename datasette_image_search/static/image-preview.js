/* Large pictures over a page, one at a time: on the search page, and among duplicates. */
"use strict";

/*
 * `pictures` are the links around them, which may become more. Of the options, `captionOf` and `boxOf` are the
 * elements of a picture with its name and with its tick, and `numberOf` its number and how many there are; `isNear`
 * says whether one picture follows on another. `shown` is called with each position, `settled` when it stays.
 */
window.imageSearchPreview = (pictures, options) => {
  const { captionOf, boxOf, numberOf, isNear = () => true, shown = () => {}, settled } = options;
  const dialog = document.querySelector(".image-search-preview");
  const figure = dialog.querySelector("figure");
  const [number, choose, download] = dialog.querySelector(".image-search-tools").children;
  let position = -1;
  // Closing the preview goes back a step, which is told a moment later.
  let isGoingBack = false;
  let waiting = 0;
  let asking = null;

  function moveTo(at) {
    const folded = pictures[at]?.closest("details");
    if (folded) folded.open = true;
    pictures[at]?.focus();
  }

  function show(at) {
    if (at < 0 || at >= pictures.length) return;
    position = at;
    const picture = pictures[at];
    const frame = document.createElement("div");
    frame.className = "image-search-framed";
    // Show the thumbnail at once, and a larger picture when it has loaded, if there is an original.
    const image = picture.querySelector("img").cloneNode();
    image.removeAttribute("loading");
    fit(frame, image);
    image.addEventListener("load", () => fit(frame, image));
    if ("film" in picture.dataset) {
      const film = document.createElement("video");
      film.controls = true;
      film.onloadeddata = () => {
        if (!image.isConnected) return;
        frame.removeAttribute("style");
        image.replaceWith(film);
      };
      film.src = picture.dataset.film;
    } else if (picture.dataset.preview) {
      const large = new Image();
      large.onload = () => {
        image.removeAttribute("srcset");
        image.src = large.src;
      };
      large.src = picture.dataset.preview;
    }
    frame.append(image);
    const caption = document.createElement("figcaption");
    caption.append(captionOf(picture).cloneNode(true));
    figure.replaceChildren(frame, caption);
    tell();
    // A step of its own, so that going back closes it, and does not leave the page.
    if (!dialog.open && !isGoingBack && history.state?.preview === undefined) history.pushState({ preview: at }, "");
    if (!dialog.open) dialog.showModal();
    clearTimeout(waiting);
    asking?.abort();
    // Not of each picture that a held key passes: browsers allow some steps a second in the history.
    waiting = setTimeout(() => {
      settled();
      addFacts(frame, caption, picture.href);
    }, 150);
    shown(at);
  }

  function step(by) {
    if (pictures[position + by] && isNear(pictures[position], pictures[position + by])) show(position + by);
  }

  /* Twice its pixels at most. A table may have no sizes; then the attributes are a guess, less than its thumbnail. */
  function fit(frame, image) {
    let [width, height] = ["width", "height"].map((name) => Number(image.getAttribute(name)));
    if (!image.srcset && image.naturalWidth > width) [width, height] = [image.naturalWidth, image.naturalHeight];
    frame.style.setProperty("--pixels", width);
    frame.style.setProperty("--ratio", width / height);
  }

  /* The number of the picture, and whether it is chosen. */
  function tell() {
    const [at, total] = numberOf(position);
    number.textContent = at <= total ? `${at.toLocaleString("en")} of ${total.toLocaleString("en")}` : "";
    const box = boxOf(pictures[position]);
    choose.hidden = !box;
    choose.setAttribute("aria-pressed", String(box?.checked ?? box?.ariaPressed === "true"));
    download.hidden = true;
  }

  choose.addEventListener("click", () => {
    const isHidden = download.hidden;
    boxOf(pictures[position]).click();
    tell();
    download.hidden = isHidden;
  });

  /* What the page of the image says of it, and where in the picture text was read. */
  async function addFacts(frame, caption, url) {
    asking = new AbortController();
    try {
      const html = await (await fetch(url, { signal: asking.signal })).text();
      const page = new DOMParser().parseFromString(html, "text/html");
      const [facts, lines, link] = [".image-search-facts", ".image-search-lines", ".image-search-download"].map((part) =>
        page.querySelector(part),
      );
      if (facts) caption.append(facts);
      if (lines) frame.append(lines);
      if (!link) return;
      download.href = link.getAttribute("href");
      download.hidden = false;
    } catch {
      // The name and the links are there already.
    }
  }

  document.addEventListener("click", (event) => {
    const at = pictures.indexOf(event.target.closest("a"));
    // A click for another tab opens the row.
    if (at < 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    show(at);
  });
  for (const button of dialog.querySelectorAll("[data-step]")) {
    button.addEventListener("click", () => step(Number(button.dataset.step)));
  }
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.tagName === "FIGURE") dialog.close();
    const frame = event.target.closest(".image-search-framed");
    if (frame) lookCloser(frame, event);
  });
  document.addEventListener("keydown", (event) => {
    // A film has keys of its own.
    if (!dialog.open || event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "VIDEO") return;
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) step(by);
    if (event.key === "z") lookCloser(figure.querySelector(".image-search-framed"));
  });

  /* Twice as wide as the screen, around the point of a click, or the whole again. */
  function lookCloser(frame, point) {
    const picture = frame.querySelector("img");
    if (!picture) return;
    const box = picture.getBoundingClientRect();
    const at = (where, start, length) => (where === undefined ? 0.5 : (where - start) / length);
    const [across, down] = [at(point?.clientX, box.left, box.width), at(point?.clientY, box.top, box.height)];
    frame.classList.toggle("closer");
    frame.scrollTo(across * frame.scrollWidth - frame.clientWidth / 2, down * frame.scrollHeight - frame.clientHeight / 2);
  }

  /* A finger goes to the next picture sideways, and closes downwards; two enlarge the page, as everywhere. */
  let touched = null;
  dialog.addEventListener("pointerdown", (event) => {
    const isFree = event.isPrimary && visualViewport.scale === 1 && !event.target.closest(".closer, video, a, button");
    touched = event.pointerType === "touch" && isFree ? event : null;
  });
  dialog.addEventListener("pointerup", (event) => {
    if (touched?.pointerId !== event.pointerId) return;
    const [across, down] = [event.clientX - touched.clientX, event.clientY - touched.clientY];
    touched = null;
    if (Math.abs(across) > Math.max(50, 2 * Math.abs(down))) step(-Math.sign(across));
    else if (down > Math.max(90, 2 * Math.abs(across))) dialog.close();
  });
  dialog.addEventListener("close", () => {
    // This is told a moment later, when a quick person has opened it again.
    if (dialog.open) return;
    clearTimeout(waiting);
    asking?.abort();
    moveTo(position);
    figure.replaceChildren();
    if (history.state?.preview === undefined || isGoingBack) return;
    isGoingBack = true;
    history.back();
  });
  addEventListener("popstate", ({ state }) => {
    const wasClosed = isGoingBack;
    isGoingBack = false;
    // A quick person has opened it again before this was told.
    if (wasClosed && dialog.open) history.pushState({ preview: position }, "");
    else if (state?.preview !== undefined) show(state.preview);
    else if (dialog.open) dialog.close();
  });

  /* For the history of the page, while a preview is open. */
  const state = () => (dialog.open && !isGoingBack ? { preview: position } : {});

  return { show, moveTo, state };
};
