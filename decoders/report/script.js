"use strict";
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const root = document.documentElement;

  // Everything is built with textContent and setAttribute: text from data never becomes markup.
  const element = (tag, attributes = {}, text) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const data = (holder, name = "data") => {
    const block = $(`script.${name}`, holder);
    const found = block ? JSON.parse(block.textContent) : null;
    // Long tables hold the places of their words in a list.
    for (const [column, words] of Object.entries(found?.coded ?? {})) {
      for (const row of found.rows) if (row[column] !== null) row[column] = words[row[column]];
    }
    return found;
  };
  const isP = (column) => column === "p" || column.startsWith("p_");
  const show = (value, column = "") => {
    if (value === null || value === "") return "\u2013";
    if (typeof value !== "number") return String(value);
    if (isP(column)) return value < 0.001 ? "< 0.001" : value.toFixed(3);
    const size = Math.abs(value);
    const digits = size < 10 ? 3 : 1;
    const text = Number.isInteger(value) ? value.toLocaleString("en").replaceAll(",", "\u2009")
      : size < 0.0005 ? value.toExponential(1) : value.toFixed(digits);
    return text.replace("-", "\u2212");
  };

  // Theme: the system's, unless the reader chooses.
  const themeButton = $("#theme");
  const setTheme = (name) => {
    root.setAttribute("data-theme", name);
    themeButton.textContent = name === "dark" ? "Light" : "Dark";
    themeButton.setAttribute("aria-label", `Switch to the ${name === "dark" ? "light" : "dark"} theme`);
  };
  const system = matchMedia("(prefers-color-scheme: dark)");
  setTheme(system.matches ? "dark" : "light");
  system.addEventListener("change", (event) => setTheme(event.matches ? "dark" : "light"));
  themeButton.hidden = false;
  themeButton.addEventListener("click", () => setTheme(root.dataset.theme === "dark" ? "light" : "dark"));

  // Downloads.
  const save = (blob, name) => {
    const link = element("a", { download: name.replace(/[^A-Za-z0-9._-]+/g, "_") });
    link.href = URL.createObjectURL(blob);
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };
  const cell = (value) => {
    const text = value === null ? "n/a" : String(value);
    return /[\t\n\r"]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const tsv = (columns, rows) => [columns, ...rows].map((row) => row.map(cell).join("\t")).join("\n") + "\n";
  const saveTsv = (columns, rows, name) => save(new Blob([tsv(columns, rows)], { type: "text/tab-separated-values" }), `${name}.tsv`);

  const PAINT = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "stroke-linecap",
    "stroke-linejoin", "font-family", "font-size", "font-weight", "image-rendering"];
  const standalone = (svg) => {
    // The copy carries its own paint, in the light theme, because the style sheet stays behind.
    const theme = root.dataset.theme;
    root.setAttribute("data-theme", "light");
    const copy = svg.cloneNode(true);
    const from = [svg, ...$$("*", svg)];
    [copy, ...$$("*", copy)].forEach((node, i) => {
      const style = getComputedStyle(from[i]);
      for (const name of PAINT) {
        const value = style.getPropertyValue(name);
        if (value && !(name === "stroke-dasharray" && value === "none")) node.setAttribute(name, value);
      }
      const tip = node.getAttribute("data-tip");
      if (tip) {
        const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
        title.textContent = tip;
        node.append(title);
      }
      node.removeAttribute("class");
      node.removeAttribute("data-tip");
    });
    root.setAttribute("data-theme", theme);
    const ground = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    for (const [name, value] of Object.entries({ width: "100%", height: "100%", fill: "#ffffff" })) ground.setAttribute(name, value);
    copy.prepend(ground);
    return new XMLSerializer().serializeToString(copy);
  };
  const savePng = (svg, name) => {
    const box = svg.viewBox.baseVal;
    const picture = new Image();
    const address = URL.createObjectURL(new Blob([standalone(svg)], { type: "image/svg+xml" }));
    picture.onload = () => {
      const zoom = Math.min(3, 8000 / Math.max(box.width, box.height));
      const canvas = element("canvas", { width: Math.round(box.width * zoom), height: Math.round(box.height * zoom) });
      canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
      URL.revokeObjectURL(address);
      canvas.toBlob((blob) => save(blob, `${name}.png`), "image/png");
    };
    picture.src = address;
  };

  // Tooltips.
  const tip = $("#tip");
  const showTip = (text, x, y) => {
    tip.textContent = text;
    tip.hidden = false;
    tip.style.left = `${Math.max(6, Math.min(x + 14, innerWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${y + 18 + tip.offsetHeight > innerHeight ? y - tip.offsetHeight - 12 : y + 18}px`;
  };
  const hideTip = () => { tip.hidden = true; };
  document.addEventListener("pointermove", (event) => {
    const marked = event.target.closest?.("[data-tip]");
    if (marked) showTip(marked.getAttribute("data-tip"), event.clientX, event.clientY);
    else if (!event.target.closest?.("[data-hovers]")) hideTip();
  });
  document.addEventListener("scroll", hideTip, { passive: true, capture: true });

  // Figures.
  const plainTable = (columns, rows, most = 500) => {
    const table = element("table");
    const head = element("tr");
    columns.forEach((column) => head.append(element("th", { scope: "col" }, column)));
    const body = element("tbody");
    rows.slice(0, most).forEach((row) => {
      const line = element("tr");
      row.forEach((value, i) => line.append(element("td", typeof value === "number" ? { class: "n" } : {}, show(value, columns[i]))));
      body.append(line);
    });
    const top = element("thead");
    top.append(head);
    table.append(top, body);
    if (rows.length > most) table.append(element("caption", {}, `The first ${most} of ${rows.length} rows: the download holds all.`));
    return table;
  };
  const hoverPairs = (figure, wall) => {
    // Condensed order: pair (i, j), i < j, stands at n i - i (i + 1) / 2 + j - i - 1.
    const n = wall.labels.length;
    let table = null;
    $$("svg", figure).forEach((svg) => {
      svg.setAttribute("data-hovers", "");
      svg.addEventListener("pointermove", (event) => {
        const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
        const box = wall.boxes.find((b) => place.x >= b.x && place.y >= b.y && place.x < b.x + b.size && place.y < b.y + b.size);
        if (!box) return hideTip();
        const column = Math.floor((place.x - box.x) / box.size * n), row = Math.floor((place.y - box.y) / box.size * n);
        const names = `${wall.labels[row]}  \u00d7  ${wall.labels[column]}`;
        if (row === column) return showTip(`${box.name}\n${wall.labels[row]} with itself`, event.clientX, event.clientY);
        table ??= data(figure);
        const [i, j] = row < column ? [row, column] : [column, row];
        const value = table.rows[n * i - i * (i + 1) / 2 + j - i - 1][table.columns.indexOf(box.name)];
        showTip(`${box.name}\n${names}\ndissimilarity ${show(value)}`, event.clientX, event.clientY);
      });
      svg.addEventListener("pointerleave", hideTip);
    });
  };
  $$(".fig").forEach((figure) => {
    const name = figure.dataset.key;
    const drawing = () => $(".drawing:not([hidden]) svg", figure);
    $(".downloads", figure).hidden = false;
    $$("[data-get]", figure).forEach((button) => button.addEventListener("click", () => {
      const kind = button.dataset.get;
      if (kind === "svg") save(new Blob([standalone(drawing())], { type: "image/svg+xml" }), `${name}.svg`);
      if (kind === "png") savePng(drawing(), name);
      if (kind === "tsv") { const d = data(figure); saveTsv(d.columns, d.rows, name); }
    }));
    const choice = $(".variant", figure);
    if (choice) choice.addEventListener("change", () => $$(".drawing", figure).forEach((one) => { one.hidden = one.dataset.variant !== choice.value; }));
    const numbers = $(".numbers", figure);
    numbers.addEventListener("toggle", () => {
      const holder = $(".scroll", numbers);
      if (!numbers.open || holder.firstChild) return;
      const d = data(figure);
      holder.append(plainTable(d.columns, d.rows));
    });
    const wall = data(figure, "hover");
    if (wall) hoverPairs(figure, wall);
  });

  // Tables.
  $$(".tab").forEach((holder) => {
    const { columns, rows } = data(holder);
    // What a value is called on the page; downloads keep the value itself.
    const phrases = data(holder, "phrases") ?? {};
    const named = (value, column) => phrases[column]?.[String(value)] ?? show(value, column);
    const body = $("tbody", holder), state = $(".state", holder), all = $(".show-all", holder);
    const first = Number(holder.dataset.first);
    const drawn = new Map($$("tr", body).map((line) => [Number(line.dataset.row), line]));
    const heads = $$("th", holder);
    const texts = rows.map((row) => row.map((value, k) => (value === null ? "" : `${value}\n${phrases[columns[k]]?.[String(value)] ?? ""}`)).join("\n").toLowerCase());
    const chosen = new Map();
    const place = (head) => columns.indexOf(head.dataset.column);
    let words = [], order = null, open = false;

    const line = (i) => {
      if (!drawn.has(i)) {
        const made = element("tr", { "data-row": i });
        heads.forEach((head) => {
          const td = element("td", { "data-label": head.textContent }, named(rows[i][place(head)], head.dataset.column));
          td.className = head.className;
          made.append(td);
        });
        drawn.set(i, made);
      }
      return drawn.get(i);
    };
    const compare = (a, b) => {
      if (a === null || b === null) return a === b ? 0 : a === null ? 1 : -1;
      const sign = order.down ? -1 : 1;
      return sign * (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));
    };
    const draw = () => {
      let kept = rows.map((_, i) => i).filter((i) => words.every((word) => texts[i].includes(word)));
      for (const [k, value] of chosen) kept = kept.filter((i) => String(rows[i][k]) === value);
      if (order) kept.sort((a, b) => compare(rows[a][order.k], rows[b][order.k]) || a - b);
      const shown = open ? kept : kept.slice(0, first);
      body.replaceChildren(...shown.map(line));
      all.hidden = shown.length === kept.length;
      state.textContent = shown.length === rows.length ? "" : `${shown.length} of ${kept.length} rows` + (kept.length < rows.length ? ` (${rows.length} in all)` : "");
    };
    heads.forEach((head) => {
      const k = place(head);
      const button = element("button", { type: "button" }, head.textContent);
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = order?.k === k ? !order.down : false;
        order = { k, down };
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        draw();
      });
    });
    if (rows.length > 4) {
      const search = $(".search", holder);
      search.hidden = false;
      $("input", search).addEventListener("input", (event) => {
        words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
        draw();
      });
    }
    for (const column of holder.dataset.filters.split(" ").filter(Boolean)) {
      const k = columns.indexOf(column);
      const values = [...new Set(rows.map((row) => String(row[k])))];
      if (k < 0 || values.length < 2 || values.length > 60) continue;
      const heading = (heads.find((head) => place(head) === k) ?? { textContent: column[0].toUpperCase() + column.slice(1).replaceAll("_", " ") }).textContent;
      const menu = element("select", { "aria-label": `Only rows with this ${heading}` });
      menu.append(element("option", { value: "" }, `${heading}: all`));
      values.forEach((value) => menu.append(element("option", { value: `=${value}` }, value === "null" ? "\u2013" : phrases[column]?.[value] ?? value)));
      menu.addEventListener("change", () => {
        if (menu.value) chosen.set(k, menu.value.slice(1)); else chosen.delete(k);
        draw();
      });
      $(".filters", holder).append(menu);
    }
    all.hidden = rows.length <= first;
    all.addEventListener("click", () => { open = true; draw(); });
    $(".downloads", holder).hidden = false;
    $('[data-get="tsv"]', holder).addEventListener("click", () => saveTsv(columns, rows, holder.dataset.key));
  });

  // Folded tables are printed open.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = $$("details.fold:not([open])");
    closed.forEach((fold) => { fold.open = true; });
  });
  addEventListener("afterprint", () => closed.forEach((fold) => { fold.open = false; }));

  // Texts and snippets.
  $$(".pairs").forEach((holder) => {
    const all = $(".show-all", holder);
    all.hidden = !$(".later", holder);
    all.addEventListener("click", () => { holder.classList.add("all"); all.hidden = true; });
    $(".downloads", holder).hidden = false;
    $("[data-get]", holder).addEventListener("click", () => { const d = data(holder); saveTsv(d.columns, d.rows, holder.dataset.key); });
  });
  $$(".snippet").forEach((holder) => {
    const text = $("pre", holder).textContent;
    $(".downloads", holder).hidden = false;
    $('[data-get="text"]', holder).addEventListener("click", () => save(new Blob([text], { type: "text/plain" }), holder.dataset.file));
    const copy = $('[data-get="copy"]', holder);
    copy.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(text);
        copy.textContent = "Copied";
      } catch {
        // Without the clipboard's permission the text is selected, ready for the keyboard.
        getSelection().selectAllChildren($("pre", holder));
        copy.textContent = "Selected";
      }
      setTimeout(() => { copy.textContent = "Copy"; }, 1600);
    });
  });

  // Slices of a volume, unpacked when they come into view.
  const unpack = async (text) => {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  };
  const slices = async (holder) => {
    const volumes = data(holder, "volumes");
    const colours = Uint8Array.from(atob(volumes.colours), (c) => c.charCodeAt(0));
    const which = $(".which", holder), readout = $(".readout", holder), planes = $(".planes", holder);
    volumes.maps.forEach((map, i) => which.append(element("option", { value: i }, map.title)));
    let map, levels, truth, at;
    // The free axis of each plane, and the axes that it draws to the right and upwards.
    const views = [["Axial", 2, 0, 1], ["Coronal", 1, 0, 2], ["Sagittal", 0, 1, 2]].map(([name, free, right, up]) => {
      const box = element("div", { class: "plane" });
      const canvas = element("canvas", { role: "img", "aria-label": `${name} slice` });
      const label = element("label");
      const slider = element("input", { type: "range", min: 0, step: 1, "aria-label": `${name} slice` });
      const caption = element("span");
      label.append(caption, slider);
      box.append(canvas, label);
      planes.append(box);
      const view = { name, free, right, up, canvas, slider, caption };
      slider.addEventListener("input", () => { at[free] = Number(slider.value); draw(); });
      const move = (event) => {
        if (event.type === "pointermove" && !event.buttons) return;
        const frame = canvas.getBoundingClientRect();
        const pick = (part, size) => Math.max(0, Math.min(size - 1, Math.floor(part * size)));
        at[right] = pick((event.clientX - frame.left) / frame.width, map.shape[right]);
        at[up] = pick(1 - (event.clientY - frame.top) / frame.height, map.shape[up]);
        draw();
      };
      canvas.addEventListener("pointerdown", move);
      canvas.addEventListener("pointermove", move);
      return view;
    });
    const index = (p) => (p[0] * map.shape[1] + p[1]) * map.shape[2] + p[2];
    const value = (level) => map.low + (level - 1) / 65534 * (map.high - map.low);
    const mm = (p) => map.affine.slice(0, 3).map((row) => Math.round(row[0] * p[0] + row[1] * p[1] + row[2] * p[2] + row[3]));
    const drawView = ({ free, right, up, canvas, slider, caption, name }) => {
      const [wide, tall] = [map.shape[right], map.shape[up]];
      const zoom = Math.max(1, Math.floor(250 / Math.max(map.shape[0], map.shape[1], map.shape[2])));
      canvas.width = wide * zoom;
      canvas.height = tall * zoom;
      const context = canvas.getContext("2d");
      const p = [...at];
      for (let a = 0; a < wide; a += 1) {
        for (let b = 0; b < tall; b += 1) {
          p[right] = a;
          p[up] = b;
          const level = levels[index(p)];
          if (!level) continue;
          const k = Math.round((level - 1) / 65534 * 255) * 3;
          context.fillStyle = `rgb(${colours[k]} ${colours[k + 1]} ${colours[k + 2]})`;
          const [x, y] = [a * zoom, (tall - 1 - b) * zoom];
          context.fillRect(x, y, zoom, zoom);
          if (truth?.[index(p)] && zoom > 3) {
            context.strokeStyle = "#ff5da2";
            context.lineWidth = 1.5;
            context.strokeRect(x + 1.5, y + 1.5, zoom - 3, zoom - 3);
          }
        }
      }
      context.strokeStyle = "rgb(255 255 255 / .75)";
      context.lineWidth = 1;
      context.strokeRect(at[right] * zoom + .5, (tall - 1 - at[up]) * zoom + .5, zoom - 1, zoom - 1);
      slider.max = map.shape[free] - 1;
      slider.value = at[free];
      caption.textContent = `${name} ${"xyz"[free]} = ${mm(at)[free]} mm`.replace("-", "\u2212");
    };
    const draw = () => {
      views.forEach(drawView);
      const level = levels[index(at)];
      const where = `x ${mm(at)[0]}, y ${mm(at)[1]}, z ${mm(at)[2]} mm`.replaceAll("-", "\u2212");
      const planted = truth?.[index(at)] ? ", planted voxel" : "";
      readout.textContent = level ? `${where}: ${show(value(level))} ${map.unit}${planted}` : `${where}: outside the mask`;
    };
    const choose = async () => {
      map = volumes.maps[Number(which.value)];
      const bytes = await unpack(map.levels);
      levels = new Uint16Array(bytes.buffer);
      truth = map.truth ? await unpack(map.truth) : null;
      at ??= [...map.peak];
      if (at.some((v, axis) => v >= map.shape[axis])) at = [...map.peak];
      draw();
    };
    which.addEventListener("change", choose);
    await choose();
    holder.setAttribute("data-ready", "");
  };
  if ("DecompressionStream" in window) {
    const watch = new IntersectionObserver((entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => {
      watch.unobserve(entry.target);
      slices(entry.target);
    }), { rootMargin: "300px" });
    $$(".viewer").forEach((holder) => { holder.hidden = false; watch.observe(holder); });
  }

  // The section in view, in the rail.
  const links = new Map($$(".rail li a").map((link) => [link.hash.slice(1), link]));
  const seen = new IntersectionObserver((entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => {
    links.forEach((link) => link.removeAttribute("aria-current"));
    links.get(entry.target.id)?.setAttribute("aria-current", "true");
  }), { rootMargin: "-20% 0px -70% 0px" });
  $$("main > section").forEach((section) => seen.observe(section));
})();
