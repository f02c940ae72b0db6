"use strict";
// Rows of a table of the results, filtered, searched and sorted by the server. The current view is in the address.
const $ = (id) => document.getElementById(id);
const make = (tag, text, more) => Object.assign(document.createElement(tag), { textContent: text ?? "" }, more);
const N = 50;
let asked = new URLSearchParams(location.hash.slice(1));
let drawn = 0;
let shape = "";

const address = (name) => "results/" + name.split("/").map(encodeURIComponent).join("/");

async function draw() {
  const mine = ++drawn;
  const file = asked.get("file");
  if (!file) { $("found").textContent = "No tables yet: `emoflow run` writes them."; return; }
  history.replaceState(null, "", "#" + asked);
  const query = new URLSearchParams(asked);
  query.set("n", N);
  const found = await (await fetch("api/rows?" + query)).json();
  if (mine !== drawn) return;
  if (found.error) { $("found").textContent = found.error.message; return; }
  const from = found.from;
  $("found").textContent = found.found
    ? `${from + 1} to ${from + found.rows.length} of ${found.found} rows` + (found.found < found.total ? `, of ${found.total} in the table` : "")
    : `none of ${found.total} rows`;
  head(found.columns);
  filters(found.columns, found.total);
  $("rows").tBodies[0].replaceChildren(...found.rows.map((cells) => {
    const row = make("tr");
    row.append(...cells.map((cell, at) => {
      const number = typeof cell === "number";
      const text = cell === null ? "" : number && !Number.isInteger(cell) ? String(Number(cell.toPrecision(5))) : String(cell);
      return make("td", text, { className: number ? "num" : text.length > 60 ? "long" : "" });
    }));
    return row;
  }));
  $("back").disabled = from === 0;
  $("on").disabled = from + found.rows.length >= found.found;
  for (const kind of ["csv", "parquet"]) {
    $(kind).href = address(file.replace(/parquet$/, kind));
    $(kind).hidden = kind === "csv" && file.startsWith("vectors/");
  }
}

function head(columns) {
  const [sort, down] = [(asked.get("sort") ?? "").replace(/^-/, ""), (asked.get("sort") ?? "").startsWith("-")];
  const row = make("tr");
  row.append(...columns.map((column) => {
    const cell = make("th", "", { scope: "col" });
    const button = make("button", column.name, { type: "button" });
    button.onclick = () => { set("sort", sort === column.name && !down ? "-" + column.name : column.name); };
    if (sort === column.name) cell.setAttribute("aria-sort", down ? "descending" : "ascending");
    cell.append(button);
    return cell;
  }));
  const focused = document.activeElement?.closest?.("th")?.cellIndex;
  $("rows").tHead.replaceChildren(row);
  if (focused !== undefined) row.cells[focused]?.querySelector("button").focus();
}

function filters(columns, rows) {
  const now = asked.get("file");
  if (shape === now) return;
  shape = now;
  // A column whose values are mostly distinct is searched, not offered as a choice.
  const some = columns.filter((column) => column.values.length > 1 && 2 * column.values.length <= rows && column.values.every((value) => value.length <= 60));
  $("filters").replaceChildren(...some.map((column) => {
    const label = make("label", column.name);
    const select = make("select");
    select.append(make("option", "all", { value: "" }), ...column.values.filter((value) => value).map((value) => make("option", value, { value })));
    select.value = asked.get("is." + column.name) ?? "";
    select.onchange = () => { set("is." + column.name, select.value); };
    label.append(select);
    return label;
  }));
}

function set(name, value) {
  if (value) asked.set(name, value); else asked.delete(name);
  asked.delete("from");
  draw();
}

async function start() {
  const files = (await (await fetch("api/files")).json()).map((file) => file.name).filter((name) => name.endsWith(".parquet"));
  const order = ["stories/", "tables/", "vectors/"];
  files.sort((a, b) => order.findIndex((o) => a.startsWith(o)) - order.findIndex((o) => b.startsWith(o)) || a.localeCompare(b));
  $("file").replaceChildren(...files.map((name) => make("option", name.replace(/\.parquet$/, ""), { value: name })));
  if (!files.includes(asked.get("file"))) asked = new URLSearchParams(files.length ? { file: files[0] } : {});
  $("file").value = asked.get("file") ?? "";
  $("q").value = asked.get("q") ?? "";
  draw();
}

$("tools").onsubmit = (event) => event.preventDefault();
$("file").onchange = () => { asked = new URLSearchParams({ file: $("file").value }); $("q").value = ""; draw(); };
let typed;
$("q").oninput = () => { clearTimeout(typed); typed = setTimeout(() => set("q", $("q").value), 200); };
$("back").onclick = () => { asked.set("from", Math.max(0, (Number(asked.get("from")) || 0) - N)); draw(); };
$("on").onclick = () => { asked.set("from", (Number(asked.get("from")) || 0) + N); draw(); };
addEventListener("hashchange", () => { asked = new URLSearchParams(location.hash.slice(1)); shape = ""; start(); });
start();
