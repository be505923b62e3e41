"use strict";
// Lets a forest and its table be asked: which row is this, in what order, which rows. It moves and hides what the page
// shows already and says sentences that are written in it; it computes no number.

const SVG = "http://www.w3.org/2000/svg";
const SINGLE = ["study", "effect"], MOVABLE = [...SINGLE, "cluster"], OF_ALL = ["subgroup", "fitted", "summary", "prediction"];

function made(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function drawn(parent, tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return parent.appendChild(element);
}

// Rows without a value come last in either direction.
function compare(a, b, column, sign) {
  const [x, y] = [a.sort[column], b.sort[column]];
  const gone = (value) => value === null || value === "";
  if (gone(x) || gone(y)) return gone(x) - gone(y);
  return sign * (typeof x === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true }));
}

class Picture {
  constructor(svg, data) {
    this.svg = svg; this.data = data; this.rows = data.rows;
    this.rows.forEach((row, i) => Object.assign(row, { top: data.tops[i], height: data.heights[i], now: data.tops[i] }));
    this.own = drawn(svg, "g", {});
    this.mark = drawn(svg, "rect", { x: 0, width: svg.viewBox.baseVal.width, height: 0, class: "here" });
  }

  // What is drawn in the band of a row belongs to it, however the plot has grouped it: a line of text, which has a
  // place of its own, or a mark.
  divide() {
    if (this.parts) return;
    const { data, rows, svg } = this;
    const sheet = svg.getBoundingClientRect(), unit = svg.viewBox.baseVal.width / sheet.width;
    this.parts = rows.map(() => []); this.foot = []; this.line = [];
    for (const one of svg.querySelectorAll("path, use, g[transform]")) {
      if (one.parentNode.closest("defs, clipPath, g[transform]") || this.own.contains(one)) continue;
      const box = one.getBoundingClientRect();
      const x = (box.left - sheet.left) * unit, width = box.width * unit, height = box.height * unit;
      const middle = (box.top - sheet.top) * unit + height / 2;
      const i = rows.findIndex((row) => row.top <= middle && middle < row.top + row.height && height < 2 * row.height);
      const part = { element: one, x, moved: one.getAttribute("transform") || "" };
      if (i >= 0) this.parts[i].push(part);
      else if (middle > data.foot) this.foot.push(part);
      else if (data.pooled !== null && width < 2 && Math.abs(x + width / 2 - data.pooled) < 1 && one.getAttribute("stroke-dasharray")) this.line.push(part);
    }
  }

  // Groups keep their place; a study with several effects moves with them.
  arrange(sign, column) {
    this.divide();
    const sections = [];
    let open = null;
    for (const row of this.rows) {
      if (!MOVABLE.includes(row.kind)) { open = null; continue; }
      if (!open) sections.push(open = []);
      if (row.kind === "effect" && open.length) open.at(-1).push(row); else open.push([row]);
    }
    for (const blocks of sections) {
      let top = blocks[0][0].top;
      if (sign) {
        const by = (a, b) => compare(a, b, column, sign);
        const first = (block) => block.find((row) => row.sort) || block[0];
        for (const block of blocks) block.sort((a, b) => (a.sort ? 1 : 0) - (b.sort ? 1 : 0) || (a.sort ? by(a, b) : 0));
        blocks.sort((a, b) => (first(a).sort && first(b).sort ? by(first(a), first(b)) : 0));
      }
      for (const row of blocks.flat()) { row.now = top; top += row.height; }
    }
    this.rows.forEach((row, i) => {
      for (const part of this.parts[i]) part.element.setAttribute("transform", `translate(0 ${row.now - row.top}) ${part.moved}`);
    });
  }

  // Without a selection everything is as it was drawn; with one, no mean of other rows is left.
  select(shown, set, label) {
    this.divide();
    const all = shown === null;
    let kept = false;
    this.rows.map((row, i) => [row, this.parts[i]]).reverse().forEach(([row, parts]) => {
      if (row.sort) kept = (row.kind === "effect" && kept) || (!all && shown.has(row));
      const off = !all && row.sort && !shown.has(row);
      for (const { element, x } of parts) {
        element.classList.toggle("off", Boolean(off || (!all && row.kind === "cluster" && !kept)));
        element.classList.toggle("gone", !all && (OF_ALL.includes(row.kind) || (row.kind === "cluster" && x > this.data.panel[0] - 2)));
      }
      if (row.kind !== "effect") kept = false;
    });
    for (const { element } of this.foot) element.classList.toggle("off", !all);
    for (const { element } of this.line) element.classList.toggle("gone", !all);
    this.own.replaceChildren();
    if (!all) this.pooled(set, label);
  }

  pooled(set, name) {
    const at = (kind) => this.rows.find((row) => row.kind === kind);
    const mean = at("summary"), interval = at("prediction");
    if (!mean) return;
    const { label, panel, interval: right, size } = this.data;
    const words = (row, x, anchor, text, room) => {
      const y = row.top + row.height / 2 + 0.36 * size;
      const one = drawn(this.own, "text", { x, y, "text-anchor": anchor, "font-size": size, class: "own-text" });
      one.textContent = text;
      if (one.getComputedTextLength() > room) for (const [name, value] of [["textLength", room], ["lengthAdjust", "spacingAndGlyphs"]]) one.setAttribute(name, value);
    };
    const shape = (row, d, name) => d && drawn(this.own, "path", { d, class: name, transform: `translate(0 ${row.top + row.height / 2})` });
    const room = panel[0] - label - 4;
    words(mean, label, "start", set && set.text ? name : `${name}: no pooled value`, room);
    if (!set || !set.text) return;
    words(mean, right, "end", set.text, right - panel[1] - 4);
    shape(mean, set.mean, "own");
    if (!interval || !set.interval) return;
    words(interval, label, "start", "Prediction interval", room);
    words(interval, right, "end", set.interval, right - panel[1] - 4);
    shape(interval, set.new, "own-new");
  }

  show(row) {
    this.mark.setAttribute("y", row ? row.now : 0);
    this.mark.setAttribute("height", row ? row.height : 0);
  }

  under(event) {
    const box = this.svg.getBoundingClientRect();
    const y = (event.clientY - box.top) / box.height * this.svg.viewBox.baseVal.height;
    return this.rows.find((row) => row.kind !== "blank" && row.now <= y && y < row.now + row.height);
  }
}

function twin(root) {
  const data = JSON.parse(root.querySelector("script").textContent);
  const picture = new Picture(root.querySelector("svg"), data);
  const table = root.querySelector("table"), body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  const rows = data.rows.filter((row) => row.sort);
  const said = made("p", { class: "said", role: "status" }), chosen = made("p", { class: "chosen", role: "status" });
  const sorted = made("p", { class: "heard", role: "status" });
  const tools = made("div", { class: "tools" });
  let current = null;

  function show(row, speak = true) {
    if (current && current.line) current.line.classList.remove("here");
    current = row;
    picture.show(row);
    if (row && row.line) row.line.classList.add("here");
    said.textContent = row && speak ? row.said : "";
  }

  // One stop for the tab key; the arrows go on from there.
  function stop(row) { for (const one of rows) one.button.tabIndex = one === row ? 0 : -1; }
  const lines = () => [...body.rows].filter((line) => !line.hidden).map((line) => rows.find((row) => row.line === line));

  rows.forEach((row, i) => {
    row.line = body.rows[i];
    const cell = row.line.cells[0];
    row.button = made("button", { type: "button" }, ...cell.childNodes);
    cell.append(row.button);
    row.button.addEventListener("focus", () => { stop(row); show(row); });
    row.line.addEventListener("pointerenter", () => show(row));
    row.line.addEventListener("click", () => row.button.focus());
  });
  if (rows.length) stop(rows[0]);

  body.addEventListener("keydown", (event) => {
    const there = lines(), at = there.findIndex((row) => row.button === event.target);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: there.length - 1 }[event.key];
    if (at < 0 || to === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    if (there[to]) there[to].button.focus();
  });
  root.addEventListener("keydown", (event) => { if (event.key === "Escape") show(null); });
  picture.svg.addEventListener("pointermove", (event) => show(picture.under(event) || null));
  picture.svg.addEventListener("pointerdown", (event) => show(picture.under(event) || null));
  picture.svg.addEventListener("pointerleave", () => show(null));

  function order(column, sign) {
    heads.forEach((head, i) => head.setAttribute("aria-sort", !sign || i !== column ? "none" : sign > 0 ? "ascending" : "descending"));
    const now = sign ? [...rows].sort((a, b) => compare(a, b, column, sign)) : rows;
    body.append(...now.map((row) => row.line));
    picture.arrange(sign, column);
    picture.show(current);
  }
  heads.forEach((head, i) => {
    const button = made("button", { type: "button" }, ...head.childNodes);
    if (data.columns[i].about !== data.columns[i].title) button.setAttribute("aria-label", data.columns[i].about);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      order(i, sign);
      sorted.textContent = `Sorted by ${data.columns[i].about}, ${sign > 0 ? "ascending" : "descending"}.`;
    });
  });

  const key = (positions) => [...positions].sort((a, b) => a - b).join();
  const sets = new Map(data.sets.map((set) => [key(set.rows), set]));
  const choices = data.filters.map((filter) => {
    const select = made("select", {}, made("option", { value: "" }, "all"), ...filter.levels.map((level) => made("option", { value: level }, level)));
    select.addEventListener("change", choose);
    tools.append(made("label", {}, filter.title, select));
    return select;
  });

  function choose() {
    const asked = data.filters.map((filter, j) => [filter, choices[j].value]).filter(([, level]) => level);
    const there = rows.filter((row) => asked.every(([filter, level]) => filter.cells[row.position] === level));
    const words = asked.map(([filter, level]) => `${filter.title}: ${level}`).join("; ");
    for (const row of rows) row.line.hidden = !there.includes(row);
    if (there.length && !there.some((row) => row.button.tabIndex === 0)) stop(there[0]);
    if (current && current.line && current.line.hidden) show(null);
    // Looked up by its rows: a mean is shown of the very rows it was computed of.
    const set = sets.get(key(there.map((row) => row.position)));
    const what = !asked.length ? `All ${rows.length} rows. ${data.whole}` : !there.length ? "No row has all of this." : set ? set.said : `${there.length} row${there.length === 1 ? "" : "s"}: ${data.otherwise}`;
    chosen.textContent = asked.length ? `${words}. ${what} ${data.kept}`.trim() : what;
    picture.select(asked.length ? new Set(there) : null, set, `${words} (k = ${there.length})`);
  }

  const again = made("button", { type: "button" }, "All rows, in their first order");
  again.addEventListener("click", () => {
    for (const select of choices) select.value = "";
    order(0, 0);
    choose();
  });
  tools.append(again);
  table.closest(".scroll").before(tools, chosen, sorted);
  root.append(said);
}

for (const root of document.querySelectorAll("[data-twin]")) twin(root);
