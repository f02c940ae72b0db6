"use strict";
// Serves the selectors, sorts tables, and shows the values of heat maps beside the pointer.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const byId = (id) => document.getElementById(id);

  // --- Selectors: each slot shows the one figure that fits what is chosen best. -------------------------------

  const bar = byId("bar");
  // The ids of all selectors but the layer's: model, stories, axis-0, axis-1, ...
  const exact = bar ? all("select", bar).map((select) => select.id).filter((id) => id !== "layer") : [];
  const slots = all(".slot").map((slot) => ({
    note: slot.querySelector(".note"),
    figures: all("figure", slot).map((element) => ({
      element,
      // What it shows, by selector; nothing where it shows all or does not depend on it.
      values: Object.fromEntries(exact.map((id) => [id, element.getAttribute(`data-${id}`)])),
      layer: element.dataset.layer === undefined ? undefined : Number(element.dataset.layer),
    })),
  }));

  const chosen = (id) => byId(id).value;
  const fits = (figure, ids) => ids.every((id) => figure.values[id] === null || figure.values[id] === chosen(id));

  // The layer that tables number -1 are the token embeddings.
  const layerName = (layer) => (layer === -1 ? "embed" : String(layer));

  // The layers that figures of the chosen model have, ascending.
  const layersOfModel = () => {
    const layers = slots.flatMap((s) => s.figures.filter((f) => fits(f, ["model"])).map((f) => f.layer));
    return [...new Set(layers.filter((l) => l !== undefined))].sort((a, b) => a - b);
  };

  const fillLayers = (wanted) => {
    const layers = layersOfModel();
    const select = byId("layer");
    select.replaceChildren(...layers.map((l) => new Option(layerName(l), String(l))));
    if (layers.length > 0) {
      select.value = String(layers.includes(wanted) ? wanted : firstLayer(layers));
    }
    const lonely = layers.length < 2;
    select.closest("label").hidden = lonely;
    for (const steps of all(".steps", bar)) steps.hidden = lonely;
  };

  const firstLayer = (layers) => {
    const option = byId("model").selectedOptions[0];
    const wanted = option ? Number(option.dataset.layer) : NaN;
    return layers.includes(wanted) ? wanted : layers[Math.floor((layers.length * 2) / 3)];
  };

  // What was chosen of that which the figures of a slot depend on, in words.
  const wanted = (figures) => {
    const needed = exact.filter((id) => figures.some((f) => f.values[id] !== null));
    const words = { model: (value) => value, stories: (value) => `the stories ${value}` };
    const axis = (id) => (value) => `${byId(id).closest("label").querySelector("span").textContent} = ${value}`;
    return needed.map((id) => (words[id] ?? axis(id))(chosen(id))).join(", ");
  };

  const show = () => {
    const layer = Number(chosen("layer"));
    const distance = (f) => (f.layer === undefined ? 0 : Math.abs(f.layer - layer));
    for (const { note, figures } of slots) {
      const fitting = figures.filter((f) => fits(f, exact));
      const best = fitting.reduce((a, f) => (a === undefined || distance(f) < distance(a) ? f : a), undefined);
      for (const f of figures) f.element.hidden = f !== best;
      if (best === undefined) {
        const title = figures[0].element.querySelector("h3").firstChild.textContent.trim();
        note.textContent = `${title}: not made for ${wanted(figures)}.`;
      } else if (distance(best) > 0) {
        note.textContent = `Made at layer ${layerName(best.layer)}, not at layer ${layerName(layer)}: shown for layer ${layerName(best.layer)}.`;
      }
      note.hidden = best !== undefined && distance(best) === 0;
    }
    const select = byId("layer");
    for (const button of all("[data-step]", bar)) {
      const next = select.selectedIndex + Number(button.dataset.step);
      button.disabled = next < 0 || next >= select.options.length;
    }
  };

  // Keeps what the reader looks at in its place while figures of other heights come and go.
  const showInPlace = () => {
    const top = (element) => element.getBoundingClientRect().top;
    const seen = all(".slot, h2").find((element) => top(element) + element.offsetHeight > 80);
    const before = seen ? top(seen) : 0;
    show();
    if (seen && before < 80) window.scrollBy(0, top(seen) - before);
  };

  if (bar) {
    bar.hidden = false;
    bar.addEventListener("submit", (event) => event.preventDefault());
    byId("model").addEventListener("change", () => {
      fillLayers(NaN);
      showInPlace();
    });
    for (const select of all("select", bar)) {
      if (select.id !== "model") select.addEventListener("change", showInPlace);
    }
    for (const button of all("[data-step]", bar)) {
      button.addEventListener("click", () => {
        byId("layer").selectedIndex += Number(button.dataset.step);
        showInPlace();
      });
    }
    // Browsers restore what was chosen before a reload: keep it where it still makes sense.
    for (const id of exact) if (byId(id).selectedIndex < 0) byId(id).selectedIndex = 0;
    fillLayers(NaN);
    show();
  }

  // A link to a figure that is not shown chooses what it needs.
  const follow = () => {
    const figure = location.hash ? byId(decodeURIComponent(location.hash.slice(1))) : null;
    if (!bar || !figure || figure.tagName !== "FIGURE") return;
    for (const id of exact) {
      if (figure.hasAttribute(`data-${id}`)) byId(id).value = figure.getAttribute(`data-${id}`);
    }
    fillLayers(Number(figure.dataset.layer));
    show();
    figure.scrollIntoView();
  };
  window.addEventListener("hashchange", follow);
  follow();

  // --- Tables: a click on a head sorts, a second one the other way round. -------------------------------------

  const key = (cell) => {
    const text = cell.textContent;
    if (!cell.classList.contains("num")) return text.trim() === "" ? null : text;
    const value = Number(text.split(" [")[0].replace("\u2212", "-").replace("\u221e", "Infinity"));
    return Number.isNaN(value) ? null : value;
  };
  const order = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));

  for (const table of all(".table table")) {
    const body = table.tBodies[0];
    if (body.rows.length < 2) continue;
    all("thead th", table).forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const numeric = head.classList.contains("num");
        const was = head.getAttribute("aria-sort");
        const descending = was ? was === "ascending" : numeric;
        for (const other of all("thead th", table)) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", descending ? "descending" : "ascending");
        const rows = [...body.rows].map((row) => [key(row.cells[column]), row]);
        rows.sort(([a], [b]) => {
          if (a === null || b === null) return (a === null) - (b === null);
          return descending ? order(b, a) : order(a, b);
        });
        body.append(...rows.map(([, row]) => row));
      });
    });
  }

  // --- Heat maps: the cell under the pointer, in words. -------------------------------------------------------

  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  document.body.append(tip);

  const place = (event) => {
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - box.width - 8))}px`;
    tip.style.top = `${event.clientY + 18 + box.height > innerHeight ? event.clientY - box.height - 10 : event.clientY + 18}px`;
  };

  const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  const unpack = (svg, index) => {
    const code = [...svg.dataset.values.slice(3 * index, 3 * index + 3)].reduce((n, c) => 64 * n + digits.indexOf(c), 0);
    return code === 0 ? NaN : ((code - 131072) / 131071) * Number(svg.dataset.largest);
  };
  const spell = (value) => (Number.isNaN(value) ? "\u2013" : String(Number(value.toPrecision(3))).replace("-", "\u2212"));
  const names = (svg, group) =>
    all(`.${group} text`, svg).map((text) => (text.querySelector("title") || text).textContent);

  for (const svg of all("svg[data-values]")) {
    let rows, columns;
    svg.addEventListener("pointermove", (event) => {
      rows ??= names(svg, "rows");
      columns ??= names(svg, "cols");
      const matrix = svg.querySelector(".cells").getScreenCTM().inverse();
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix);
      const [row, column] = [Math.floor(at.y), Math.floor(at.x)];
      tip.hidden = !(row >= 0 && row < rows.length && column >= 0 && column < columns.length);
      if (tip.hidden) return;
      const value = document.createElement("b");
      value.textContent = spell(unpack(svg, row * columns.length + column));
      tip.replaceChildren(value, `${rows[row]} \u00d7 ${columns[column]}`);
      place(event);
    });
    svg.addEventListener("pointerleave", () => (tip.hidden = true));
  }

  // --- Texts: tokens coloured by one of several measures, their values beside the pointer. -----------------------

  for (const figure of all(".texts")) {
    const select = figure.querySelector("select");
    const window = Number(figure.dataset.window);
    const texts = all("article", figure).map((article) => {
      const turns = all(".turn", article).map((turn) => ({ mean: turn.querySelector(".mean"), tokens: all(".tokens span", turn) }));
      return { article, turns, tokens: turns.flatMap((turn) => turn.tokens) };
    });
    // Of one measure; a figure's texts are unpacked when they are looked at.
    const values = ({ article, tokens }) =>
      tokens.map((_, index) => unpack(article, select.selectedIndex * tokens.length + index));
    const colour = () => {
      for (const text of texts) {
        text.values = values(text);
        const limit = Number(text.article.dataset.limit) || 1;
        let from = 0;
        for (const { mean, tokens } of text.turns) {
          const own = text.values.slice(from, from + tokens.length);
          tokens.forEach((token, i) => {
            token.className = `h${Math.round(Math.max(-1, Math.min(1, own[i] / limit)) * 20) + 20}`;
          });
          mean.textContent = own.length > 0 ? spell(own.reduce((a, b) => a + b, 0) / own.length) : "";
          from += tokens.length;
        }
      }
    };
    select.addEventListener("change", colour);
    figure.querySelector("form").hidden = false;
    // What browsers restore after a reload.
    if (select.selectedIndex > 0) colour();
    for (const text of texts) {
      text.article.addEventListener("pointermove", (event) => {
        const index = text.tokens.indexOf(event.target);
        tip.hidden = index < 0;
        if (tip.hidden) return;
        text.values ??= values(text);
        const last = text.values.slice(Math.max(0, index + 1 - window), index + 1);
        const value = document.createElement("b");
        value.textContent = spell(text.values[index]);
        const mean = last.reduce((a, b) => a + b, 0) / last.length;
        tip.replaceChildren(value, `${select.value}; mean of the last ${last.length}: ${spell(mean)}`);
        place(event);
      });
      text.article.addEventListener("pointerleave", () => (tip.hidden = true));
    }
  }

  // --- Samples: those that fit what is chosen. --------------------------------------------------------------------

  for (const figure of all(".samples")) {
    const selects = all("select", figure);
    const articles = all("article", figure);
    const show = () => {
      let n = 0;
      for (const article of articles) {
        article.hidden = selects.some((select, at) => select.value !== "" && article.dataset[`of${at}`] !== select.value);
        n += article.hidden ? 0 : 1;
      }
      figure.querySelector("output").textContent = `${n} of ${articles.length}`;
    };
    for (const select of selects) select.addEventListener("change", show);
    figure.querySelector("form").hidden = false;
    show();
  }
})();
