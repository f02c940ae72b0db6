// Texts to read: filtered by category, searched, sorted; a limited number at a time is in the page.

const PAGE = 20;

const serveSamples = (root) => {
  for (const figure of all(".samples", root)) {
    const data = JSON.parse(figure.querySelector("script").textContent);
    const texts = data.texts.map(([of, numbers, note, evidence, earlier, text, tokens], at) => ({ of, numbers, note, evidence, earlier, text, tokens, at }));
    const label = (words, field) => make("label", {}, make("span", { textContent: words }), " ", field);
    const search = make("input", { type: "search", size: 18 });
    const several = data.by.map((by, at) => ({ by, at, values: [...new Set(texts.map(({ of }) => of[at]))] })).filter(({ values }) => values.length > 1);
    const selects = several.map(({ by, at, values }) => {
      const options = values.map((value) => new Option(value === "" ? "none" : value, `=${value}`));
      return { by, at, select: make("select", {}, new Option("all", ""), ...options) };
    });
    const sorts = data.numbers.flatMap((number, at) => [new Option(`${number}, highest first`, `${at} -1`), new Option(`${number}, lowest first`, `${at} 1`)]);
    const sort = make("select", {}, new Option("original order", ""), ...sorts);
    const withTokens = texts.some(({ tokens }) => tokens !== null);
    const only = make("input", { type: "checkbox" });
    const output = make("output");
    const list = make("div", { className: "list", tabIndex: 0 });
    list.setAttribute("role", "region");
    list.setAttribute("aria-label", `Texts: ${root.querySelector("h3").firstChild.textContent.trim()}`);
    const more = make("button", { type: "button", className: "more", textContent: "Show more" });
    const fields = [label("Search", search), ...selects.map(({ by, select }) => label(by, select)), ...(sorts.length > 0 ? [label("Sort by", sort)] : []), ...(withTokens ? [label("With coloured tokens", only)] : [])];
    const form = make("form", {}, ...fields, output);
    form.autocomplete = "off";

    // A text with the search term, or the evidence for its classification, highlighted.
    const marked = (text, parts) => {
      const wanted = parts.filter((part) => part !== "");
      if (wanted.length === 0) return [text];
      const pattern = new RegExp(`(${wanted.map(escaped).join("|")})`, "giu");
      return text.split(pattern).map((part, at) => (at % 2 === 1 ? make("mark", { textContent: part }) : part));
    };

    // The measure by which tokens are coloured: the selected emotion, else the text's own.
    const measured = (of) => data.measures.indexOf([emotion(), ...of].find((word) => data.measures.includes(word)) ?? data.measures[0]);
    const coloured = ([pieces, values, largest, limit], of) => {
      const measure = measured(of);
      const value = (at) => unpacked(values, largest, measure * pieces.length + at);
      const tokens = pieces.map((piece, at) => make("span", { textContent: piece, className: shade(value(at), limit) }));
      const text = make("div", { className: "tokens" }, ...tokens);
      text.addEventListener("pointermove", (event) => {
        const at = tokens.indexOf(event.target);
        if (at < 0) return hush();
        tell(spell(value(at)), `${data.measures[measure]}, ${data.value}`, event.clientX, event.clientY);
      });
      text.addEventListener("pointerleave", hush);
      return [make("p", { className: "told", textContent: `Coloured by ${data.measures[measure]}, ${data.value}; blue below 0, red above.` }), text];
    };

    const article = ({ of, numbers, note, evidence, earlier, text, tokens }) => {
      const values = numbers.flatMap((x, at) => (x === null ? [] : [`${data.numbers[at]} ${spell(x)}`]));
      const head = make("h4", {}, of.filter((value) => value !== "").join(" \u00b7 "), " ", make("span", { className: "id", textContent: [note, ...values].filter((part) => part !== "").join(" \u00b7 ") }));
      const told = evidence !== "" && !text.includes(evidence) ? [make("p", { className: "told", textContent: `evidence: ${evidence}` })] : [];
      const before = earlier === "" ? [] : [make("p", { className: "earlier" }, ...marked(earlier, [search.value]))];
      const said = make("p", { className: "said" }, ...marked(text, [search.value, told.length === 0 ? evidence : ""]));
      const plain = tokens === null || search.value !== "";
      return make("article", {}, head, ...told, ...before, ...(plain ? [said] : coloured(tokens, of)));
    };

    let found = texts;
    let shown = 0;
    const grow = () => {
      const next = found.slice(shown, shown + PAGE);
      list.append(...next.map(article));
      shown += next.length;
      more.hidden = shown >= found.length;
    };
    const find = () => {
      const words = search.value.toLowerCase();
      const fits = (text) =>
        selects.every(({ at, select }) => select.value === "" || `=${text.of[at]}` === select.value) &&
        (!only.checked || text.tokens !== null) &&
        (words === "" || text.text.toLowerCase().includes(words) || text.earlier.toLowerCase().includes(words));
      found = texts.filter(fits);
      if (sort.value !== "") {
        const [at, sign] = sort.value.split(" ").map(Number);
        const none = (text) => text.numbers[at] === null;
        found.sort((a, b) => none(a) - none(b) || sign * (a.numbers[at] - b.numbers[at]) || a.at - b.at);
      }
      const of = data.all === null ? `${texts.length}` : `the ${texts.length} in this page (${data.all} in total)`;
      output.textContent = `${found.length} of ${of}`;
      list.replaceChildren();
      shown = 0;
      list.scrollTop = 0;
      grow();
    };
    for (const field of [search, sort, only, ...selects.map(({ select }) => select)]) field.addEventListener("input", find);
    form.addEventListener("submit", (event) => event.preventDefault());
    more.addEventListener("click", grow);
    // When the selected emotion changes, recolour the tokens already in the page.
    figure.colour = () => {
      if (data.measures.length === 0) return;
      const many = shown;
      list.replaceChildren(...found.slice(0, many).map(article));
    };
    figure.append(form, list, more);
    find();
  }
};
