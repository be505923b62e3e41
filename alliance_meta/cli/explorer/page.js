"use strict";

const at = (id) => document.getElementById(id);
let models = {}, own = "", asking = 0, waiting = 0;

async function ask(path, given) {
  const reply = await fetch(path, {
    method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(given),
  });
  const found = await reply.json();
  if (found.problem) throw new Error(found.problem);
  return found;
}

function option(value, text) {
  const made = document.createElement("option");
  made.value = value;
  made.textContent = text;
  return made;
}

function fill(id, pairs) {
  const before = at(id).value;
  at(id).replaceChildren(...pairs.map(([value, text]) => option(value, text)));
  if (pairs.some(([value]) => value === before)) at(id).value = before;
}

function items(id, texts) {
  at(id).replaceChildren(...texts.map((text) => {
    const made = document.createElement("li");
    made.textContent = text;
    return made;
  }));
}

function busy(is) {
  at("estimate").dataset.busy = is;
}

function problem(text) {
  at("problem").hidden = !text;
  at("problem").textContent = text;
  if (text) {
    at("now").textContent = "No estimate";
    for (const id of ["counted", "every", "forest", "funnel", "summary", "sentence", "notes"]) at(id).replaceChildren();
  }
}

function settings() {
  const model = models[at("model").value || own];
  at("method-row").hidden = !model.methods.length;
  at("test-row").hidden = !model.tests.length;
  at("rho-row").hidden = model.rho === null;
  fill("method", model.methods.map((name) => [name, name]));
  fill("test", model.tests.map((name) => [name, name]));
  if (model.rho !== null && at("rho").value === "") at("rho").value = model.rho;
}

function row(one, place) {
  const label = document.createElement("label"), box = document.createElement("input");
  const name = document.createElement("span"), effect = document.createElement("b");
  Object.assign(box, {type: "checkbox", checked: true, value: place});
  name.textContent = one.label;
  effect.textContent = one.effect;
  label.append(box, name, effect);
  return label;
}

const boxes = () => [...at("rows").querySelectorAll("input")];

function chosen() {
  const model = models[at("model").value || own];
  const given = {
    source: at("source").value, model: at("model").value, moderator: at("moderator").value,
    left_out: boxes().filter((box) => !box.checked).map((box) => Number(box.value)),
  };
  if (model.methods.length) given.method = at("method").value;
  if (model.tests.length) given.test = at("test").value;
  if (model.rho !== null && at("rho").value !== "") given.rho = Number(at("rho").value);
  return given;
}

function picture(id, drawn) {
  if (!drawn.svg) {
    at(id).textContent = drawn.alt;
    return;
  }
  const image = new Image();
  image.alt = drawn.alt;
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(drawn.svg)}`;
  at(id).replaceChildren(image);
}

function tried(found) {
  const made = document.createElement("li"), more = document.createElement("span");
  more.textContent = ` ${at("source").selectedOptions[0].text.split(":")[0]}; ${found.counted}. ${found.model}`;
  for (const id of ["method", "test", "moderator"]) {
    if (!at(id).parentElement.hidden && at(id).value) more.textContent += `; ${at(id).value}`;
  }
  made.append(found.estimate, ".", more);
  if (at("trail").firstElementChild?.textContent !== made.textContent) at("trail").prepend(made);
  while (at("trail").children.length > 10) at("trail").lastElementChild.remove();
}

async function working(work) {
  const mine = ++asking;
  busy(true);
  try {
    const found = await work();
    if (mine !== asking) return;
    problem("");
    found();
  } catch (error) {
    if (mine === asking) problem(error instanceof TypeError ? "The explorer does not answer: its terminal may say why; start it again." : error.message);
  } finally {
    if (mine === asking) busy(false);
  }
}

function answer() {
  clearTimeout(waiting);
  busy(true);
  waiting = setTimeout(() => working(async () => {
    const found = await ask("answer", chosen());
    return () => {
      at("now").textContent = found.estimate;
      at("counted").textContent = found.counted;
      at("every").textContent = found.every;
      at("sentence").textContent = found.model;
      at("summary").innerHTML = found.summary;
      items("notes", found.notes);
      picture("forest", found.forest);
      picture("funnel", found.funnel);
      tried(found);
    };
  }), 200);
}

function sheet() {
  at("rows").replaceChildren(at("rows").querySelector("legend"));
  fill("moderator", [["", "none"]]);
  items("cautions", []);
  at("heading").textContent = "";
  working(async () => {
    const found = await ask("sheet", {source: at("source").value});
    return () => {
      own = found.model;
      at("rows").append(...found.rows.map(row));
      fill("moderator", [["", "none"], ...found.moderators.map((name) => [name, name])]);
      at("heading").textContent = found.heading;
      items("cautions", found.notes);
      fill("model", [["", `by the data: ${models[own].title}`],
        ...Object.entries(models).map(([name, model]) => [name, model.title])]);
      at("rho").value = "";
      settings();
      answer();
    };
  });
}

function tick(all) {
  for (const box of boxes()) box.checked = all;
  answer();
}

document.addEventListener("DOMContentLoaded", () => working(async () => {
  const found = await ask("choices", {});
  return () => {
    models = found.models;
    own = "random";
    fill("source", found.sources.map((one) => [one.name, one.title]));
    at("source").addEventListener("change", sheet);
    at("model").addEventListener("change", () => { at("rho").value = ""; settings(); answer(); });
    for (const id of ["method", "test", "rho", "moderator", "rows"]) at(id).addEventListener("change", answer);
    at("all").addEventListener("click", () => tick(true));
    at("none").addEventListener("click", () => tick(false));
    at("choices").addEventListener("submit", (event) => event.preventDefault());
    sheet();
  };
}));
