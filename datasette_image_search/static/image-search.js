/* Additions to the search page: previews, keys, search by a picture, late facets. It works without them. */
"use strict";

(() => {
  // Datasette 0.65 does not name the language.
  document.documentElement.lang ||= "en";

  const form = document.querySelector(".image-search-form");
  const box = form.querySelector("[name=q]");
  const found = document.querySelector(".image-search-found");
  const pictures = [];
  const inHistory = (changes) => history.replaceState({ ...history.state, ...changes }, "");

  /* --- The preview ----------------------------------------------------------------------------- */

  const dialog = document.querySelector(".image-search-preview");
  const first = found?.querySelector(".image-search-grid")?.start ?? 1;
  const total = Number(document.querySelector(".image-select")?.dataset.all);

  const preview = window.imageSearchPreview(pictures, {
    captionOf: (picture) => picture.parentElement.querySelector(".image-search-caption"),
    boxOf: (picture) => picture.parentElement.querySelector(".image-select-tick"),
    numberOf: (at) => [first + at, total],
    shown: (at) => {
      if (at > pictures.length - 10) loadMore();
    },
    settled: () => keepPlace(),
  });

  /* --- The next page, when the end of this one comes into view ---------------------------------- */

  const among = (root) => root.querySelectorAll(".image-search-picture");
  if (found) pictures.push(...among(found));

  /* Weaker matches are folded where they are long, and then wait for who opens them. */
  const fold = () => found.querySelector(".image-search-weaker");
  const goesOn = () => (fold() ? fold().open : !found.querySelector(".image-search-line"));
  const nextLink = () => found?.querySelector(".image-search-pages [rel=next]");

  /* All that is found there, behind what is found here: rows of the same kind go on. */
  function append(more) {
    const pages = found.querySelector(".image-search-pages");
    const known = new Set(pictures.map((picture) => new URL(picture.href).pathname));
    // Images may have come meanwhile, and moved others to this page.
    for (const picture of among(more)) {
      if (known.has(new URL(picture.href, location.href).pathname)) picture.closest("li").remove();
    }
    for (const heading of more.querySelectorAll(".image-search-date")) {
      if (heading.nextElementSibling?.matches("[data-key]")) continue;
      const rest = heading.nextElementSibling;
      if (rest?.matches(".image-search-rest")) rest.remove();
      heading.remove();
    }
    // A month that goes on has its heading already.
    const [before, again] = [[...found.querySelectorAll(".image-search-date")].at(-1), more.querySelector(".image-search-date:first-child")];
    if (!before || before.textContent === again?.textContent) again?.remove();
    else again?.before(Object.assign(document.createElement("li"), { className: "image-search-rest", ariaHidden: "true" }));
    let end = [...(fold()?.querySelectorAll(".image-search-grid") ?? [])].at(-1) ?? pages.previousElementSibling;
    for (const part of [...more.children]) {
      const isLine = part.matches(".image-search-line");
      if (part.matches(".image-search-pages, .image-search-before") || (isLine && (fold() || found.querySelector(".image-search-line")))) continue;
      pictures.push(...among(part));
      if (part.matches(".image-search-grid") && end.matches(".image-search-grid")) end.append(...part.children);
      else {
        pages.before(part);
        end = part;
      }
    }
    const next = more.querySelector(".image-search-pages [rel=next]");
    if (next) {
      pages.querySelector("span").replaceWith(more.querySelector(".image-search-pages span"));
      nextLink().replaceWith(next);
    } else pages.remove();
  }

  /* Whole rows go into lists of their own, so that a browser lays out none of a list that is out of view. */
  const MANY = 300;
  function setApart(list) {
    if (!list?.matches(".image-search-grid")) return;
    const all = [...list.children];
    const tops = all.map((each) => each.offsetTop);
    for (let start = 0, end = MANY; end < all.length; start = end, end += MANY) {
      while (end < all.length && tops[end] === tops[end - 1]) end += 1;
      if (end >= all.length) return;
      const rows = all.slice(start, end);
      const part = list.cloneNode(false);
      part.classList.add("whole");
      part.style.containIntrinsicSize = `auto ${tops[end] - tops[start]}px`;
      list.start += rows.filter((each) => each.dataset.key).length;
      list.before(part);
      part.append(...rows);
    }
  }

  let isLoading = false;

  async function loadMore(cache = "default") {
    const link = nextLink();
    if (!link || isLoading || !goesOn()) return;
    isLoading = true;
    atEnd.unobserve(link);
    try {
      const response = await fetch(link.href, { cache, headers: { "image-search-more": found.dataset.byDate ?? "pictures" } });
      if (response.status !== 200) throw new Error(response.statusText);
      const html = await response.text();
      setApart([...found.querySelectorAll(".image-search-grid")].at(-1));
      append(new DOMParser().parseFromString(html, "text/html").querySelector(".image-search-found"));
      watch();
    } catch {
      // The link is still there to be clicked, and the server may just be busy.
      setTimeout(watch, 3000);
    } finally {
      isLoading = false;
    }
  }

  const atEnd = new IntersectionObserver(
    (entries) => {
      if (entries.some((entry) => entry.isIntersecting)) loadMore();
    },
    { rootMargin: "2500px" },
  );
  function watch() {
    const link = nextLink();
    if (!link || !goesOn()) return;
    // Observed anew, so that it is told also if it is in view already.
    atEnd.unobserve(link);
    atEnd.observe(link);
  }
  // It does not bubble.
  found?.addEventListener("toggle", watch, true);
  // A page that is looked at from its beginning goes on, or from a picture; a person who asks for page 7 stays there.
  if (!found?.querySelector("[rel=prev]") || location.hash.startsWith("#image-")) watch();

  /* --- The place in the page, for who goes back to it and the browser has not kept it ------------ */

  // The browser would do so before the pictures are there, and on each way out of a preview.
  history.scrollRestoration = "manual";
  let settling = 0;

  function keepPlace() {
    const place = {
      top: scrollY,
      height: found.offsetHeight,
      shown: pictures.length,
      isUnfolded: Boolean(fold()?.open),
      focused: pictures.findIndex((picture) => picture.parentElement.contains(document.activeElement)),
    };
    inHistory({ place, ...preview.state() });
  }

  async function goToPlace({ top, height, shown, isUnfolded, focused }, previewed) {
    found.style.minHeight = `${height}px`;
    scrollTo(0, top);
    for (let before = -1; before < pictures.length; ) {
      before = pictures.length;
      if (isUnfolded && fold()) fold().open = true;
      // As they were.
      if (before < shown) await loadMore("force-cache");
    }
    found.style.minHeight = "";
    pictures[focused]?.focus({ preventScroll: true });
    if (previewed !== undefined) preview.show(previewed);
  }

  if (found) {
    if (history.state?.place) goToPlace(history.state.place, history.state.preview);
    addEventListener("scroll", () => {
      clearTimeout(settling);
      settling = setTimeout(keepPlace, 200);
    });
    // Before a link is followed.
    addEventListener("click", keepPlace, true);
  }

  /* --- The month in view, while a list by date is scrolled ---------------------------------------- */

  if (found && "byDate" in found.dataset) {
    const bar = document.querySelector(".image-search-bar");
    const month = Object.assign(document.createElement("p"), { className: "image-search-month", ariaHidden: "true" });
    found.prepend(month);
    const inWords = new Intl.DateTimeFormat(document.documentElement.lang, { month: "long", year: "numeric", timeZone: "UTC" });
    let hiding = 0;
    addEventListener("scroll", () => {
      const { left } = found.getBoundingClientRect();
      const { bottom } = bar.getBoundingClientRect();
      const seen = document.elementFromPoint(left + 30, bottom + 30)?.closest(".image-search-grid > li");
      const date = new Date(seen?.querySelector("time")?.dateTime.slice(0, 7) ?? NaN);
      const isDated = !Number.isNaN(date.getTime());
      if (isDated) month.textContent = inWords.format(date);
      month.classList.toggle("shown", isDated);
      clearTimeout(hiding);
      hiding = setTimeout(() => month.classList.remove("shown"), 1200);
    });
  }

  /* --- Menus: one at a time, closed by a click elsewhere or Escape ------------------------------ */

  const menus = [...document.querySelectorAll(".image-search-menu")];
  document.addEventListener("click", (event) => {
    for (const menu of menus) if (!menu.contains(event.target)) menu.open = false;
  });
  document.addEventListener("keydown", (event) => {
    const menu = event.key === "Escape" && menus.find((each) => each.open);
    if (!menu) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });

  /* --- Keys ------------------------------------------------------------------------------------ */

  /* The picture above or below, in the next row that has one; the matches and the others are two grids. */
  function beyond(at, direction) {
    const box = pictures[at].getBoundingClientRect();
    let best = at;
    let least = Infinity;
    for (const [other, picture] of pictures.entries()) {
      if (!picture.checkVisibility()) continue;
      const { left, top } = picture.getBoundingClientRect();
      const rows = direction * (top - box.top);
      // A row is further than anything in a row.
      const distance = rows * innerWidth + Math.abs(left - box.left);
      if (rows > 1 && distance < least) [best, least] = [other, distance];
    }
    return best;
  }

  const isTyping = (element) => /^(INPUT|SELECT|TEXTAREA)$/.test(element.tagName);

  // Captured, because "/" has another meaning on the other pages of Datasette 1.0.
  document.addEventListener(
    "keydown",
    (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "/" && !isTyping(event.target) && !dialog.open) {
        event.preventDefault();
        event.stopImmediatePropagation();
        box.focus();
        box.select();
        return;
      }
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (dialog.open) return;
      if (event.key === "Escape" && event.target === box) box.blur();
      if (!pictures.length) return;
      const at = pictures.indexOf(event.target);
      if (at < 0) {
        if (event.key === "ArrowDown" && event.target === box) {
          event.preventDefault();
          preview.moveTo(0);
        } else if (step && event.target === document.body) {
          event.preventDefault();
          preview.moveTo(step > 0 ? 0 : pictures.length - 1);
        }
        return;
      }
      const target = {
        ArrowLeft: () => at - 1,
        ArrowRight: () => at + 1,
        ArrowUp: () => beyond(at, -1),
        ArrowDown: () => beyond(at, 1),
        Home: () => 0,
        End: () => pictures.length - 1,
      }[event.key];
      if (target === undefined) return;
      event.preventDefault();
      preview.moveTo(target());
    },
    true,
  );

  /* --- Search by a picture --------------------------------------------------------------------- */

  const progress = form.querySelector(".image-search-progress");
  const chooser = form.querySelector(".image-search-file");
  const chooseButton = form.querySelector(".image-search-choose");

  function say(sentence, isWorking) {
    progress.replaceChildren(sentence);
    if (isWorking) {
      const bar = document.createElement("progress");
      bar.setAttribute("aria-label", "Searching");
      progress.append(bar);
    }
  }

  async function searchBy(file) {
    if (!/^(image|video)\//.test(file.type) && !/\.(hei[cf]|avif|mkv|mts)$/i.test(file.name)) {
      say(`${file.name || "That file"} is not a picture or film.`);
      return;
    }
    const url = form.dataset.uploadUrl;
    say(`Searching with ${file.name || "the picture"}…`, true);
    try {
      const { csrftoken } = await (await fetch(url)).json();
      const response = await fetch(url, {
        method: "POST",
        body: file,
        headers: {
          "content-type": "application/octet-stream",
          ...(csrftoken && { "x-csrftoken": csrftoken }),
        },
      });
      const answer = await response.json().catch(() => ({}));
      if (!answer.query) throw new Error(answer.error ?? `the server answered with status ${response.status}`);
      await keep(answer.query, file);
      const found = new URL(location.href);
      found.searchParams.delete("_next");
      found.searchParams.set("q", answer.query);
      location.assign(found);
    } catch (problem) {
      say(`Could not search with that picture: ${problem.message}`);
    }
  }

  /* The server keeps no picture that was sent to it, so this tab does, small, by the term that it became. */

  const SIDE = 64;
  const keptAs = (term) => `image-search ${term}`;

  async function keep(term, file) {
    try {
      const picture = await createImageBitmap(file);
      const canvas = Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE });
      const scale = SIDE / Math.min(picture.width, picture.height);
      const [width, height] = [picture.width * scale, picture.height * scale];
      const context = canvas.getContext("2d");
      context.drawImage(picture, (SIDE - width) / 2, (SIDE - height) / 2, width, height);
      sessionStorage.setItem(keptAs(term), canvas.toDataURL("image/jpeg"));
    } catch {
      // This browser cannot show the kind of picture, or keeps nothing: the chip has an icon.
    }
  }

  for (const icon of document.querySelectorAll("[data-vector]")) {
    let url = null;
    try {
      url = sessionStorage.getItem(keptAs(icon.dataset.vector));
    } catch {
      // Some browsers refuse it to pages in frames.
    }
    if (url) icon.replaceWith(Object.assign(new Image(32, 32), { src: url, alt: "" }));
  }

  const pictureIn = (transfer) => [...(transfer?.files ?? [])].find(Boolean);

  chooseButton.hidden = false;
  form.querySelector(".image-search-drop-help").hidden = false;
  chooseButton.addEventListener("click", () => chooser.click());
  chooser.addEventListener("change", () => {
    if (chooser.files[0]) searchBy(chooser.files[0]);
    chooser.value = "";
  });
  document.addEventListener("paste", (event) => {
    const file = pictureIn(event.clipboardData);
    if (!file) return;
    event.preventDefault();
    searchBy(file);
  });
  const bringsFiles = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!bringsFiles(event)) return;
    event.preventDefault();
    document.body.classList.add("image-search-dropping");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("image-search-dropping");
  });
  document.addEventListener("drop", (event) => {
    if (!bringsFiles(event)) return;
    event.preventDefault();
    document.body.classList.remove("image-search-dropping");
    const file = pictureIn(event.dataTransfer);
    if (file) searchBy(file);
  });

  /* --- Sending the form, and waiting ------------------------------------------------------------ */

  form.addEventListener("submit", () => {
    // An unused filter row would only cost a redirect.
    const unused = form.querySelector("[name=_filter_column]");
    if (!unused.value) {
      for (const field of form.querySelectorAll("[name^=_filter_]")) {
        if (/^_filter_(column|op|value)$/.test(field.name)) field.disabled = true;
      }
    }
    const by = form.querySelector("[name=_by]");
    if (by && !by.value) by.disabled = true;
    const sort = form.querySelector("[name=_sort]");
    const descending = form.querySelector("[name=_sort_by_desc]");
    if (!sort.value) {
      for (const field of form.querySelectorAll("[name=_sort], [name=_limit]")) field.disabled = true;
    } else if (descending.checked && sort.value !== sort.dataset.newest) sort.name = "_sort_desc";
    descending.disabled = true;
    window.setTimeout(() => say("Searching…", true), 400);
  });
  // After going back, the page must not look busy.
  window.addEventListener("pageshow", () => {
    progress.replaceChildren();
    for (const field of form.querySelectorAll("[name^=_filter_], [name^=_sort], [name=_limit], [name=_by]")) field.disabled = false;
    form.querySelector("[name=_sort_desc]")?.setAttribute("name", "_sort");
  });

  /* --- Years: drag across some for all from the first to the last --------------------------------- */

  document.addEventListener("pointerdown", (event) => {
    const svg = event.target.closest?.(".image-search-years");
    const first = svg && event.target.closest("a");
    if (!first || event.button) return;
    const bars = [...svg.querySelectorAll("a")];
    let brushed = [first];
    const brush = (move) => {
      const last = document.elementFromPoint(move.clientX, svg.getBoundingClientRect().bottom - 3)?.closest(".image-search-years a");
      if (!last) return;
      const ends = [bars.indexOf(first), bars.indexOf(last)].sort((one, other) => one - other);
      brushed = bars.slice(ends[0], ends[1] + 1);
      for (const bar of bars) bar.classList.toggle("brushed", brushed.includes(bar));
    };
    const stop = () => {
      removeEventListener("pointermove", brush);
      removeEventListener("pointerup", end);
      removeEventListener("pointercancel", stop);
      for (const bar of bars) bar.classList.remove("brushed");
    };
    const end = () => {
      stop();
      if (brushed.length < 2) return;
      const url = new URL(location.href);
      url.searchParams.delete("_next");
      url.searchParams.set(`${svg.dataset.column}__gte`, brushed[0].dataset.begin);
      url.searchParams.set(`${svg.dataset.column}__lt`, brushed.at(-1).dataset.end);
      location.assign(url);
    };
    addEventListener("pointermove", brush);
    addEventListener("pointerup", end);
    // The finger was to move the page.
    addEventListener("pointercancel", stop);
  });
  // A link would be dragged itself.
  document.addEventListener("dragstart", (event) => {
    if (event.target.closest?.(".image-search-years")) event.preventDefault();
  });

  /* --- Facets: the Tab key stops once at each, and arrows go on in it ------------------------------ */

  const aside = document.querySelector(".image-search-facets");
  const links = (box) => [...box.querySelectorAll("a, summary")];
  function stopAt(box, link) {
    for (const each of links(box)) each.tabIndex = each === link ? 0 : -1;
  }
  function stopOnce() {
    for (const box of aside.querySelectorAll(".image-search-facet")) stopAt(box, links(box)[0]);
  }
  if (aside) {
    stopOnce();
    aside.addEventListener("focusin", ({ target }) => {
      const box = target.closest(".image-search-facet");
      if (box) stopAt(box, target);
    });
    aside.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
      const box = step && event.target.closest(".image-search-facet");
      if (!box) return;
      event.preventDefault();
      const open = links(box).filter((each) => each.checkVisibility());
      open[open.indexOf(event.target) + step]?.focus();
    });
  }

  /* --- Facets that took too long for the page ---------------------------------------------------- */

  const facets = document.querySelector(".image-search-facets[data-later]");
  if (facets) {
    facets.setAttribute("aria-busy", "true");
    fetch(facets.dataset.later)
      .then((response) => response.text())
      .then((html) => {
        const later = new DOMParser().parseFromString(html, "text/html");
        const counted = later.querySelector(".image-search-facets");
        if (counted) facets.replaceChildren(...counted.children);
        stopOnce();
      })
      .finally(() => facets.removeAttribute("aria-busy"));
  }
})();
