// The tagging page. Photos are stored in this tab only. Each photo is sent to the server unchanged, and is sent again for
// each heat map.
import { csv } from "./csv.js";
import { paint } from "./heat.js";
import { ask, inTurn, refusal } from "./requests.js";

const ROWS = 6;           // number of most probable labels shown per photo; assigned labels are always shown
const SCORES = { mean_average_precision: "mAP", samples_f1: "samples-F1", subset_accuracy: "exact match",
  label_accuracy: "accuracy per label" };

const $ = (id) => document.getElementById(id);
const logit = (p) => Math.log(p / (1 - p));
const expit = (x) => 1 / (1 + Math.exp(-x));
const number = (p) => (p > 0 && p < 0.005 ? "<0.01" : p < 1 && p >= 0.995 ? ">0.99" : p.toFixed(2));
const counted = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;

let model = null;         // the server's description of the model
let ready = null;         // the promise of this description
let photos = [];          // all photos, in the order of their cards
let shift = 0;            // added to all thresholds, in log-odds
const moved = new Map();  // label → threshold, for labels whose threshold the user has changed

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}
const copyOf = (template) => $(template).content.firstElementChild.cloneNode(true);

/* Requests */

function send(photo, explain) {
  const { signal } = photo.stop;
  return inTurn(async () => {
    signal.throwIfAborted();
    await photo.file.slice(0, 1).arrayBuffer().catch(() => {
      throw new Error("The file cannot be read. It may have been moved. To tag a folder, choose its photos.");
    });
    const query = new URLSearchParams({ model: model.name, ...(explain && { explain }) });
    const headers = { "Content-Type": "application/octet-stream" };
    const { images: [found] } = await ask(`v1/tag?${query}`, { method: "POST", headers, body: photo.file, signal });
    if (found.error) throw refusal(found.error);
    return found.labels;
  }, explain !== undefined);
}

/* The model */

function load(name = $("models").value) {
  const asked = ask(name ? `v1/model?${new URLSearchParams({ model: name })}` : "v1/model").then((said) => {
    if (asked === ready) displayModel(said);
  });
  asked.catch((error) => {
    if (asked === ready) ready = null;
    $("problem").textContent = `No photos can be tagged yet. ${error.message}`;
    $("problem").hidden = false;
  });
  return ready = asked;
}

function displayModel(said) {
  model = said;
  $("problem").hidden = true;
  const several = model.models.length > 1;
  $("model").textContent = several ? "" : model.name;
  $("models").hidden = !several;
  $("models").replaceChildren(...model.models.map((name) => new Option(name, name, false, name === model.name)));
  const pairs = [["Model type", model.backbone ? `${model.approach}, ${model.backbone}` : model.approach],
    ["Input size", `${model.image_size} × ${model.image_size} pixels`]];
  if (model.trained_on) pairs.push(["Trained on", counted(model.trained_on, "photo")]);
  for (const [score, title] of Object.entries(SCORES)) {
    if (typeof model.test?.[score] === "number") pairs.push([`Test ${title}`, model.test[score].toFixed(3)]);
  }
  if (!model.test) pairs.push(["Test scores", "not measured"]);
  pairs.push([counted(model.labels.length, "label"), model.labels.join(", ")]);
  $("facts").querySelector("dl").replaceChildren(...pairs.map(([term, text]) => {
    const pair = element("div");
    pair.append(element("dt", term), element("dd", text));
    return pair;
  }));
  $("facts").hidden = false;
  $("sliders").replaceChildren(...model.labels.map(slider));
  $("cards").style.setProperty("--rows", Math.min(ROWS, model.labels.length));
  resetThresholds();
}

/* Thresholds */

const raised = (p, by) => (by ? expit(logit(p) + by) : p);
const cut = (label, given) => raised(moved.get(label) ?? given, shift);
// Unless the user has changed the threshold, the server's decision is used.
const isGiven = (found) => (shift || moved.has(found.label)
  ? found.probability >= cut(found.label, found.threshold) : found.decision);

function slider(label, index) {
  const item = element("li"), name = element("label", label), value = element("span"), input = element("input");
  Object.assign(input, { type: "range", min: 0.01, max: 0.99, step: 0.01, id: `slider-${index}` });
  name.htmlFor = input.id;
  input.addEventListener("input", () => {
    moved.set(label, raised(input.valueAsNumber, -shift));
    decideAll();
  });
  item.append(name, value, input);
  return item;
}

function resetThresholds() {
  moved.clear();
  shift = $("shift").valueAsNumber = 0;
  decideAll();
}

function decideAll() {
  $("shift").setAttribute("aria-valuetext", shift ? `${Math.abs(shift)} ${shift > 0 ? "stricter" : "looser"}` : "unchanged");
  [...$("sliders").children].forEach((item, index) => {
    const [, value, input] = item.children, label = model.labels[index], given = model.thresholds[index];
    const now = cut(label, given);
    input.value = now;
    value.textContent = number(now) === number(given) ? number(now) : `${number(given)} → ${number(now)}`;
    input.setAttribute("aria-valuetext", number(now));
  });
  $("reset").disabled = !shift && !moved.size;
  photos.forEach(decide);
  count();
}

function decide(photo) {
  photo.ranked.forEach((found, rank) => {
    const given = isGiven(found), threshold = cut(found.label, found.threshold), { row } = found;
    row.classList.toggle("given", given);
    row.querySelector(".mark").style.left = `${100 * threshold}%`;
    row.querySelector(".unseen").textContent = `${given ? "assigned" : "not assigned"}, threshold ${number(threshold)}`;
    row.hidden = !(given || rank < ROWS || photo.open);
  });
  const hidden = photo.ranked.filter((found) => found.row.hidden).length, more = photo.card.querySelector(".more");
  more.hidden = !hidden && !photo.open;
  more.textContent = photo.open ? "Fewer labels" : `${counted(hidden, "more label")}`;
  more.setAttribute("aria-expanded", String(photo.open));
}

function count() {
  const done = photos.filter(isDone).length, given = photos.flatMap((photo) => photo.labels.filter(isGiven)).length;
  $("status").textContent = done < photos.length ? `Tagged ${done} of ${counted(photos.length, "photo")}` : "";
  $("count").textContent = `${counted(photos.length, "photo")}, ${counted(given, "label")} assigned`;
  $("results").hidden = !photos.length;
  $("thresholds").hidden = !photos.length || !model;
  document.body.classList.toggle("started", photos.length > 0);
  for (const button of document.querySelectorAll("[data-copy], [data-save]")) button.disabled = !done;
}

/* Photos */

const isDone = (photo) => photo.labels.length > 0 || photo.problem !== null;

function add(files) {
  const added = [...files].map((file) => {
    const photo = { file, card: copyOf("card"), url: URL.createObjectURL(file), labels: [], ranked: [], problem: null,
      shown: null, open: false, stop: null };
    const { card } = photo, image = card.querySelector("img");
    image.addEventListener("error", () => { image.hidden = true; card.querySelector(".blank").hidden = false; });
    image.src = photo.url;
    image.alt = `Photo ${file.name}`;
    card.querySelector("h2").textContent = file.name;
    const on = (part, what, work) => {
      card.querySelector(part).setAttribute("aria-label", what);
      card.querySelector(part).addEventListener("click", work);
    };
    on(".remove", `Remove ${file.name}`, () => remove(photo));
    on(".again", `Try ${file.name} again`, () => tag(photo));
    card.querySelector(".more").addEventListener("click", () => { photo.open = !photo.open; decide(photo); });
    return photo;
  });
  photos = [...added, ...photos];
  $("cards").prepend(...added.map((photo) => photo.card));
  for (const photo of added) tag(photo);
}

function forget(photo) {
  photo.stop.abort();
  URL.revokeObjectURL(photo.url);
  photo.card.remove();
}

function remove(photo) {
  const at = photos.indexOf(photo);
  photos.splice(at, 1);
  forget(photo);
  count();
  ((photos[at] ?? photos[at - 1])?.card.querySelector(".remove") ?? $("choose")).focus();
}

async function tag(photo) {
  photo.stop?.abort();
  const stop = photo.stop = new AbortController();
  Object.assign(photo, { labels: [], ranked: [], problem: null, shown: null, open: false });
  display(photo);
  count();
  const [labels, problem] = await (ready ?? load()).then(() => send(photo)).then((found) => [found, null], (error) => [[], error]);
  if (stop.signal.aborted) return;
  Object.assign(photo, { labels, problem });
  photo.ranked = [...photo.labels].sort((a, b) => b.probability - a.probability);
  for (const found of photo.ranked) found.row = row(photo, found);
  display(photo);
  count();
  const names = photo.ranked.filter(isGiven).map((found) => found.label);
  $("spoken").textContent = `${photo.file.name}: ${photo.problem?.message ?? (names.join(", ") || "no label")}`;
}

function row(photo, found) {
  const made = copyOf("row"), look = made.querySelector("button");
  made.querySelector(".name").textContent = found.label;
  made.querySelector(".number").textContent = number(found.probability);
  made.querySelector(".level").style.width = `${100 * found.probability}%`;
  look.title = `Heat map of “${found.label}”`;
  look.setAttribute("aria-label", look.title);
  look.addEventListener("click", () => toggleHeat(photo, found));
  return made;
}

function display(photo) {
  const { card, problem } = photo, state = card.querySelector(".state");
  card.classList.toggle("waiting", !isDone(photo));
  card.classList.toggle("failed", problem !== null);
  state.textContent = problem ? problem.message : "Waiting …";
  if (problem) state.prepend(element("b", "Not tagged"));
  state.hidden = photo.labels.length > 0;
  // Trying again can help after a server error, but not if the photo itself is the problem.
  card.querySelector(".again").hidden = problem === null || [413, 415, 422].includes(problem.status);
  card.querySelector(".labels").replaceChildren(...photo.ranked.map((found) => found.row));
  displayHeat(photo);
  decide(photo);
}

/* Heat maps */

async function heatMap(photo, found) {
  const { heatmap } = (await send(photo, found.label)).find(({ label }) => label === found.label);
  if (!heatmap) throw new Error("The server did not send one.");
  return createImageBitmap(new Blob([Uint8Array.from(atob(heatmap), (letter) => letter.charCodeAt(0))]));
}

async function toggleHeat(photo, found) {
  photo.shown = photo.shown === found ? null : found;
  const later = photos.some((other) => other.ranked.some(({ heat }) => heat));
  displayHeat(photo, photo.shown ? `Computing the heat map of “${found.label}” …${later ? "" : " The first one takes longest."}` : "");
  if (!photo.shown || found.heat) return;
  let message = "";
  found.asked ??= heatMap(photo, found);
  try {
    found.heat = await found.asked;
  } catch (error) {
    found.asked = null;
    message = `No heat map. ${error.message}`;
  }
  if (photo.shown !== found) return;
  if (!found.heat) photo.shown = null;
  displayHeat(photo, message);
}

function displayHeat(photo, message = "") {
  const { card, shown } = photo, canvas = card.querySelector("canvas"), caption = card.querySelector(".caption");
  for (const found of photo.ranked) found.row.querySelector(".look").setAttribute("aria-pressed", String(found === shown));
  canvas.hidden = !shown?.heat;
  if (shown?.heat) paint(canvas, shown.heat, card.querySelector("img"));
  caption.textContent = shown?.heat ? `Heat map of “${shown.label}”` : message;
  caption.classList.toggle("scaled", !canvas.hidden);
  caption.classList.toggle("busy", shown !== null && canvas.hidden);
  caption.hidden = !caption.textContent;
  canvas.setAttribute("aria-label", caption.textContent);
  if (caption.textContent) $("spoken").textContent = caption.textContent;
}

/* Copying and saving results */

function asJson() {
  const told = (found) => ({ label: found.label, probability: found.probability,
    threshold: cut(found.label, found.threshold), decision: isGiven(found) });
  return JSON.stringify({ model: model?.name, images: photos.filter(isDone).map((photo) => (photo.problem
    ? { image: photo.file.name, error: { status: photo.problem.status, detail: photo.problem.message } }
    : { image: photo.file.name, labels: photo.labels.map(told) })) }, null, 2);
}

function asCsv() {
  const labels = model?.labels ?? [], lines = photos.filter(isDone).map((photo) => [photo.file.name,
    photo.labels.filter(isGiven).map((found) => found.label).join("|"), photo.problem?.message ?? "",
    ...labels.map((label) => photo.labels.find((found) => found.label === label)?.probability ?? "")]);
  return csv([["image", "labels", "error", ...labels], ...lines]);
}

const FORMS = { json: [asJson, "application/json"], csv: [asCsv, "text/csv"] };

async function copy(form) {
  const text = FORMS[form][0]();
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Pages that come from another machine without HTTPS cannot use the clipboard API, but they can copy a selection.
    const area = element("textarea", text), focused = document.activeElement;
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    focused.focus();
    if (!copied) return `This browser does not allow copying. Save the ${form.toUpperCase()} file instead.`;
  }
  return `Copied ${counted(photos.filter(isDone).length, "photo")} as ${form.toUpperCase()}`;
}

function save(form) {
  const [text, type] = FORMS[form], link = element("a");
  link.href = URL.createObjectURL(new Blob([text()], { type }));
  link.download = `labels.${form}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/* User actions */

for (const [button, input] of [["choose", "files"], ["shoot", "camera"]]) {
  $(button).addEventListener("click", () => $(input).click());
  $(input).addEventListener("change", () => {
    add($(input).files);
    $(input).value = "";
  });
}
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) add(event.clipboardData.files);
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) $("drop").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  add(event.dataTransfer.files);
  if (!event.dataTransfer.files.length) $("status").textContent = "That is not a file. Save the photo first, then drop it here.";
});
$("shift").addEventListener("input", () => {
  shift = $("shift").valueAsNumber;
  decideAll();
});
$("reset").addEventListener("click", resetThresholds);
$("clear").addEventListener("click", () => {
  photos.forEach(forget);
  photos = [];
  count();
  $("choose").focus();
});
for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => { $("status").textContent = await copy(button.dataset.copy); });
}
for (const button of document.querySelectorAll("[data-save]")) button.addEventListener("click", () => save(button.dataset.save));
$("models").addEventListener("change", () => {
  load();
  photos.forEach(tag);
});
$("ask").querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", $("key").value);
  $("ask").close("given");
});
$("without").addEventListener("click", () => $("ask").close());

load();
