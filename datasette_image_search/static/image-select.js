/* Selecting pictures on the search page, and what can be done with them. */
"use strict";

(() => {
  const found = document.querySelector(".image-search-found");
  const place = document.querySelector(".image-select");
  if (!found || !place) return;

  const { page, albums, originals, previews, pathColumn, all, allQuery, most } = place.dataset;
  const LONGEST_LINK = 6000; // Characters; servers and proxies accept 8,000.

  const TOO_LONG = "These are too many for a link: select fewer, or add them to an album and open that.";

  /* Key as JSON -> the path of the image. With `isAll`, everything that the search finds is selected. */
  const selected = new Map();
  let isAll = false;
  let last = null;

  const make = (name, attributes = {}, ...children) => {
    const element = document.createElement(name);
    for (const [attribute, value] of Object.entries(attributes)) element.setAttribute(attribute, value);
    element.append(...children);
    return element;
  };
  const button = (words, act) => {
    const made = make("button", { type: "button" }, words);
    made.addEventListener("click", act);
    return made;
  };
  const counted = (number) => `${number.toLocaleString("en")} ${number === 1 ? "image" : "images"}`;

  /* --- Ticks ------------------------------------------------------------------------------------- */

  const cards = () => [...found.querySelectorAll("li[data-key]")];
  // Weaker matches may be folded.
  const inView = () => cards().filter((card) => card.checkVisibility());
  const pathOf = (card) => card.querySelector(".image-search-picture").title;
  const nameOf = (card) => card.querySelector("img").alt;

  function addTick(card) {
    if (card.querySelector(".image-select-tick")) return;
    // Not a stop of the Tab key: x and Space do the same on the picture itself.
    const tick = make("button", { type: "button", class: "image-select-tick", tabindex: "-1", "aria-label": `Select ${nameOf(card)}` });
    card.append(tick);
    mark(card);
  }

  function mark(card) {
    const is = isAll || selected.has(card.dataset.key);
    card.classList.toggle("selected", is);
    card.querySelector(".image-select-tick").setAttribute("aria-pressed", is);
  }

  // Scrolling brings more.
  new MutationObserver((changes) => {
    for (const { addedNodes } of changes) {
      for (const node of addedNodes) {
        if (node.matches?.("li[data-key]")) addTick(node);
        else node.querySelectorAll?.("li[data-key]").forEach(addTick);
      }
    }
  }).observe(found, { childList: true, subtree: true });

  function choose(card, is) {
    if (is) selected.set(card.dataset.key, pathOf(card));
    else selected.delete(card.dataset.key);
  }

  function toggle(card, withRange) {
    const shown = inView();
    // From all to some: those that can be seen.
    if (isAll) for (const each of shown) choose(each, true);
    isAll = false;
    const is = !selected.has(card.dataset.key);
    const ends = [shown.indexOf(last), shown.indexOf(card)].sort((one, other) => one - other);
    if (withRange && ends[0] >= 0) for (const each of shown.slice(ends[0], ends[1] + 1)) choose(each, true);
    else choose(card, is);
    last = card;
    changed();
  }

  found.addEventListener(
    "click",
    (event) => {
      const card = event.target.closest("li[data-key]");
      const isTick = event.target.closest(".image-select-tick");
      const isRange = event.shiftKey && last && event.target.closest(".image-search-picture");
      if (!card || !(isTick || isRange)) return;
      event.preventDefault();
      event.stopPropagation();
      toggle(card, event.shiftKey);
    },
    true,
  );

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const picture = event.target.closest?.(".image-search-picture");
    if (picture && (event.key === " " || event.key.toLowerCase() === "x")) {
      event.preventDefault();
      toggle(picture.closest("li"), event.shiftKey);
    }
    if (event.key === "Escape" && !bar.hidden && !event.defaultPrevented && !document.querySelector(".image-search-menu[open]")) {
      const menu = bar.querySelector("details[open]");
      if (menu) {
        menu.open = false;
        menu.querySelector("summary").focus();
      } else if (!/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) clear();
    }
  });

  /* --- The bar ----------------------------------------------------------------------------------- */

  const count = make("strong", { role: "status" });
  const said = make("span", { class: "image-select-said", role: "status" });
  const actions = make("span", { class: "image-select-actions" });
  const away = button("\u2715", () => clear());
  away.setAttribute("aria-label", "Clear the selection");
  away.title = "Clear the selection";
  const bar = make("section", { class: "image-select-bar", "aria-label": "Selection", hidden: "" }, away, count, said, actions);
  place.replaceWith(bar);

  const isSelecting = () => isAll || selected.size > 0;
  const number = () => (isAll ? Number(all) : selected.size);
  const keys = () => [...selected.keys()].map((key) => JSON.parse(key));
  /* The query string of a search that finds exactly what is selected. */
  const set = () => new URLSearchParams(isAll ? allQuery : { _among: window.imageSearchAmong(keys()) });

  function url(path, more = {}) {
    const query = set();
    for (const [name, value] of Object.entries(more)) query.set(name, value);
    return `${path}?${query}`;
  }

  /* A link, also one that cannot be followed: it stays where it was, and Tab comes to it. */
  function link(words, href, attributes = {}) {
    if (href.length <= LONGEST_LINK) return make("a", { href, ...attributes }, words);
    const disabled = button(words, () => say(TOO_LONG));
    disabled.setAttribute("aria-disabled", "true");
    disabled.title = TOO_LONG;
    return disabled;
  }

  const say = (...words) => said.replaceChildren(...words);

  /* What the server answers in JSON; a proxy, or Datasette before it asks us, may answer something else. */
  async function ask(href, options = {}) {
    const response = await fetch(href, options);
    let answer;
    try {
      answer = await response.json();
    } catch {
      throw new Error(`the server answered ${response.status} ${response.statusText}; load the page again`);
    }
    if (!response.ok || !answer.ok) throw new Error(answer.error ?? `the server answered ${response.status}`);
    return answer;
  }

  function clear() {
    selected.clear();
    isAll = false;
    last = null;
    say();
    changed();
  }

  function changed() {
    cards().forEach(mark);
    bar.hidden = !isSelecting();
    document.body.classList.toggle("image-selecting", isSelecting());
    count.replaceChildren(isSelecting() ? `${counted(number())} selected` : "");
    say();
    if (!isSelecting()) return;
    const shown = inView();
    const parts = [];
    if (!isAll && shown.length !== Number(all) && shown.some((card) => !selected.has(card.dataset.key))) {
      parts.push(
        button(`all ${shown.length.toLocaleString("en")} shown`, () => {
          for (const card of shown) choose(card, true);
          changed();
        }),
      );
    }
    if (!isAll && all && Number(all) > selected.size) {
      parts.push(
        button(`all ${Number(all).toLocaleString("en")}`, () => {
          isAll = true;
          changed();
        }),
      );
    }
    if (!isAll) parts.push(link("Search these", url(page)));
    parts.push(button("Copy paths", copyPaths));
    // A page of data has no more rows.
    if (number() <= Number(most)) {
      const data = { _size: "max" };
      parts.push(link("CSV", url(`${page}.csv`, { ...data, _dl: "1" }), { download: "" }), link("JSON", url(`${page}.json`, data)));
    }
    if (originals) parts.push(link("ZIP", url(originals)), link("ZIP of previews", url(previews)));
    parts.push(...albumMenu());
    actions.replaceChildren(...parts.filter(Boolean));
  }

  async function copy(text) {
    // Browsers have it for pages of https and of this machine only.
    if (navigator.clipboard) return navigator.clipboard.writeText(text);
    const area = make("textarea", { style: "position: fixed; opacity: 0" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }

  async function copyPaths() {
    try {
      const paths = isAll ? await allPaths() : [...selected.values()];
      await copy(paths.join("\n"));
      const words = `${paths.length.toLocaleString("en")} ${paths.length === 1 ? "path" : "paths"}`;
      say(paths.length < number() ? `Copied only the first ${words} of ${counted(number())}: the pages of a query end there.` : `Copied ${words}.`);
    } catch (problem) {
      say(`Could not copy: ${problem.message}`);
    }
  }

  async function allPaths() {
    const paths = [];
    let next = url(`${page}.json`, { _size: "max" });
    while (next) {
      const answer = await ask(next);
      for (const hit of answer.hits) paths.push(String(hit.row[pathColumn] ?? hit.id));
      // With the host of this page: a proxy may have another.
      const following = answer.next_url && new URL(answer.next_url);
      next = following && `${page}.json${following.search}`;
      say(`${paths.length.toLocaleString("en")} paths…`);
    }
    return paths;
  }

  /* --- Albums ------------------------------------------------------------------------------------ */

  /* What the server says of albums and of who may change them; asked for with the first selection. */
  let known = null;

  async function askForAlbums() {
    known ??= { albums: [], may: {} };
    try {
      known = await ask(`${albums}.json`);
    } catch {
      // Without albums, all else works.
    }
    changed();
  }

  function albumMenu() {
    if (!known) {
      askForAlbums();
      return [];
    }
    const { add, create, remove } = known.may;
    if (!add && !create) return [];
    const panel = make("div");
    if (add) for (const { name } of known.albums) panel.append(button(name, () => send("add", name)));
    if (create) {
      const name = make("input", { type: "text", maxlength: "200", "aria-label": "Name of a new album", placeholder: "New album", required: "" });
      const form = make("form", {}, name, make("button", {}, "Add"));
      form.addEventListener("submit", (event) => {
        event.preventDefault();
        send("add", name.value);
      });
      panel.append(form);
    }
    const parts = [make("details", { class: "image-select-albums" }, make("summary", {}, "Add to album"), panel)];
    const here = new URLSearchParams(location.search).getAll("_image_album");
    if (remove && here.length === 1) parts.push(button(`Remove from ${here[0]}`, () => send("remove", here[0])));
    return parts;
  }

  /* What came or left, with a way back: it takes out exactly what came. */
  function tell(action, { changed, album, url, undo }) {
    const words = `${counted(changed)} ${action === "remove" ? "taken out of" : "added to"} `;
    say(words, make("a", { href: url }, album), ...(undo ? [" ", button("Undo", () => send(undo.action, undo.album, undo.search, { undo: undo.undo }))] : []));
    bar.hidden = false;
  }

  async function send(action, album, search = set(), more = {}) {
    say("Writing…");
    try {
      const answer = await ask(albums, {
        method: "POST",
        // A URL could not name thousands.
        body: new URLSearchParams({ action, album, search, ...more }),
        headers: { accept: "application/json", ...(known.csrftoken && { "x-csrftoken": known.csrftoken }) },
      });
      if (new URLSearchParams(location.search).getAll("_image_album").includes(album)) {
        // Other images are found now.
        clear();
        history.replaceState({ ...history.state, changedAlbum: { action, ...answer } }, "");
        location.reload();
        return;
      }
      await askForAlbums();
      tell(action, answer);
    } catch (problem) {
      say(`Nothing was changed: ${problem.message}`);
    }
  }

  /* --- Going away and coming back ------------------------------------------------------------------ */

  for (const [key, path] of history.state?.selected ?? []) selected.set(key, path);
  isAll = Boolean(history.state?.isAllSelected && all);
  cards().forEach(addTick);
  if (isSelecting()) changed();
  const { changedAlbum, ...state } = history.state ?? {};
  if (changedAlbum) {
    history.replaceState(state, "");
    askForAlbums().then(() => tell(changedAlbum.action, changedAlbum));
  }
  addEventListener("pagehide", () => {
    history.replaceState({ ...history.state, selected: [...selected], isAllSelected: isAll }, "");
  });
})();
