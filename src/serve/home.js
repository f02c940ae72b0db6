"use strict";
// Status of the run, polled regularly, and its result files.
const say = (where, text) => { document.querySelectorAll(where).forEach((it) => { it.textContent = text; }); };
const make = (tag, text, more) => Object.assign(document.createElement(tag), { textContent: text ?? "" }, more);
const STATES = { never_run: "not run yet", running: "running", submitted: "submitted to Slurm", interrupted: "interrupted: the same `emoflow run` continues it", failed: "ended with failures", finished: "finished" };
const words = (state) => state.replace(/_/g, " ");

async function files() {
  const list = await (await fetch("api/files")).json();
  const size = (n) => (n < 1e3 ? `${n} B` : n < 1e6 ? `${(n / 1e3).toFixed(0)} kB` : `${(n / 1e6).toFixed(1)} MB`);
  const items = list.filter((file) => !file.name.startsWith("figures/")).map((file) => {
    const item = make("li");
    item.append(make("a", file.name, { href: "results/" + file.name.split("/").map(encodeURIComponent).join("/") }), " ", make("small", size(file.bytes)));
    return item;
  });
  const has = list.some((file) => file.name === "report.html");
  document.querySelectorAll(".report").forEach((it) => { it.hidden = !has; });
  document.getElementById("files").replaceChildren(...(items.length ? items : [make("li", "No results yet: `emoflow run` writes them.")]));
}

async function status() {
  const found = await (await fetch("api/status")).json();
  if (found.error) { say("#state", found.error.message); return true; }
  say(".name", found.experiment);
  document.title = `${found.experiment} · emoflow`;
  say("#state", `${STATES[found.state] ?? found.state}; ${found.done} of ${found.units} units done`);
  const rows = found.nodes.map((node) => {
    const row = make("tr");
    const bar = make("progress", "", { max: Math.max(1, node.units), value: node.done });
    bar.setAttribute("aria-label", `${node.name}: ${node.done} of ${node.units} units`);
    const state = words(node.state) + (node.batches ? `; ${node.batches} more batches are stored` : "") + (node.reason && node.state === "failed" ? `: ${node.reason}` : "");
    const cell = make("td");
    cell.append(bar);
    row.append(make("td", node.name), make("td", state), make("td", `${node.done} of ${node.units}`, { className: "num" }), cell);
    return row;
  });
  document.querySelector("#nodes tbody").replaceChildren(...rows);
  document.getElementById("run").parentElement.hidden = rows.length === 0;
  return !["running", "submitted"].includes(found.state);
}

let before = true;
async function again() {
  let ended = true;
  try { ended = await status(); } catch { say("#state", "the server no longer answers"); }
  if (ended && !before) await files();
  before = ended;
  setTimeout(again, ended ? 5000 : 1000);
}
files();
again();
