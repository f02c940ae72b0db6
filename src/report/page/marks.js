// Every mark of a drawing shows its value under the pointer and by the arrow keys; marks of the selected emotion are
// highlighted.

const tip = make("div", { className: "tip", hidden: true });
const said = make("div", { className: "said-aloud" });
said.setAttribute("aria-live", "polite");
document.body.append(tip, said);

const NONE = "\u2013";
const spell = (value) => (Number.isNaN(value) ? NONE : String(Number(value.toPrecision(3))).replace("-", "\u2212"));

// Shows a tooltip near a point of the window; `strong` is its first, bold part.
const tell = (strong, text, x, y) => {
  tip.replaceChildren(make("b", { textContent: strong }), text);
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - box.width - 8))}px`;
  tip.style.top = `${y + 18 + box.height > innerHeight ? y - box.height - 10 : y + 18}px`;
};

let ring;
const hush = () => {
  tip.hidden = true;
  ring?.remove();
};

// --- Values packed into an attribute, three characters each. ----------------------------------------------------

const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const unpacked = (values, largest, index) => {
  const code = [...values.slice(3 * index, 3 * index + 3)].reduce((n, c) => 64 * n + digits.indexOf(c), 0);
  return code === 0 ? NaN : ((code - 131072) / 131071) * largest;
};
const unpack = ({ dataset }, index) => unpacked(dataset.values, Number(dataset.largest), index);

// The class of a value on the colour scale from `-limit` to `limit`.
const shade = (value, limit) => (Number.isNaN(value) ? "" : `h${Math.round(Math.max(-1, Math.min(1, value / (limit || 1))) * 20) + 20}`);

// --- Words: whether a label names an emotion. ---------------------------------------------------------------------

const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
const naming = (word) => new RegExp(`(^|[^\\p{L}\\p{N}_-])${escaped(word)}($|[^\\p{L}\\p{N}_-])`, "u");
const emotions = [...index.emotions].sort((a, b) => b.length - a.length).map((word) => [word, naming(word)]);
const emotionIn = (label) => emotions.find(([, pattern]) => pattern.test(label))?.[0];

// --- The marks of a drawing. ------------------------------------------------------------------------------------------

const SVG = "http://www.w3.org/2000/svg";

// All marks of a drawing with a title: element, label, value, and whether the mark is secondary.
const marksOf = (svg) => {
  const marks = [];
  for (const title of all("title", svg)) {
    const element = title.parentElement;
    const text = title.textContent;
    title.remove();
    if (element.tagName === "text") {
      element.dataset.full = text;
      continue;
    }
    // A label may contain colons: the value begins after the first colon that is followed by a number.
    const [, label, value] = /^(.*?): ([\d\u2212\u221e\u2013].*)$/su.exec(text) ?? [text, text, ""];
    element.dataset.label = label;
    // Bands, intervals and curves add nothing to the marks to which they belong.
    marks.push({ element, label, value, lesser: element.matches(".band, .whisker, .curve") });
  }
  return marks;
};

const boxOf = (mark) => (mark.box ??= mark.element.getBBox());

// Distance of a point of the drawing from a mark: 0 inside its box.
const away = (mark, x, y) => {
  const box = boxOf(mark);
  return Math.hypot(Math.max(box.x - x, 0, x - box.x - box.width), Math.max(box.y - y, 0, y - box.y - box.height));
};

const REACH = 14;

const outline = (svg, name, [x, y, width, height]) => {
  const element = document.createElementNS(SVG, "rect");
  for (const [key, value] of Object.entries({ class: name, x, y, width, height })) element.setAttribute(key, value);
  svg.append(element);
  return element;
};

const onScreen = (svg, x, y) => new DOMPoint(x, y).matrixTransform(svg.getScreenCTM());
const inDrawing = (svg, event) => new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());

// A drawing with individual marks.
const pointsOf = (svg) => {
  let marks;
  const every = () => (marks ??= marksOf(svg));
  const own = () => every().filter((mark) => !mark.lesser);
  const best = (event) => {
    const { x, y } = inDrawing(svg, event);
    const distance = (mark) => away(mark, x, y);
    const of = (marks) => marks.reduce((a, mark) => (a === undefined || distance(mark) < distance(a) ? mark : a), undefined);
    const [nearest, behind] = [of(own()), every().find((mark) => mark.element === event.target)];
    if (nearest && distance(nearest) <= REACH) return nearest;
    return behind;
  };
  return {
    every,
    under: best,
    at: (n) => own()[n],
    count: () => own().length,
    step: (n, key, count) => {
      const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[key];
      return Math.max(0, Math.min(count - 1, n + by));
    },
    words: ({ label, value }) => (value === "" ? [label, ""] : [value, label]),
    place: (mark) => {
      const { x, y, width, height } = boxOf(mark);
      return [x - 3, y - 3, width + 6, height + 6];
    },
  };
};

// A heat map: one path per colour holds its cells, and an attribute their values.
const cellsOf = (svg) => {
  const names = (group) => all(`.${group} text`, svg).map((text) => text.dataset.full ?? text.textContent);
  let rows, columns;
  const read = () => {
    marksOf(svg);
    rows ??= names("rows");
    columns ??= names("cols");
  };
  const group = svg.querySelector(".cells");
  const matrix = group.transform.baseVal.consolidate().matrix;
  const cell = (row, column) => ({ row, column, label: `${rows[row]} \u00d7 ${columns[column]}`, value: spell(unpack(svg, row * columns.length + column)) });
  return {
    every: () => (read(), []),
    under: (event) => {
      read();
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(group.getScreenCTM().inverse());
      const [row, column] = [Math.floor(at.y), Math.floor(at.x)];
      return row >= 0 && row < rows.length && column >= 0 && column < columns.length ? cell(row, column) : undefined;
    },
    at: (n) => cell(Math.floor(n / columns.length), n % columns.length),
    count: () => (read(), rows.length * columns.length),
    step: (n, key) => {
      const [row, column] = [Math.floor(n / columns.length), n % columns.length];
      const [down, right] = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0], PageDown: [10, 0], PageUp: [-10, 0] }[key];
      const within = (x, most) => Math.max(0, Math.min(most - 1, x));
      return within(row + down, rows.length) * columns.length + within(column + right, columns.length);
    },
    words: ({ label, value }) => [value, label],
    place: ({ row, column }) => [matrix.e + column * matrix.a, matrix.f + row * matrix.d, matrix.a, matrix.d],
    // Row and column of a name, for highlighting.
    lines: (word) => {
      read();
      const [width, height] = [columns.length * matrix.a, rows.length * matrix.d];
      const down = rows.flatMap((row, at) => (word.test(row) ? [[matrix.e, matrix.f + at * matrix.d, width, matrix.d]] : []));
      const across = columns.flatMap((column, at) => (word.test(column) ? [[matrix.e + at * matrix.a, matrix.f, matrix.a, height]] : []));
      return [...down, ...across];
    },
  };
};

const serveMarks = (figure) => {
  for (const drawing of all(".drawing", figure)) {
    const svg = drawing.querySelector("svg");
    const kind = svg.dataset.values === undefined ? pointsOf(svg) : cellsOf(svg);
    drawing.marks = kind;
    kind.every();
    let current = -1;
    const point = (mark) => {
      const [x, y, width, height] = kind.place(mark);
      ring?.remove();
      ring = outline(svg, "ring", [x, y, width, height]);
      return { words: kind.words(mark), corner: onScreen(svg, x + width / 2, y + height / 2) };
    };
    svg.addEventListener("pointermove", (event) => {
      const mark = kind.under(event);
      if (!mark) return hush();
      tell(...point(mark).words, event.clientX, event.clientY);
    });
    svg.addEventListener("pointerleave", hush);
    svg.addEventListener("click", (event) => {
      const mark = kind.under(event);
      const word = emotionIn(mark ? mark.label : (event.target.dataset?.full ?? event.target.textContent ?? ""));
      if (word) toggle(word);
    });
    drawing.addEventListener("keydown", (event) => {
      const count = kind.count();
      if (event.ctrlKey || event.altKey || event.metaKey || count === 0) return;
      if (event.key === "Escape") return hush();
      if (event.key === "Enter" || event.key === " ") {
        const word = current < 0 ? undefined : emotionIn(kind.at(current).label);
        if (word) toggle(word);
        if (current >= 0) event.preventDefault();
        return;
      }
      if (event.key === "Home" || event.key === "End") current = event.key === "Home" ? 0 : count - 1;
      else if (!/^(Arrow|Page)/.test(event.key)) return;
      else current = current < 0 ? 0 : kind.step(current, event.key, count);
      event.preventDefault();
      point(kind.at(current));
      ring.scrollIntoView({ block: "nearest", inline: "nearest" });
      const { words, corner } = point(kind.at(current));
      tell(...words, corner.x, corner.y);
      said.textContent = words.filter((part) => part !== "").reverse().join(": ");
    });
    drawing.addEventListener("blur", hush);
  }
};

// --- Highlighting of the selected emotion everywhere. ----------------------------------------------------------------

const markEmotion = (figure) => {
  const word = emotion();
  const pattern = word === "" ? undefined : naming(word);
  const names = (text) => pattern !== undefined && pattern.test(text);
  for (const drawing of all(".drawing", figure)) {
    const svg = drawing.querySelector("svg");
    for (const old of all(".line", svg)) old.remove();
    for (const element of all("[data-label]", svg)) {
      const chosen = names(element.dataset.label);
      element.classList.toggle("chosen", chosen);
    }
    for (const text of all("text", svg)) text.classList.toggle("chosen", names(text.dataset.full ?? text.textContent));
    for (const line of pattern && drawing.marks.lines ? drawing.marks.lines(pattern) : []) outline(svg, "line", line);
  }
  for (const row of all(".table tbody tr", figure)) {
    row.classList.toggle("chosen", word !== "" && [...row.cells].some((cell) => cell.textContent.length < 80 && names(cell.textContent)));
  }
  for (const samples of all(".samples", figure)) samples.colour?.();
  for (const texts of all(".texts", figure)) {
    const select = texts.querySelector("select");
    if (word !== "" && select.value !== word && [...select.options].some((option) => option.value === word)) {
      select.value = word;
      select.dispatchEvent(new Event("change"));
    }
  }
};

const markAll = () => {
  for (const slot of slots) {
    const figure = slot.element.querySelector("figure");
    if (figure) markEmotion(figure);
  }
};

const toggle = (word) => {
  byId("emotion").value = emotion() === word ? "" : word;
  markAll();
  remember();
  said.textContent = emotion() === "" ? `${word} is no longer highlighted` : `${word} is highlighted in all figures`;
};
