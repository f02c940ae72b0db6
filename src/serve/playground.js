"use strict";
// One prompt continued in three columns, generated side by side: unsteered, steered, and steered along a random
// direction of the same norm. Every token has a reading: the dot product of the residual stream with an emotion's
// direction.
const $ = (id) => document.getElementById(id);
const make = (tag, text, more) => Object.assign(document.createElement(tag), { textContent: text ?? "" }, more);
const POSITIONS = {
  all: "all tokens",
  prompt: "the prompt's tokens",
  generated: "the positions that predict the answer",
  content: "all but special tokens at the beginning",
};
const STEPS = 9;

let experiment;
let columns = [];
let abort = null;
// The conversation so far: the user's turns, the replies of each column, and the settings.
let turns = [], replies = [[], [], []], under = [];

const model = () => experiment.models.find((it) => it.name === $("model").value);
const set = () => model().sets[$("set").selectedIndex];
const plain = () => $("mode-plain").checked;
const layers = () => $("layers").value.split(/[\s,]+/).filter(Boolean).map((it) => (/^\d+$/.test(it) ? Number(it) : it));
const number = (x) => Number(x.toPrecision(3)).toString().replace("-", "\u2212");

// Choices

function options(select, values, chosen) {
  select.replaceChildren(...values.map(([value, text]) => make("option", text ?? String(value), { value: String(value) })));
  if (chosen !== undefined && values.some(([value]) => String(value) === String(chosen))) select.value = String(chosen);
}

function chooseModel() {
  const it = model();
  options($("set"), it.sets.map((own, at) => [at, [own.stories, own.variant].filter(Boolean).join(", ")]), 0);
  $("set-label").hidden = it.sets.length < 2;
  $("which").hidden = $("model-label").hidden && $("set-label").hidden;
  $("mode-chat").disabled = !it.chat;
  if (!it.chat) $("mode-plain").checked = true;
  $("mode-chat").parentElement.title = it.chat ? "" : "This model has no chat template";
  chooseSet();
  chooseMode();
}

function chooseSet() {
  const own = set();
  if (!own) return;
  const emotions = own.emotions.map((it) => [it]);
  const first = ["desperate", "calm", "happy"].find((it) => own.emotions.includes(it)) ?? own.emotions[0];
  options($("emotion"), emotions, $("emotion").value || first);
  options($("read"), emotions, $("read").value || $("emotion").value);
  options($("read-layer"), own.layers.map((it) => [it]), own.default_layer);
  $("layers").value = String(own.default_layer);
  const kept = own.layers.length > 6 ? `${own.layers[0]} to ${own.layers.at(-1)}` : own.layers.join(", ");
  $("kept").textContent = `Layers with vectors: ${kept}. Several layers, separated by commas, share the strength.` + (own.there ? "" : " Not all of them are in the cache yet.");
  band();
}

function chooseMode() {
  const words = plain() ? ["all", "content", "prompt", "generated"] : ["all", "prompt", "generated"];
  options($("positions"), words.map((it) => [it, POSITIONS[it]]), $("positions").value || "all");
  $("system-label").hidden = plain();
  $("prompt-label").textContent = plain() ? "Text to continue" : turns.length ? "Next user message" : "User message";
  if (!$("prompt").value) $("prompt").value = plain() ? "He feels" : turns.length ? "" : "How is your day going?";
  $("turns").hidden = plain();
  $("new").hidden = plain() || !turns.length;
  band();
}

// The range of strengths in which text was measured to be coherent

function measured() {
  const [own, at, where] = [set(), layers().map(String).join(), $("positions").value];
  const all = model().bands.filter((it) => it.stories === own.stories && it.variant === own.variant && it.emotion === $("emotion").value);
  const here = all.filter((it) => it.layers.map(String).join() === at);
  return { found: here.find((it) => it.positions === where), here, all };
}

function band() {
  if (!experiment || !set()) return;
  const { found, here, all } = measured();
  const far = Math.max(0.5, ...(found?.points ?? []).map((it) => Math.abs(it.strength) * 1.1), Math.abs(Number($("strength").value) || 0));
  const most = Math.ceil(far * 20) / 20;
  Object.assign($("slider"), { min: -most, max: most });
  $("slider").value = $("strength").value;
  const place = (x) => `${(50 * (x + most)) / most}%`;
  const marks = [make("div", "", { className: "line" })];
  const mark = (x, text) => { const it = make(text === undefined ? "i" : "span", text); it.style.left = place(x); marks.push(it); };
  if (found && found.high > found.low) {
    const safe = make("div", "", { className: "safe" });
    safe.style.left = place(found.low);
    safe.style.width = `${(50 * (found.high - found.low)) / most}%`;
    marks.push(safe);
  }
  for (const point of found?.points ?? []) mark(point.strength);
  for (const x of [-most, 0, most]) mark(x, number(x));
  $("band").replaceChildren(...marks);
  const said = $("said"), strength = Number($("strength").value);
  said.className = "said";
  if (!found) {
    const other = here.length ? `it was measured at positions: ${[...new Set(here.map((it) => it.positions))].join(", ")}` : all.length ? `it was measured at layer ${[...new Set(all.map((it) => it.layers.join(" + ")))].join("; ")}` : "an analysis `steering` with unit = \"resid_norm\" and several strengths measures it";
    said.textContent = `The range of coherent strengths was not measured for these settings: ${other}.`;
    return;
  }
  const strengths = found.points.map((it) => number(it.strength)).join(", ");
  const range = found.high > found.low ? `Coherent from ${number(found.low)} to ${number(found.high)}` : "Not coherent at any measured strength";
  const outside = strength < found.low || strength > found.high;
  said.classList.add(outside ? "out" : "in");
  said.textContent = `${range} (measured at ${strengths})` + (outside ? `: ${number(strength)} is outside.` : ".");
  said.title = found.points.map(told).join("\n");
}

function told(point) {
  const parts = [];
  if (point.neutral !== null) parts.push(`neutral text ${number(point.neutral)} nats per token`);
  if (point.surprise !== null) parts.push(`generated text ${number(point.surprise)} nats per token more surprising`);
  if (point.repeated !== null) parts.push(`${Math.round(100 * point.repeated)} % repeated`);
  return `${number(point.strength)}: ${parts.join(", ")}${point.coherent ? "" : " (not coherent)"}`;
}

// Requests

function settings() {
  const own = set();
  return {
    model: model().name, stories: own.stories, variant: own.variant,
    emotion: $("emotion").value, strength: Number($("strength").value), layers: layers(), positions: $("positions").value,
    seed: Number($("seed").value), temperature: Number($("temperature").value), top_p: Number($("top_p").value),
    max_new_tokens: Number($("tokens").value),
  };
}

function request(last) {
  const asked = { ...settings(), read_emotion: $("read").value, read_layer: /^\d+$/.test($("read-layer").value) ? Number($("read-layer").value) : $("read-layer").value };
  if (plain()) return { ...asked, prompt: $("prompt").value };
  return { ...asked, system: $("system").value, turns: [...turns, last], replies };
}

const post = (where, body, signal) => fetch(where, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal });

function wrong(message) {
  $("wrong").textContent = message;
  $("wrong").hidden = !message;
}

async function write(last) {
  wrong("");
  const body = request(last);
  abort = new AbortController();
  busy(true);
  $("state").textContent = "waiting for the model";
  let ended = "";
  try {
    const answer = await post("api/play", body, abort.signal);
    if (!answer.headers.get("content-type").startsWith("text/event-stream")) throw new Error((await answer.json()).error.message);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      rest += value;
      const events = rest.split("\n\n");
      rest = events.pop();
      for (const event of events) heard(JSON.parse(event.replace(/^data: /, "")), body);
    }
    ended = "done";
  } catch (error) {
    ended = error.name === "AbortError" ? "stopped" : "";
    if (!ended) wrong(error.message);
  }
  abort = null;
  $("state").textContent = ended;
  // Text generated before an interruption is part of the conversation, too.
  if (!plain() && columns.length && ended) {
    turns = body.turns;
    replies = columns.map((column, at) => [...replies[at], column.text]);
    under.push(JSON.stringify(settings()));
    conversation();
  }
  colour();
  busy(false);
}

function busy(is) {
  $("stop").disabled = !is;
  $("write").disabled = is;
  $("again").disabled = is || !columns.length;
  $("new").disabled = is;
  $("copy").disabled = is;
}

function heard(event, body) {
  if (event.error) throw new Error(event.error.message);
  if (event.columns) begin(event, body);
  else if (event.read) event.read.forEach(([at, token, value]) => reading(columns[at], token, value));
  else if (event.column !== undefined) grow(columns[event.column], event);
  later();
}

// Columns

function begin({ columns: names, prompts }, body) {
  const heads = ["Unsteered", `${names[1]}`, "A random direction"];
  const how = ["nothing is added", `${number(body.strength)} residual norms at ${where(body)}`, "same norm, same positions"];
  columns = prompts.map((prompt, at) => {
    const box = make("section", "", { className: "column" });
    const head = make("h2", heads[at] + " ");
    head.append(make("small", how[at]));
    const details = make("details");
    const before = make("div", "", { className: "tokens" });
    details.append(make("summary", `Prompt: ${prompt.length} tokens`), before);
    const text = make("div", "", { className: "tokens" });
    const inside = make("div", "", { className: "body" });
    inside.append(details, text);
    const foot = make("div", "", { className: "foot" });
    box.append(head, inside, foot);
    const column = { text: "", prompt: prompt.length, tokens: [], box, foot, into: text, finish: null };
    prompt.forEach((name) => token(column, before, name));
    for (const place of [before, text]) walk(column, place, heads[at]);
    return column;
  });
  $("columns").replaceChildren(...columns.map((column) => column.box));
  $("state").textContent = "generating";
  $("legend").hidden = false;
  $("legend-name").textContent = `Reading of ${body.read_emotion} at layer ${body.read_layer}:`;
}

const where = (body) => (body.layers.length > 1 ? "layers " : "layer ") + body.layers.join(", ");

function token(column, place, text) {
  const span = make("span", text);
  column.tokens.push({ span, value: null, name: text });
  place.append(span);
}

function grow(column, { token: name, more, finish }) {
  if (name !== null) {
    token(column, column.into, more);
    column.tokens.at(-1).name = name;
  } else if (more) {
    column.into.append(make("span", more));
  }
  column.text += more;
  column.finish = finish ?? column.finish;
}

function reading(column, at, value) {
  if (column.tokens[at]) column.tokens[at].value = value;
}

let waits = false;
function later() {
  if (waits) return;
  waits = true;
  requestAnimationFrame(() => { waits = false; colour(); });
}

// The scale: the median of all readings except those of first tokens, which are outliers in many models, and the
// distance from it within which nine in ten readings lie.
function colour() {
  const values = columns.flatMap((column) => column.tokens.slice(1).map((it) => it.value)).filter((value) => value !== null).sort((a, b) => a - b);
  if (!values.length) return;
  const middle = values[values.length >> 1];
  const distances = values.map((value) => Math.abs(value - middle)).sort((a, b) => a - b);
  const far = distances[Math.floor(0.9 * (distances.length - 1))] || 1;
  for (const column of columns) {
    let sum = 0, n = 0;
    column.tokens.forEach(({ span, value }, at) => {
      if (value === null) return;
      const z = Math.max(-1, Math.min(1, (value - middle) / far));
      span.style.background = shade(z);
      span.className = (z >= 1 ? "high" : z <= -1 ? "low" : "") + (span.classList.contains("here") ? " here" : "");
      if (at >= column.prompt) { sum += value; n += 1; }
    });
    const written = column.tokens.length - column.prompt;
    const ended = { stop: "; stopped by itself", length: "; reached the limit" }[column.finish] ?? "";
    column.foot.textContent = `${written} tokens${ended}` + (n ? `; mean reading ${number(sum / n)}` : "");
  }
  $("legend-low").textContent = number(middle - far);
  $("legend-high").textContent = number(middle + far);
}

const shade = (z) => `rgba(var(${z < 0 ? "--cold" : "--warm"}), ${(0.5 * Math.abs(z)).toFixed(2)})`;

// The value of a token, by pointer and by keyboard

function walk(column, place, name) {
  place.tabIndex = 0;
  place.setAttribute("role", "group");
  place.setAttribute("aria-label", `${name}: tokens with their readings`);
  const own = () => column.tokens.filter(({ span }) => span.parentElement === place);
  place.addEventListener("pointermove", (event) => {
    const found = own().find(({ span }) => span === event.target);
    if (found) tip(found, event.clientX, event.clientY); else $("tip").hidden = true;
  });
  place.addEventListener("pointerleave", () => { $("tip").hidden = true; });
  place.addEventListener("blur", () => { $("tip").hidden = true; place.querySelector(".here")?.classList.remove("here"); });
  place.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const all = own();
    if (!step || !all.length) return;
    event.preventDefault();
    const before = all.findIndex(({ span }) => span.classList.contains("here"));
    const next = Math.max(0, Math.min(all.length - 1, before + step));
    all[before]?.span.classList.remove("here");
    all[next].span.classList.add("here");
    const box = all[next].span.getBoundingClientRect();
    tip(all[next], box.left, box.bottom);
    place.setAttribute("aria-label", `${name}: ${label(all[next])}`);
  });
}

const label = ({ name, value }) => `${JSON.stringify(name)}: ${value === null ? "not read yet" : number(value)}`;

function tip(it, x, y) {
  const box = $("tip");
  box.textContent = label(it);
  box.hidden = false;
  box.style.left = `${Math.max(8, Math.min(x + 10, innerWidth - box.offsetWidth - 8))}px`;
  box.style.top = `${Math.min(y + 14, innerHeight - box.offsetHeight - 8)}px`;
}

// The conversation

function conversation() {
  const shown = turns.map((said, at) => {
    const turn = make("p", "", { className: "turn" });
    turn.append(make("b", "User"), said);
    if (at === turns.length - 1) return [turn];
    const answer = make("p", "", { className: "turn" });
    answer.append(make("b", "Unsteered answer"), replies[0][at]);
    return [turn, answer];
  });
  $("turns").replaceChildren(...shown.flat());
  $("prompt").value = "";
  chooseMode();
}

function forget() {
  turns = []; replies = [[], [], []]; under = [];
  $("turns").replaceChildren();
  chooseMode();
}

$("form").onsubmit = (event) => {
  event.preventDefault();
  if (abort || !experiment) return;
  if (!$("prompt").value.trim()) { wrong(plain() ? "Enter a text to continue." : "Enter a message first."); return; }
  write($("prompt").value);
};
$("stop").onclick = () => abort?.abort();
$("again").onclick = () => {
  $("seed").value = Number($("seed").value) + 1;
  if (plain()) { write(); return; }
  const last = turns.pop();
  replies = replies.map((own) => own.slice(0, -1));
  under.pop();
  write(last);
};
$("new").onclick = forget;
$("prompt").onkeydown = (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); $("form").requestSubmit(); } };

$("copy").onclick = async () => {
  wrong("");
  // The conversation so far, or the prompt that would begin it.
  const before = turns.length ? turns.slice(0, -1) : [];
  const last = turns.length ? turns.at(-1) : $("prompt").value;
  const body = { ...request(last) };
  if (!plain()) Object.assign(body, { turns: [...before, last], replies: replies.map((own) => own.slice(0, before.length)) });
  const found = await (await post("api/copy", body)).json();
  if (found.error) { wrong(found.error.message); return; }
  const notes = [...found.notes];
  if (under.some((it) => it !== JSON.stringify(settings()))) notes.push("parts of this conversation were generated with other settings; the file uses the current settings for all of it");
  $("copied-notes").replaceChildren(...notes.map((note) => make("li", note)));
  $("copied-file").textContent = found.file;
  $("copied-command").textContent = found.command;
  $("copied-text").value = found.toml;
  $("copied-state").textContent = "";
  $("copied").showModal();
};
$("copied-copy").onclick = async () => {
  try { await navigator.clipboard.writeText($("copied-text").value); } catch { $("copied-text").select(); document.execCommand("copy"); }
  $("copied-state").textContent = "copied";
};
$("copied-save").onclick = () => {
  const link = make("a", "", { href: URL.createObjectURL(new Blob([$("copied-text").value], { type: "application/toml" })), download: $("copied-file").textContent });
  link.click();
  URL.revokeObjectURL(link.href);
};
$("copied-close").onclick = () => $("copied").close();

$("model").onchange = () => { forget(); chooseModel(); };
$("set").onchange = chooseSet;
for (const id of ["mode-chat", "mode-plain"]) $(id).onchange = () => { $("prompt").value = ""; chooseMode(); };
$("emotion").onchange = () => { $("read").value = $("emotion").value; band(); };
for (const id of ["layers", "positions"]) $(id).onchange = band;
$("slider").oninput = () => { $("strength").value = $("slider").value; band(); };
$("strength").oninput = band;

async function start() {
  const found = await (await fetch("api/experiment")).json();
  if (found.error) {
    $("absent").textContent = found.error.message;
    $("absent").hidden = false;
    $("write").disabled = $("copy").disabled = true;
    return;
  }
  experiment = found;
  $("name").textContent = found.name;
  document.title = `Playground · ${found.name} · emoflow`;
  $("strength").value = "0.1";
  options($("model"), found.models.map((it) => [it.name]));
  $("model-label").hidden = found.models.length < 2;
  for (let step = 0; step < STEPS; step++) {
    const it = make("i");
    it.style.background = shade((2 * step) / (STEPS - 1) - 1);
    document.querySelector(".ramp").append(it);
  }
  if (!model()?.sets.length) {
    $("absent").textContent = "The experiment has no emotion vectors to steer with.";
    $("absent").hidden = false;
    $("write").disabled = $("copy").disabled = true;
    return;
  }
  chooseModel();
}
start();
