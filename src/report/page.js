// The current selection, the figures that show it, and the page's address. The files of src/report/page/ follow in the
// same scope.

const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const byId = (id) => document.getElementById(id);
const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

// --- The page's data: an index of all figures, and compressed blocks of them, inflated on demand. --------------------

const index = JSON.parse(byId("index").textContent);

const inflate = async (packed) => {
  const bytes = Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Response(stream).text();
};

// Block `n` as one text: the figures' HTML, separated by NUL. A served page sets `emoflowBlock` instead.
const carried = () => {
  const lines = byId("blocks").textContent.split("\n");
  return (n) => inflate(lines[n]);
};
const source = globalThis.emoflowBlock ?? carried();

const KEPT = 48;
const kept = new Map();
const block = (n) => {
  const texts = kept.get(n) ?? source(n).then((text) => text.split("\0"));
  kept.delete(n);
  kept.set(n, texts);
  if (kept.size > KEPT) kept.delete(kept.keys().next().value);
  return texts;
};

// --- The selection. ---------------------------------------------------------------------------------------------

const bar = byId("bar");
// Selectors that a figure must match exactly: model, stories, axis-0, axis-1, ...
const exact = ["model", "stories", ...index.axes.map((_, at) => `axis-${at}`)].filter((id) => byId(id));
const slots = index.slots.map((slot) => ({ ...slot, element: byId(slot.id), best: undefined, shown: undefined }));

const chosen = (id) => byId(id)?.value ?? "";
const emotion = () => chosen("emotion");
const fits = (figure, ids) => ids.every((id) => figure[id] === undefined || figure[id] === chosen(id));

// Layer -1 of the tables is the token embedding.
const layerName = (layer) => (layer === -1 ? "embed" : String(layer));

const layersOf = new Map();
const layersOfModel = () => {
  const model = chosen("model");
  if (!layersOf.has(model)) {
    const layers = new Set();
    for (const slot of slots) {
      for (const f of slot.figures) if (f.layer !== undefined && fits(f, ["model"])) layers.add(f.layer);
    }
    layersOf.set(model, [...layers].sort((a, b) => a - b));
  }
  return layersOf.get(model);
};

const fillLayers = (wanted) => {
  const select = byId("layer");
  if (!select) return;
  const layers = layersOfModel();
  select.replaceChildren(...layers.map((l) => new Option(layerName(l), String(l))));
  if (layers.length > 0) select.value = String(layers.includes(wanted) ? wanted : firstLayer(layers));
  const lonely = layers.length < 2;
  select.closest("label").hidden = lonely;
  for (const steps of all(".steps", bar)) steps.hidden = lonely;
};

const firstLayer = (layers) => {
  const wanted = Number(byId("model").selectedOptions[0]?.dataset.layer ?? NaN);
  return layers.includes(wanted) ? wanted : layers[Math.floor((layers.length * 2) / 3)];
};

const name = (id) => byId(id).closest("label").querySelector("span").textContent;

// The selection in words, restricted to the selectors on which the figures of a slot depend.
const wanted = (figures) => {
  const needed = exact.filter((id) => figures.some((f) => f[id] !== undefined));
  const words = { model: (value) => value, stories: (value) => `the stories ${value}` };
  return needed.map((id) => (words[id] ?? ((value) => `${name(id)} = ${value}`))(chosen(id))).join(", ");
};

// --- Slots: each shows the figure that best matches the selection. ---------------------------------------------------

const distance = (figure) => (figure.layer === undefined || chosen("layer") === "" ? 0 : Math.abs(figure.layer - Number(chosen("layer"))));

const choose = (slot) => {
  const { figures } = slot;
  const fitting = figures.filter((f) => fits(f, exact));
  slot.best = fitting.reduce((a, f) => (a === undefined || distance(f) < distance(a) ? f : a), undefined);
  const note = slot.element.querySelector(".note");
  if (slot.best === undefined) {
    note.textContent = `${slot.title}: not available for ${wanted(figures)}.`;
  } else if (distance(slot.best) > 0) {
    const made = layerName(slot.best.layer);
    note.textContent = `Not available at layer ${layerName(Number(chosen("layer")))}: shown for layer ${made}.`;
  }
  note.hidden = slot.best !== undefined && distance(slot.best) === 0;
};

const isReady = (slot) => slot.shown === slot.best && slot.element.classList.contains("ready");

// Puts the selected figure into its slot; the previous one stays until the new one is ready.
const render = (slot) => {
  if (isReady(slot)) return Promise.resolve();
  if (slot.coming?.best !== slot.best || slot.coming === undefined) slot.coming = { best: slot.best, done: put(slot) };
  return slot.coming.done;
};

const put = async (slot) => {
  const { best, element } = slot;
  let text;
  try {
    text = best && (await block(best.at[0]))[best.at[1]];
  } catch (error) {
    const note = element.querySelector(".note");
    note.textContent = `${slot.title}: could not be loaded (${error}).`;
    note.hidden = false;
  }
  if (slot.best !== best) return;
  slot.coming = undefined;
  element.querySelector("figure")?.remove();
  if (text !== undefined) {
    element.insertAdjacentHTML("beforeend", text);
    serve(element.querySelector("figure"));
  }
  slot.shown = best;
  element.classList.add("ready");
};

// Makes a figure interactive once it is in the page.
const serve = (figure) => {
  serveTables(figure);
  serveMarks(figure);
  serveTexts(figure);
  serveSamples(figure);
  markEmotion(figure);
};

const near = new Set();
const watch = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      const slot = slots.find((slot) => slot.element === target);
      if (isIntersecting) {
        near.add(slot);
        render(slot);
      } else {
        near.delete(slot);
      }
    }
  },
  { rootMargin: "50% 0px" },
);

// The remaining figures are rendered when the browser is idle, so that the page can be searched and printed.
const idle = globalThis.requestIdleCallback ?? ((work) => setTimeout(work, 30));
let waiting = false;
const rest = () => {
  if (waiting) return;
  waiting = true;
  const next = async () => {
    const slot = slots.find((slot) => !isReady(slot));
    if (slot) {
      await render(slot);
      idle(next);
    } else {
      waiting = false;
      document.documentElement.dataset.ready = "all";
    }
  };
  idle(next);
};

const show = () => {
  delete document.documentElement.dataset.ready;
  slots.forEach(choose);
  near.forEach((slot) => render(slot));
  const select = byId("layer");
  for (const button of bar ? all("[data-step]", bar) : []) {
    const next = select.selectedIndex + Number(button.dataset.step);
    button.disabled = next < 0 || next >= select.options.length;
  }
  rest();
};

// --- The address: `#place?model=m&layer=4&emotion=sad`; axes of a sweep appear by name. ------------------------------

const keys = [["model", "model"], ["stories", "stories"], ...index.axes.map((axis, at) => [`axis-${at}`, axis]), ["layer", "layer"], ["emotion", "emotion"]];
const parse = (hash) => {
  const [place, query = ""] = hash.replace(/^#/, "").split("?");
  const values = new URLSearchParams(query);
  try {
    return { place: decodeURIComponent(place), query: values };
  } catch {
    return { place: "", query: values };
  }
};

const remember = (place = parse(location.hash).place) => {
  const query = new URLSearchParams();
  for (const [id, key] of keys) {
    const select = byId(id);
    if (select && (select.options.length > 1 || id === "emotion") && select.value !== "") query.set(key, select.value);
  }
  const text = query.toString();
  const address = `#${encodeURIComponent(place)}${text === "" ? "" : `?${text}`}`;
  if (address !== location.hash && (address !== "#" || location.hash !== "")) history.replaceState(null, "", address);
};

const select = (id, value) => {
  const element = byId(id);
  if (element && [...element.options].some((option) => option.value === value)) element.value = value;
};

// Applies the selection in the address and scrolls to its place.
const follow = async () => {
  const { place, query } = parse(location.hash);
  const of = (figure) => `fig-${figure.stem}` === place;
  const named = slots.flatMap((slot) => slot.figures.filter(of).map((figure) => ({ slot, figure })))[0];
  const value = (id, key) => (named?.figure[id] ?? query.get(key))?.toString();
  for (const [id, key] of keys) if (id !== "layer" && value(id, key) !== undefined) select(id, value(id, key));
  fillLayers(Number(value("layer", "layer") ?? (query.has("model") ? NaN : chosen("layer") || NaN)));
  show();
  markAll();
  remember(place);
  // The link of a claim names a chapter and a selection: it leads to the first figure there that shows it.
  const asked = (slot) => slot.section === place && slot.best !== undefined && query.has("layer");
  const slot = named?.slot ?? slots.find((slot) => slot.id === place) ?? slots.find(asked);
  const element = slot?.element ?? (place === "" ? null : byId(place));
  if (!element) return;
  if (slot) await render(slot);
  element.scrollIntoView();
  for (const other of all(".found")) other.classList.remove("found");
  if (slot) element.classList.add("found");
};
