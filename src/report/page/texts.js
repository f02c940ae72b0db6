// Texts token by token: coloured by one of several measures, with values under the pointer and by the arrow keys.

const serveTexts = (root) => {
  for (const figure of all(".texts", root)) {
    const select = figure.querySelector("select");
    const window = Number(figure.dataset.window);
    const texts = all("article", figure).map((article) => {
      const turns = all(".turn", article).map((turn) => ({ mean: turn.querySelector(".mean"), tokens: all(".tokens span", turn) }));
      return { article, turns, tokens: turns.flatMap((turn) => turn.tokens), current: -1 };
    });
    // The values of one measure, unpacked on demand.
    const values = ({ article, tokens }) => tokens.map((_, index) => unpack(article, select.selectedIndex * tokens.length + index));
    const colour = () => {
      for (const text of texts) {
        text.values = values(text);
        const limit = Number(text.article.dataset.limit) || 1;
        let from = 0;
        for (const { mean, tokens } of text.turns) {
          const own = text.values.slice(from, from + tokens.length);
          tokens.forEach((token, i) => {
            token.className = shade(own[i], limit);
          });
          mean.textContent = own.length > 0 ? spell(own.reduce((a, b) => a + b, 0) / own.length) : "";
          from += tokens.length;
        }
      }
    };
    const words = (text, index) => {
      text.values ??= values(text);
      const last = text.values.slice(Math.max(0, index + 1 - window), index + 1);
      const mean = last.reduce((a, b) => a + b, 0) / last.length;
      return [spell(text.values[index]), `${select.value}; mean of the last ${last.length}: ${spell(mean)}`];
    };
    select.addEventListener("change", colour);
    figure.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
    for (const text of texts) {
      text.article.addEventListener("pointermove", (event) => {
        const index = text.tokens.indexOf(event.target);
        if (index < 0) return hush();
        tell(...words(text, index), event.clientX, event.clientY);
      });
      text.article.addEventListener("pointerleave", hush);
      text.article.addEventListener("blur", () => {
        hush();
        text.tokens[text.current]?.classList.remove("at");
      });
      text.article.addEventListener("keydown", (event) => {
        const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (by === undefined || event.ctrlKey || event.altKey || event.metaKey || text.tokens.length === 0) return;
        event.preventDefault();
        text.tokens[text.current]?.classList.remove("at");
        text.current = Math.max(0, Math.min(text.tokens.length - 1, text.current + by));
        const token = text.tokens[text.current];
        token.classList.add("at");
        token.scrollIntoView({ block: "nearest" });
        const box = token.getBoundingClientRect();
        const [strong, more] = words(text, text.current);
        tell(strong, more, box.left, box.bottom - 10);
        said.textContent = `${token.textContent} ${strong}`;
      });
    }
  }
};
