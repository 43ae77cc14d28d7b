/* Images on a map of the earth: cells with counts, which the server gathers for what is in view, and a box that
   becomes a filter. Without tiles in the configuration the map is an outline, and nothing is asked of other hosts. */
"use strict";

(() => {
  // Datasette 0.65 does not name the language.
  document.documentElement.lang ||= "en";

  const root = document.querySelector(".image-earth");
  if (!root) return;

  const SIDE = 44; // CSS pixels of a picture.
  const WAIT = 150; // Milliseconds after the last movement.
  const SIDES = {
    latitude__gte: "getSouth",
    longitude__gte: "getWest",
    latitude__lte: "getNorth",
    longitude__lte: "getEast",
  };

  const make = (name, attributes = {}, ...children) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };
  const counted = (n) => `${n.toLocaleString("en")} image${n === 1 ? "" : "s"}`;

  const stage = make("div", { class: "image-earth-stage" });
  const said = make("span", { role: "status" });
  const choose = make(
    "button",
    { type: "button", class: "image-search-tool", "aria-pressed": "false", title: "Draw a box on the map" },
    "Box",
  );
  const clear = make("button", { type: "button", class: "image-search-tool", hidden: "" }, "Remove the box");
  root.append(stage, make("p", { class: "image-earth-status" }, choose, said, clear));

  const world = L.latLngBounds([-90, -180], [90, 180]);
  const map = L.map(stage, { worldCopyJump: false, maxBounds: world, maxBoundsViscosity: 1, zoomSnap: 0.25, maxZoom: 18 });
  map.attributionControl.setPrefix("");

  if (root.dataset.tiles) {
    L.tileLayer(root.dataset.tiles, { attribution: root.dataset.attribution, noWrap: true, maxZoom: 18 }).addTo(map);
  } else {
    fetch(root.dataset.outline).then((response) => response.json()).then(drawOutline);
  }

  /* TopoJSON: arcs as differences of whole numbers, and shapes as lists of arcs, those backwards as ~number. */
  function drawOutline(topology) {
    const { scale, translate } = topology.transform;
    const arcs = topology.arcs.map((arc) => {
      let [x, y] = [0, 0];
      return arc.map(([dx, dy]) => {
        x += dx;
        y += dy;
        return [y * scale[1] + translate[1], x * scale[0] + translate[0]];
      });
    });
    // A coast that crosses the 180th meridian goes on beyond it.
    const unbroken = (places) => {
      let turn = 0;
      return places.map(([latitude, longitude], at) => {
        const step = at ? longitude - places[at - 1][1] : 0;
        if (Math.abs(step) > 180 && latitude > -60) turn -= 360 * Math.sign(step);
        return [latitude, longitude + turn];
      });
    };
    const ring = (numbers) =>
      unbroken(numbers.flatMap((number) => (number < 0 ? [...arcs[~number]].reverse() : arcs[number])));
    const shapes = topology.objects.countries.geometries.flatMap((shape) =>
      shape.type === "Polygon" ? [shape.arcs] : (shape.arcs ?? []),
    );
    const style = getComputedStyle(root);
    const of = (name) => style.getPropertyValue(name).trim();
    const options = {
      pane: "tilePane",
      interactive: false,
      renderer: L.canvas({ pane: "tilePane", padding: 0.5 }),
      color: of("--image-search-line"),
      weight: 1,
      fillColor: of("--image-search-card"),
      fillOpacity: 1,
    };
    for (const shape of shapes) {
      const rings = shape.map(ring);
      L.polygon(rings, options).addTo(map);
      for (const turn of [-360, 360]) {
        const beyond = rings[0].some(([, longitude]) => Math.abs(longitude + turn) < 180 && Math.abs(longitude) > 180);
        if (beyond) L.polygon(rings.map((each) => each.map(([y, x]) => [y, x + turn])), options).addTo(map);
      }
    }
  }

  /* --- Cells ---------------------------------------------------------------------------------- */

  const markers = L.layerGroup().addTo(map);
  let asked = 0;
  let waiting = 0;
  let box = null; // What was drawn.

  function within(bounds) {
    const clamp = (value, most) => Math.max(-most, Math.min(most, value)).toFixed(6);
    return L.latLngBounds(
      [clamp(bounds.getSouth(), 90), clamp(bounds.getWest(), 180)],
      [clamp(bounds.getNorth(), 90), clamp(bounds.getEast(), 180)],
    );
  }

  function viewOf(bounds) {
    return [bounds.getSouth(), bounds.getWest(), bounds.getNorth(), bounds.getEast()].join(",");
  }

  async function load(bounds) {
    const url = new URL(root.dataset.url, location.href);
    url.searchParams.set("_view", viewOf(bounds));
    const data = await (await fetch(url)).json();
    if (!data.cells) throw new Error(data.error);
    return data;
  }

  /* The search has only what is in its own limits, too. */
  function searchUrl(bounds) {
    const url = new URL(root.dataset.search, location.href);
    for (const [name, side] of Object.entries(SIDES)) {
      const inner = name.endsWith("gte") ? Math.max : Math.min;
      url.searchParams.set(name, String(inner(bounds[side](), ...url.searchParams.getAll(name).map(Number))));
    }
    return url.href;
  }

  function tell({ cells, is_sample }, bounds, where) {
    const sum = cells.reduce((sum, cell) => sum + cell.count, 0);
    const count = is_sample ? Number(sum.toPrecision(2)) : sum;
    const words = is_sample ? "Show these" : `Show these ${counted(count)}`;
    const link = make("a", { href: searchUrl(bounds) }, count === 1 ? "Show it" : words);
    const about = is_sample ? "About " : "";
    said.replaceChildren(...(count ? [`${about}${counted(count)} ${where}. `, link] : [`No image ${where}.`]));
    clear.hidden = !box;
    root.dataset.count = count;
  }

  async function refresh() {
    const now = (asked += 1);
    const bounds = within(map.getBounds());
    try {
      const data = await load(bounds);
      if (now !== asked) return;
      markers.clearLayers();
      for (const cell of apart(data.cells)) markers.addLayer(marker(cell));
      if (!box) tell(data, bounds, "in view");
    } catch (problem) {
      if (now === asked) said.textContent = `Could not load the map: ${problem.message}`;
    }
  }

  /* Cells whose pictures would hide a fuller one are counted there. */
  function apart(cells) {
    const shown = [];
    for (const cell of cells) {
      const at = map.latLngToLayerPoint([cell.latitude, cell.longitude]);
      const box = L.latLngBounds(cell.box.slice(0, 2), cell.box.slice(2));
      const near = shown.find((other) => Math.abs(other.at.x - at.x) < SIDE && Math.abs(other.at.y - at.y) < SIDE);
      if (!near) {
        shown.push({ ...cell, at, box });
        continue;
      }
      near.count += cell.count;
      near.box.extend(box);
    }
    return shown;
  }

  function marker(cell) {
    const title = counted(cell.count);
    const face = make("div", { class: "image-earth-cell", role: "img", "aria-label": title });
    [face.style.width, face.style.height] = [`${SIDE}px`, `${SIDE}px`];
    face.style.backgroundImage = `url("${cell.thumbnail}")`;
    if (cell.count > 1) face.append(make("span", {}, cell.count.toLocaleString("en")));
    const icon = L.divIcon({ html: face, className: "", iconSize: [SIDE, SIDE] });
    const place = L.latLng(cell.latitude, cell.longitude);
    // Fuller cells lie above the others.
    const point = L.marker(place, { icon, title, alt: title, zIndexOffset: Math.min(cell.count, 1000) });
    const open = () => {
      const isOnePlace = cell.box.getSouthWest().distanceTo(cell.box.getNorthEast()) < 50;
      if (isOnePlace || map.getZoom() >= map.getMaxZoom()) location.assign(cell.count === 1 ? cell.url : searchUrl(cell.box));
      else map.fitBounds(cell.box, { padding: [SIDE, SIDE] });
    };
    point.on("click", open);
    point.on("keypress", ({ originalEvent }) => {
      if (originalEvent.key !== "Enter" && originalEvent.key !== " ") return;
      originalEvent.preventDefault();
      open();
    });
    return point;
  }

  map.on("moveend", () => {
    const isMoved = "ready" in root.dataset;
    window.clearTimeout(waiting);
    waiting = window.setTimeout(() => {
      if (isMoved) remember();
      refresh();
    }, WAIT);
  });

  /* The view is in the URL, so that "back" from a search leads to it. */
  function remember() {
    const url = new URL(location.href);
    url.searchParams.set("_view", viewOf(within(map.getBounds())));
    history.replaceState(history.state, "", url);
  }

  /* --- A box ------------------------------------------------------------------------------------ */

  let corner = null;
  const frame = L.rectangle(world, { weight: 2, interactive: false });

  choose.addEventListener("click", () => choosing(choose.getAttribute("aria-pressed") !== "true"));

  function choosing(is) {
    choose.setAttribute("aria-pressed", String(is));
    stage.classList.toggle("choosing", is);
    map.dragging[is ? "disable" : "enable"]();
    corner = null;
    if (is) removeBox();
  }

  function removeBox() {
    frame.remove();
    if (!box) return;
    box = null;
    refresh();
  }
  clear.addEventListener("click", () => {
    removeBox();
    choose.focus();
  });

  const placeOf = (event) => map.containerPointToLatLng(map.mouseEventToContainerPoint(event));
  const isChoosing = () => choose.getAttribute("aria-pressed") === "true";
  stage.addEventListener("pointerdown", (event) => {
    if (!isChoosing() || event.button || !event.isPrimary) return;
    stage.setPointerCapture(event.pointerId);
    corner = placeOf(event);
  });
  stage.addEventListener("pointermove", (event) => {
    if (corner && event.isPrimary) frame.setBounds(L.latLngBounds(corner, placeOf(event))).addTo(map);
  });
  stage.addEventListener("pointercancel", (event) => {
    if (!corner || !event.isPrimary) return;
    corner = null;
    frame.remove();
  });
  stage.addEventListener("pointerup", async (event) => {
    if (!corner || !event.isPrimary) return;
    const drawn = within(L.latLngBounds(corner, placeOf(event)));
    choosing(false);
    box = drawn;
    frame.setBounds(drawn).addTo(map);
    try {
      const data = await load(drawn);
      if (box === drawn) tell(data, drawn, "in the box");
    } catch (problem) {
      if (box === drawn) said.textContent = `Could not count: ${problem.message}`;
    }
  });

  const asFirst = new URLSearchParams(location.search).get("_view");
  if (asFirst) {
    const [south, west, north, east] = asFirst.split(",").map(Number);
    map.fitBounds([[south, west], [north, east]]);
    root.dataset.ready = "";
  } else {
    load(world).then(
      ({ cells }) => {
        const all = L.latLngBounds(cells.flatMap(({ box }) => [box.slice(0, 2), box.slice(2)]));
        map.fitBounds(all, { padding: [SIDE, SIDE], maxZoom: 12 });
        root.dataset.ready = "";
      },
      (problem) => (said.textContent = `Could not load the map: ${problem.message}`),
    );
  }
})();
