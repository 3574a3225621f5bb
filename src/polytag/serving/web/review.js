// The review page. The page only stores which suspect is shown; all other state is on the server.
"use strict";

const KEYS = { a: "accept", enter: "accept", k: "keep", u: "unknown", p: "present", x: "absent", n: "next",
  arrowright: "next", b: "back", arrowleft: "back", z: "undo" };
const TAKEN = { drop: "left out", present: "set to present", absent: "set to absent", unknown: "set to unknown",
  keep: "kept", merge: "merged" };
const DECIDING = ["accept", "keep", "unknown", "present", "absent"];

const $ = (id) => document.getElementById(id);
const button = (action) => document.querySelector(`[data-action="${action}"]`);

let shown = null;     // the suspect on the page; null on the last page
let total = 0;
let latest = null;    // index of the suspect decided last, to which undo returns
let busy = true;

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

async function ask(path, body) {
  let answer;
  try {
    answer = await fetch(path, body && {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  } catch {
    throw new Error("The server does not respond. Is polytag review still running?");
  }
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(content.detail || `The server answered with status ${answer.status}.`);
  return content;
}

// Only one action runs at a time. Otherwise, a quick second key press would decide about a photo not yet shown.
async function alone(work) {
  if (busy) return;
  busy = true;
  $("problem").textContent = "";
  try {
    await work();
  } catch (error) {
    $("problem").textContent = error.message;
    $("problem").scrollIntoView({ block: "nearest" });
  } finally {
    busy = false;
  }
}

function figure(photo, asked) {
  const made = element("figure"), frame = element("div", undefined, "frame"), image = element("img");
  image.alt = `Photo ${photo.name}`;
  image.addEventListener("error", async () => {
    const reason = await ask(photo.url).then(() => "It cannot be decoded.", (error) => error.message);
    const message = element("p", reason);
    message.prepend(element("b", "This photo cannot be shown"));
    frame.replaceChildren(message);
  });
  image.src = photo.url;
  frame.append(image);
  const caption = element("figcaption"), labels = element("ul", undefined, "labels");
  const chip = (label, state) => {
    const item = element("li", undefined, state);
    item.append(element("span", label));
    if (state !== "present") item.append(" ", element("small", state));
    if (label === asked) item.classList.add("asked");
    labels.append(item);
  };
  for (const state of ["absent", "present", "unknown"]) {
    // The label in question comes first, so that it is visible even if the photo has many labels.
    const first = [...photo[state]].sort((x, y) => (y === asked) - (x === asked));
    for (const label of first) chip(label, state);
  }
  caption.append(labels.children.length ? labels : element("div", "no labels", "name"), element("div", photo.name, "name"));
  made.append(frame, caption);
  return made;
}

function header(summary, where) {
  total = summary.count;
  $("progress").textContent = `${where}${summary.decided} decided`;
  $("done").style.width = `${total ? (100 * summary.decided) / total : 100}%`;
}

function stage(withPhotos) {
  $("photos").hidden = !withPhotos;
  document.querySelector("main").classList.toggle("alone", !withPhotos);
}

function display(suspect) {
  shown = suspect;
  header(suspect, `${suspect.index + 1} of ${suspect.count}, `);
  document.title = `${suspect.index + 1} of ${suspect.count} · polytag review`;
  stage(suspect.photos.length > 0);
  $("photos").replaceChildren(...suspect.photos.map((photo) => figure(photo, suspect.label)));
  $("issue").textContent = suspect.issue;
  $("question").textContent = suspect.question;
  $("why").textContent = suspect.why;
  $("end").hidden = true;
  $("keys").hidden = false;
  $("probability").hidden = suspect.probability === null;
  if (suspect.probability !== null) {
    $("asked").textContent = suspect.label ? `“${suspect.label}”` : suspect.issue;
    $("number").textContent = suspect.probability.toFixed(2);
    $("level").style.width = `${100 * Math.min(1, Math.max(0, suspect.probability))}%`;
  }
  const decision = suspect.decision, reviewed = decision !== null && decision.by === "review";
  $("decision").textContent = decision === null ? "" : `${reviewed ? "You decided" : "The audit decided"}: ${decision.words}`;
  $("decision").classList.toggle("audit", !reviewed);
  for (const action of ["accept", "keep", "unknown"]) button(action).hidden = false;
  $("accept").textContent = suspect.accept ?? "no suggestion";
  button("accept").disabled = suspect.accept === null;
  $("keep").textContent = suspect.keep;
  button("keep").disabled = false;
  for (const action of ["present", "absent"]) button(action).hidden = !suspect.settle;
  button("unknown").disabled = !suspect.unknown;
  button("back").disabled = suspect.index === 0;
  button("next").disabled = false;
  button("undo").disabled = !reviewed && latest === null;
  const words = decision?.words;
  const pressed = !reviewed ? null : words === suspect.accept ? "accept" : DECIDING.includes(decision.action) ? decision.action : null;
  for (const action of DECIDING) button(action).setAttribute("aria-pressed", String(action === pressed));
  $("words").scrollTop = 0;
  // Moving the focus makes screen readers read the new question and prevents Enter from pressing the last button again.
  $("question").focus({ preventScroll: true });
  if (suspect.next !== null) preload(suspect.next);
}

async function preload(index) {
  const suspect = await ask(`/api/suspects/${index}`).catch(() => null);
  for (const photo of suspect?.photos ?? []) new Image().src = photo.url;
}

async function displayEnd() {
  const summary = await ask("/api/review"), open = summary.count - summary.decided;
  shown = null;
  header(summary, "");
  document.title = "polytag review";
  stage(false);
  $("issue").textContent = "";
  $("question").textContent = !summary.count ? "Nothing to review" : open ? `${open} undecided` : "All decided";
  $("why").textContent = summary.count ? "" : "The audit found no suspect photos or labels.";
  $("probability").hidden = true;
  $("decision").textContent = "";
  const list = element("ul");
  for (const [action, n] of Object.entries(summary.taken)) list.append(element("li", `${n} ${TAKEN[action]}`));
  const command = element("code");
  for (const word of summary.command) command.append(element("span", word), " ");
  $("end").replaceChildren(list, element("p", "Your decisions are saved in:"), element("code", summary.file),
    element("p", "To write the cleaned table, run this command:"), command);
  $("end").hidden = !summary.count;
  for (const action of DECIDING) button(action).hidden = true;
  $("keys").hidden = true;
  button("back").disabled = !summary.count;
  button("undo").disabled = latest === null;
  button("next").disabled = !open;
  $("question").focus({ preventScroll: true });
}

const show = async (index) => (index === null || index >= total ? displayEnd() : display(await ask(`/api/suspects/${index}`)));

async function decide(index, action) {
  $("saved").textContent = "Saving …";
  try {
    const summary = await ask("/api/decisions", { index, action });
    $("saved").textContent = action === "undo" ? "Undone" : "Saved";
    return summary;
  } catch (error) {
    $("saved").textContent = "";
    throw new Error(`Not saved. ${error.message}`);
  }
}

async function act(action) {
  if (action === "back") return show(shown ? shown.index - 1 : total - 1);
  if (action === "next") return show(shown ? shown.index + 1 : (await ask("/api/review")).next);
  if (action === "undo") {
    const index = shown?.decision?.by === "review" ? shown.index : latest;
    await decide(index, "undo");
    latest = null;
    return show(index);
  }
  const index = shown.index, summary = await decide(index, action);
  latest = index;
  return show(summary.next);
}

document.addEventListener("keydown", (event) => {
  const action = KEYS[event.key.toLowerCase()];
  if (!action || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Enter" && event.target.closest("button")) return;
  event.preventDefault();
  if (!button(action).disabled && !button(action).hidden) alone(() => act(action));
});
for (const made of document.querySelectorAll("[data-action]")) {
  made.addEventListener("click", () => alone(() => act(made.dataset.action)));
}

busy = false;
alone(async () => {
  const summary = await ask("/api/review");
  total = summary.count;
  await show(summary.next);
});
