/* A map of images: points to zoom into, with thumbnails if there is room. It runs in a page of
   Datasette, which names the URLs of the data, and in a file that contains all data. */
"use strict";

(() => {
  // Datasette 0.65 does not name the language.
  document.documentElement.lang ||= "en";

  const root = document.querySelector(".image-map");
  if (!root) return;

  const MARGIN = 40; // CSS pixels around the whole map.
  const DEEPEST = 1000; // The largest zoom; 1 shows the whole map.
  const REACH = 12; // The most CSS pixels from the pointer to the dot it points at.
  const FEW = 1500; // The most images in view that get thumbnails.
  const KEPT = 800; // The most thumbnails in memory.
  const LONGEST_LINK = 6000; // Characters; servers and proxies accept 8,000.

  const make = (name, attributes = {}, ...children) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };
  const counted = (n) => `${n.toLocaleString("en")} image${n === 1 ? "" : "s"}`;

  const status = make("p", { class: "image-map-status", role: "status" });

  const inside = root.querySelector("script[type='application/json']");
  if (inside) {
    start(JSON.parse(inside.textContent));
  } else {
    status.append("Placing the images…", make("progress", { "aria-label": "Placing the images" }));
    root.replaceChildren(status);
    fetch(root.dataset.url)
      .then((response) =>
        response.json().catch(() => ({ error: `the server answered with status ${response.status}` })),
      )
      .then((data) => {
        if (!data.images) throw new Error(data.error);
        start(data);
      })
      .catch((problem) => status.replaceChildren(`Could not load the map: ${problem.message}`));
  }

  function start(data) {
    const { id: ids, name: names, colour: codes, version: versions } = data.images;
    const n = ids.length;
    // From the left and from the top, 0 to 1.
    const xs = Float32Array.from(data.images.x, (x) => (x + 1) / 2);
    const ys = Float32Array.from(data.images.y, (y) => (1 - y) / 2);
    const links = root.dataset; // Empty in a map that is a file.

    /* --- The parts of the page ---------------------------------------------------------------- */

    const button = (text, title, action) => {
      const name = /\w/.test(text) ? {} : { "aria-label": title };
      const element = make("button", { type: "button", class: "image-search-tool", title, ...name }, text);
      element.addEventListener("click", action);
      return element;
    };
    const canvas = make("canvas", {
      tabindex: "0",
      role: "application",
      "aria-roledescription": "map",
      "aria-label": `Map of ${counted(n)}. Arrow keys move, plus and minus zoom, 0 shows all, Enter opens the image in the middle.`,
    });
    const card = make("figure", { class: "image-map-card", "aria-hidden": "true" });
    card.hidden = true;
    const lassoButton = button("Lasso", "Draw around images to select them, or drag with Shift", () => {
      const pressed = lassoButton.getAttribute("aria-pressed") !== "true";
      lassoButton.setAttribute("aria-pressed", String(pressed));
      canvas.classList.toggle("lasso", pressed);
    });
    lassoButton.setAttribute("aria-pressed", "false");
    const tools = make(
      "div",
      { class: "image-map-tools", role: "group", "aria-label": "Map" },
      button("+", "Zoom in", () => zoom(2)),
      button("−", "Zoom out", () => zoom(1 / 2)),
      button("Whole map", "Show all images", () => showAll()),
    );
    if (links.search) {
      tools.append(
        lassoButton,
        button("Select these", "Select all images in view", () => selectWithin(isInView)),
      );
    }
    const stage = make("div", { class: "image-map-stage" }, canvas, card);
    root.replaceChildren(tools, stage, status, legend());
    const context = canvas.getContext("2d", { alpha: false });

    function legend() {
      const { title, entries, scale } = data.legend;
      const list = make("ul", { class: "image-map-legend" });
      if (title) list.append(make("li", {}, make("strong", {}, title)));
      if (scale) {
        const bar = make("span", { class: "image-map-scale" });
        const colours = data.colours.slice(0, 64);
        bar.style.background = `linear-gradient(to right, ${colours.join(", ")})`;
        list.append(make("li", {}, scale[0], bar, scale[1]));
      }
      for (const { label, colour, count } of entries) {
        const swatch = make("span", { class: "image-map-swatch" });
        swatch.style.background = colour;
        list.append(make("li", {}, swatch, `${label} (${count.toLocaleString("en")})`));
      }
      return list;
    }

    /* --- What is in view ---------------------------------------------------------------------- */

    let width = 0;
    let height = 0;
    let ratio = 1; // Pixels of the canvas in a CSS pixel.
    let scale = 1;
    let [centreX, centreY] = [0.5, 0.5];
    let hovered = -1;
    let selected = null; // A byte per image, or null.
    let lasso = null; // Corners, while it is drawn.
    let pixels = null;
    let buffer = null;
    let shown = []; // Images with thumbnails.
    let drawing = 0;
    let settling = 0;

    const spanX = () => (width - 2 * MARGIN) * scale;
    const spanY = () => (height - 2 * MARGIN) * scale;
    const toScreen = (at) => [
      (xs[at] - centreX) * spanX() + width / 2,
      (ys[at] - centreY) * spanY() + height / 2,
    ];
    const isInView = (x, y) => x >= 0 && x <= width && y >= 0 && y <= height;

    function changed() {
      drawing ||= requestAnimationFrame(() => {
        drawing = 0;
        draw();
      });
    }

    function moved() {
      const clamp = (value) => Math.min(1, Math.max(0, value));
      [centreX, centreY] = [clamp(centreX), clamp(centreY)];
      // Another image may be under the pointer now.
      hover(-1);
      changed();
      window.clearTimeout(settling);
      settling = window.setTimeout(chooseThumbnails, 100);
    }

    function zoom(factor, x = width / 2, y = height / 2) {
      const before = scale;
      scale = Math.min(DEEPEST, Math.max(0.8, scale * factor));
      // The point under the pointer stays there.
      const kept = 1 / before - 1 / scale;
      centreX += ((x - width / 2) / (width - 2 * MARGIN)) * kept;
      centreY += ((y - height / 2) / (height - 2 * MARGIN)) * kept;
      moved();
    }

    function pan(across, down) {
      centreX -= across / spanX();
      centreY -= down / spanY();
      moved();
    }

    function showAll() {
      [scale, centreX, centreY] = [1, 0.5, 0.5];
      moved();
    }

    /* --- Drawing: dots are written into the pixels, which is fast on any machine ---------------- */

    const toPixel = (colour) => {
      const [, red, green, blue] = colour.match(/^#(..)(..)(..)$/).map((part) => parseInt(part, 16));
      return (0xff000000 | (blue << 16) | (green << 8) | red) >>> 0;
    };
    const mix = (over, under, alpha) => {
      const both = (under & 0xff00ff) + ((((over & 0xff00ff) - (under & 0xff00ff)) * alpha) >> 8);
      const green = (under & 0xff00) + ((((over & 0xff00) - (under & 0xff00)) * alpha) >> 8);
      return (0xff000000 | (both & 0xff00ff) | (green & 0xff00)) >>> 0;
    };
    const palette = Uint32Array.from(data.colours, toPixel);
    let paper = 0;
    let pale = palette;

    function readColours() {
      const colour = getComputedStyle(root).getPropertyValue("--image-map-paper").trim();
      paper = toPixel(colour);
      pale = palette.map((each) => mix(each, paper, 60));
      changed();
    }

    /* A disc as a list of offsets into the pixels, and how much of each it covers, 0 to 256. */
    function disc(radius) {
      const reach = Math.ceil(radius);
      const offsets = [];
      const alphas = [];
      for (let y = -reach; y <= reach; y++) {
        for (let x = -reach; x <= reach; x++) {
          const alpha = Math.round(256 * Math.min(1, Math.max(0, radius + 0.5 - Math.hypot(x, y))));
          if (alpha) {
            offsets.push(y * canvas.width + x);
            alphas.push(alpha);
          }
        }
      }
      return { reach, offsets, alphas };
    }

    const radius = () => {
      const alone = Math.sqrt((width * height) / n) / 8;
      return Math.min(6, Math.max(1.4, alone) * Math.min(3, scale ** 0.3));
    };

    function dots(stamp, colours, wanted) {
      const { reach, offsets, alphas } = stamp;
      const [w, h] = [canvas.width, canvas.height];
      const [stretchX, stretchY] = [spanX() * ratio, spanY() * ratio];
      const left = w / 2 - centreX * stretchX;
      const top = h / 2 - centreY * stretchY;
      for (let at = 0; at < n; at++) {
        if (selected && selected[at] !== wanted) continue;
        const x = Math.round(xs[at] * stretchX + left);
        const y = Math.round(ys[at] * stretchY + top);
        if (x < reach || y < reach || x >= w - reach || y >= h - reach) continue;
        const middle = y * w + x;
        const colour = colours[codes[at]];
        for (let part = 0; part < offsets.length; part++) {
          const pixel = middle + offsets[part];
          const alpha = alphas[part];
          buffer[pixel] = alpha === 256 ? colour : mix(colour, buffer[pixel], alpha);
        }
      }
    }

    function draw() {
      if (!pixels) return;
      buffer.fill(paper);
      const stamp = disc(radius() * ratio);
      if (selected) dots(stamp, pale, 0);
      dots(stamp, palette, 1);
      context.putImageData(pixels, 0, 0);
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      for (const at of shown) {
        if (at !== hovered) drawThumbnail(at);
      }
      if (hovered >= 0) {
        drawThumbnail(hovered);
        const [x, y] = toScreen(hovered);
        context.lineWidth = 2;
        context.strokeStyle = getComputedStyle(root).color;
        if (!shown.includes(hovered)) {
          context.beginPath();
          context.arc(x, y, radius() + 3, 0, 2 * Math.PI);
          context.stroke();
        }
      }
      if (lasso) {
        context.beginPath();
        for (const [x, y] of lasso) context.lineTo(x, y);
        context.closePath();
        context.lineWidth = 2;
        context.strokeStyle = getComputedStyle(root).color;
        context.setLineDash([6, 4]);
        context.stroke();
        context.setLineDash([]);
      }
      context.setTransform(1, 0, 0, 1, 0, 0);
    }

    /* --- Thumbnails ----------------------------------------------------------------------------- */

    const side = () => (width < 600 ? 48 : 72);
    const loaded = new Map(); // Image -> { picture, part of it }, those used last at the end.
    const sprites = data.sprites && {
      ...data.sprites,
      at: new Map(data.sprites.of.map((image, place) => [image, place])),
      pictures: data.sprites.sheets.map((url) => {
        const sheet = new Image();
        sheet.onload = changed;
        sheet.src = url;
        return sheet;
      }),
    };

    // As Datasette writes keys in URLs.
    const tilde = (key) =>
      [...new TextEncoder().encode(String(key))]
        .map((byte) => {
          const letter = String.fromCharCode(byte);
          if (/[\w-]/.test(letter)) return letter;
          return letter === " " ? "+" : `~${byte.toString(16).toUpperCase().padStart(2, "0")}`;
        })
        .join("");
    const thumbnailUrl = (at) => {
      const version = versions[at] ? `?v=${encodeURIComponent(versions[at])}` : "";
      return `${links.images}/${tilde(ids[at])}/thumbnail${version}`;
    };
    const rowUrl = (at) => links.rows && `${links.rows}/${tilde(ids[at])}`;

    /* The picture of an image and the part of it to show: [picture, x, y, width, height]. */
    function thumbnail(at) {
      if (sprites) {
        const place = sprites.at.get(at);
        if (place === undefined) return null;
        const { columns } = sprites;
        const inSheet = place % (columns * columns);
        const picture = sprites.pictures[Math.floor(place / (columns * columns))];
        const [x, y] = [inSheet % columns, Math.floor(inSheet / columns)];
        return [picture, x * sprites.side, y * sprites.side, ...sprites.sizes[place]];
      }
      let picture = loaded.get(at);
      loaded.delete(at);
      if (!picture) {
        picture = new Image();
        picture.onload = changed;
        picture.src = thumbnailUrl(at);
        if (loaded.size > KEPT) loaded.delete(loaded.keys().next().value);
      }
      loaded.set(at, picture);
      return [picture, 0, 0, picture.naturalWidth, picture.naturalHeight];
    }

    function boxOf(at) {
      const found = thumbnail(at);
      if (!found || !found[0].complete || !found[0].naturalWidth) return null;
      const [, , , w, h] = found;
      const shrink = side() / Math.max(w, h);
      const [x, y] = toScreen(at);
      return { found, x: x - (w * shrink) / 2, y: y - (h * shrink) / 2, w: w * shrink, h: h * shrink };
    }

    function drawThumbnail(at) {
      if (!shown.includes(at)) return;
      const box = boxOf(at);
      if (!box || box.x > width || box.y > height || box.x + box.w < 0 || box.y + box.h < 0) return;
      const { found, x, y, w, h } = box;
      context.globalAlpha = selected && !selected[at] ? 0.35 : 1;
      context.strokeStyle = at === hovered ? getComputedStyle(root).color : data.colours[codes[at]];
      context.lineWidth = 2;
      context.drawImage(...found, x, y, w, h);
      context.strokeRect(x - 1, y - 1, w + 2, h + 2);
      context.globalAlpha = 1;
    }

    /* The images in view that do not hide each other. Images with thumbnails already keep them. */
    function chooseThumbnails() {
      const distance = side() + 6;
      const inView = [];
      for (let at = 0; at < n; at++) {
        const [x, y] = toScreen(at);
        if (isInView(x, y)) inView.push(at);
      }
      const taken = new Map();
      const chosen = [];
      const candidates = inView.length > FEW ? [] : new Set([...shown, ...inView]);
      for (const at of candidates) {
        if (sprites && !sprites.at.has(at)) continue;
        const [x, y] = toScreen(at);
        if (!isInView(x, y)) continue;
        const [column, row] = [Math.floor(x / distance), Math.floor(y / distance)];
        let hides = false;
        for (let across = -1; across <= 1; across++) {
          for (let down = -1; down <= 1; down++) {
            const other = taken.get(`${column + across} ${row + down}`);
            hides ||=
              other && Math.abs(other[0] - x) < distance && Math.abs(other[1] - y) < distance;
          }
        }
        if (hides) continue;
        taken.set(`${column} ${row}`, [x, y]);
        chosen.push(at);
      }
      shown = chosen;
      root.dataset.inView = inView.length;
      root.dataset.shown = shown.length;
      changed();
    }

    /* --- The image that is pointed at ----------------------------------------------------------- */

    function nearest(x, y, reach) {
      for (const at of shown) {
        const box = boxOf(at);
        if (box && x >= box.x && x <= box.x + box.w && y >= box.y && y <= box.y + box.h) return at;
      }
      let best = -1;
      let least = reach * reach;
      const [stretchX, stretchY] = [spanX(), spanY()];
      const left = width / 2 - centreX * stretchX - x;
      const top = height / 2 - centreY * stretchY - y;
      for (let at = 0; at < n; at++) {
        const across = xs[at] * stretchX + left;
        const down = ys[at] * stretchY + top;
        const distance = across * across + down * down;
        if (distance < least) [best, least] = [at, distance];
      }
      return best;
    }

    function hover(at) {
      if (at === hovered) return;
      hovered = at;
      canvas.classList.toggle("pointing", at >= 0 && Boolean(rowUrl(at)));
      card.hidden = at < 0;
      changed();
      if (at < 0) return;
      const caption = make("figcaption", {}, names[at]);
      card.replaceChildren(...[pictureOf(at), caption].filter(Boolean));
      const [x, y] = toScreen(at);
      // Beside the image, on the side where there is room.
      card.style.left = x < width / 2 ? `${x + side() / 2 + 10}px` : "auto";
      card.style.right = x < width / 2 ? "auto" : `${width - x + side() / 2 + 10}px`;
      card.style.top = y < height / 2 ? `${Math.max(y - 20, 4)}px` : "auto";
      card.style.bottom = y < height / 2 ? "auto" : `${Math.max(height - y - 20, 4)}px`;
    }

    function pictureOf(at) {
      if (!sprites) return make("img", { src: thumbnailUrl(at), alt: "" });
      const found = thumbnail(at);
      if (!found) return null;
      const [picture, x, y, w, h] = found;
      const part = make("canvas", { width: String(w), height: String(h) });
      part.getContext("2d").drawImage(picture, x, y, w, h, 0, 0, w, h);
      return part;
    }

    function open(at, elsewhere) {
      const url = at >= 0 && rowUrl(at);
      if (!url) return;
      if (elsewhere) window.open(url, "_blank", "noopener");
      else location.assign(url);
    }

    /* --- The selection ---------------------------------------------------------------------------- */

    function selectWithin(isWithin) {
      selected = new Uint8Array(n);
      const chosen = [];
      for (let at = 0; at < n; at++) {
        if (isWithin(...toScreen(at))) {
          selected[at] = 1;
          chosen.push(at);
        }
      }
      if (!chosen.length) {
        clearSelection();
        return;
      }
      status.classList.add("chosen");
      const url = searchUrl(chosen);
      const words = `${counted(chosen.length)} selected. `;
      const clear = button("Clear", "Select nothing", () => {
        clearSelection();
        canvas.focus();
      });
      if (url) {
        const these = chosen.length === 1 ? "Show it" : `Show these ${counted(chosen.length)}`;
        status.replaceChildren(words, make("a", { href: url }, these), " ", clear);
      } else {
        status.replaceChildren(
          `${words}These are too many for a link. Select fewer, or filter by a column. `,
          clear,
        );
      }
      changed();
    }

    function clearSelection() {
      selected = null;
      status.classList.remove("chosen");
      status.replaceChildren(overview());
      changed();
    }

    /* The search page with exactly these images, or null if its URL would be too long. */
    function searchUrl(chosen) {
      const keys = chosen.map((at) => ids[at]);
      const url = new URL(links.search, location.href);
      url.searchParams.set("_among", `map.${window.imageSearchAmong(keys)}`);
      return url.href.length > LONGEST_LINK ? null : url.href;
    }

    function isInside(corners) {
      return (x, y) => {
        let inside = false;
        for (let at = 0, before = corners.length - 1; at < corners.length; before = at++) {
          const [ax, ay] = corners[at];
          const [bx, by] = corners[before];
          if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
        }
        return inside;
      };
    }

    /* --- Pointers and keys -------------------------------------------------------------------------- */

    const pointers = new Map(); // Those that are down, by id: where.
    let pressed = null;
    const placeOf = (event) => {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    const spread = () => {
      const [[ax, ay], [bx, by]] = [...pointers.values()];
      return { apart: Math.hypot(ax - bx, ay - by), x: (ax + bx) / 2, y: (ay + by) / 2 };
    };

    canvas.addEventListener("pointerdown", (event) => {
      if (event.button > 1) return;
      // Keep the middle button from scrolling.
      if (event.button === 1) event.preventDefault();
      canvas.setPointerCapture(event.pointerId);
      const place = placeOf(event);
      pointers.set(event.pointerId, place);
      pressed = pointers.size === 1 ? { place, before: hovered } : null;
      const withLasso = lassoButton.getAttribute("aria-pressed") === "true" || event.shiftKey;
      lasso = pressed && withLasso && links.search && event.button === 0 ? [place] : null;
    });

    canvas.addEventListener("pointermove", (event) => {
      const place = placeOf(event);
      const before = pointers.get(event.pointerId);
      if (!before) {
        hover(nearest(...place, REACH));
        return;
      }
      if (lasso) {
        lasso.push(place);
        hover(-1);
        changed();
        return;
      }
      const pinchBefore = pointers.size === 2 ? spread() : null;
      pointers.set(event.pointerId, place);
      if (pinchBefore) {
        const now = spread();
        pan(now.x - pinchBefore.x, now.y - pinchBefore.y);
        zoom(now.apart / Math.max(pinchBefore.apart, 1), now.x, now.y);
        return;
      }
      const [x, y] = pressed?.place ?? place;
      if (pressed && Math.hypot(place[0] - x, place[1] - y) > 4) pressed = null;
      if (!pressed) pan(place[0] - before[0], place[1] - before[1]);
    });

    function released(event) {
      const place = placeOf(event);
      pointers.delete(event.pointerId);
      if (lasso) {
        const corners = lasso;
        lasso = null;
        if (corners.length > 2) selectWithin(isInside(corners));
        changed();
        return;
      }
      if (pressed && event.type === "pointerup") {
        const at = nearest(...place, REACH);
        hover(at);
        // A finger cannot hover: its first tap shows an image, a second one opens it.
        if (event.pointerType !== "touch" || at === pressed.before) {
          open(at, event.ctrlKey || event.metaKey || event.button === 1);
        }
      }
      pressed = null;
    }
    canvas.addEventListener("pointerup", released);
    canvas.addEventListener("pointercancel", released);
    canvas.addEventListener("pointerleave", (event) => {
      // A finger leaves after each tap, and the image it showed must stay.
      if (event.pointerType !== "touch") hover(-1);
    });

    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        const pixelsDown = event.deltaY * (event.deltaMode === 1 ? 20 : 1);
        zoom(Math.exp(-Math.max(-200, Math.min(200, pixelsDown)) / 300), ...placeOf(event));
      },
      { passive: false },
    );

    canvas.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const step = Math.min(width, height) / 6;
      const action = {
        ArrowLeft: () => pan(step, 0),
        ArrowRight: () => pan(-step, 0),
        ArrowUp: () => pan(0, step),
        ArrowDown: () => pan(0, -step),
        "+": () => zoom(1.5),
        "=": () => zoom(1.5),
        "-": () => zoom(1 / 1.5),
        0: showAll,
      }[event.key];
      if (action) {
        event.preventDefault();
        action();
        hover(nearest(width / 2, height / 2, Infinity));
        if (hovered >= 0 && !selected) status.replaceChildren(`In the middle: ${names[hovered]}`);
      } else if (event.key === "Enter") {
        open(hovered, false);
      } else if (event.key === "Escape") {
        lasso = null;
        clearSelection();
      }
    });

    /* --- Sizes and colours of the page ------------------------------------------------------------ */

    new ResizeObserver(() => {
      [width, height] = [stage.clientWidth, stage.clientHeight];
      ratio = Math.min(2, window.devicePixelRatio || 1);
      [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
      if (!canvas.width || !canvas.height) return;
      pixels = context.createImageData(canvas.width, canvas.height);
      buffer = new Uint32Array(pixels.data.buffer);
      // Draw at once: a resized canvas is empty.
      draw();
      moved();
    }).observe(stage);
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", readColours);
    readColours();

    function overview() {
      const part = n < data.count ? `${n.toLocaleString("en")} of ` : "";
      return [part + (data.description ?? counted(data.count)), ...(data.warnings ?? [])].join(". ");
    }
    clearSelection();
    root.dataset.ready = "";
  }
})();
