// Tables: a click on a header sorts, a second one reverses the order.

const sortKey = (cell) => {
  const text = cell.textContent;
  if (!cell.classList.contains("num")) return text.trim() === "" ? null : text;
  const value = Number(text.split(" [")[0].replace("\u2212", "-").replace("\u221e", "Infinity"));
  return Number.isNaN(value) ? null : value;
};
const order = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));

const serveTables = (figure) => {
  for (const table of all(".table table", figure)) {
    const body = table.tBodies[0];
    if (body.rows.length < 2) continue;
    all("thead th", table).forEach((head, column) => {
      const button = make("button", { type: "button" }, ...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const numeric = head.classList.contains("num");
        const was = head.getAttribute("aria-sort");
        const descending = was ? was === "ascending" : numeric;
        for (const other of all("thead th", table)) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", descending ? "descending" : "ascending");
        const rows = [...body.rows].map((row) => [sortKey(row.cells[column]), row]);
        rows.sort(([a], [b]) => {
          if (a === null || b === null) return (a === null) - (b === null);
          return descending ? order(b, a) : order(a, b);
        });
        body.append(...rows.map(([, row]) => row));
      });
    });
  }
  for (const button of all("button.copy", figure)) {
    button.addEventListener("click", async () => {
      const command = button.previousElementSibling;
      try {
        await navigator.clipboard.writeText(command.textContent);
        button.textContent = "Copied";
      } catch {
        // If the browser gives local files no access to the clipboard, the command is selected instead.
        getSelection().selectAllChildren(command);
        button.textContent = "Selected";
      }
    });
  }
};
