"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const get = (id) => document.getElementById(id);
const colour = Object.fromEntries(data.classes.map((each) => [each.name, each.colour]));
const hidden = new Set();
const labels = new Map(); // index of a chip -> what the analyst says it is
let shown = [];
let current = 0;

function make(tag, facts = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(facts)) element[key] = value;
  element.append(...children);
  return element;
}

function dot(name) {
  const mark = make("span", { className: "dot" });
  mark.style.background = colour[name] || "#888";
  return mark;
}

const percent = (value) => `${(100 * value).toFixed(1)} %`;

function fits(chip) {
  const low = get("low").value / 100, high = get("high").value / 100;
  return !hidden.has(chip.class) && chip.probability >= low && chip.probability <= high
    && (!get("strange").checked || chip.ood);
}

function listClasses() {
  for (const { name } of data.classes) {
    const count = data.chips.filter((chip) => chip.class === name).length;
    const box = make("input", { type: "checkbox", checked: true });
    box.addEventListener("change", () => { box.checked ? hidden.delete(name) : hidden.add(name); show(); });
    get("classes").append(make("label", {}, box, dot(name), `${name} ${count}`));
    get("known").append(make("option", { value: name }));
  }
}

function card(index) {
  const chip = data.chips[index];
  const label = labels.get(index);
  const name = make("span", { title: label || chip.class }, dot(label || chip.class), label || chip.class);
  const sure = make("span", { className: "sure" }, percent(chip.probability) + (chip.ood ? ", strange" : ""));
  const picture = make("img", { src: chip.thumb, alt: chip.chip, loading: "lazy" });
  const button = make("button", { type: "button", className: "card" + (label ? " labelled" : "") }, picture, name, sure);
  button.addEventListener("click", () => open(index));
  return button;
}

function svg(tag, facts, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(facts)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function scenes() {
  return data.scenes.map((scene) => {
    const size = Math.max(scene.width, scene.height);
    const dots = shown.filter((index) => data.chips[index].scene === scene.name).map((index) => {
      const chip = data.chips[index];
      const facts = { cx: chip.col, cy: chip.row, r: size / 110, fill: colour[labels.get(index) || chip.class] || "#888" };
      const mark = svg("circle", facts, svg("title", {}, `${chip.chip}: ${chip.class}, ${percent(chip.probability)}`));
      mark.addEventListener("click", () => open(index));
      return mark;
    });
    const picture = svg("image", { href: scene.picture, width: scene.width, height: scene.height });
    const frame = svg("svg", { viewBox: `0 0 ${scene.width} ${scene.height}`, role: "img" }, picture, ...dots);
    return make("figure", {}, frame, make("figcaption", {}, `${scene.name}: ${dots.length} shown`));
  });
}

function show() {
  shown = data.chips.map((_, index) => index).filter((index) => fits(data.chips[index]));
  get("chips").replaceChildren(...shown.map(card));
  get("map").replaceChildren(...scenes());
  get("done").textContent = labels.size ? `${labels.size} labelled ` : "none yet ";
  get("save").disabled = !labels.size;
}

function open(index) {
  current = index;
  const chip = data.chips[index];
  get("picture").src = chip.thumb;
  get("name").textContent = chip.chip;
  get("label").value = labels.get(index) || chip.class;
  const ranked = chip.all.map((value, place) => [data.classes[place].name, value]).sort((a, b) => b[1] - a[1]);
  get("bars").replaceChildren(...ranked.slice(0, 8).map(([name, value]) => make("tr", {},
    make("td", {}, dot(name), name), make("td", {}, make("meter", { value })), make("td", {}, percent(value)))));
  const facts = { set: chip.set, "unlike the training chips": chip.ood ? "yes" : undefined, scene: chip.scene,
    "row, column": chip.row === undefined ? undefined : `${chip.row}, ${chip.col}`,
    "longitude, latitude": chip.lon === undefined ? undefined : `${chip.lon}, ${chip.lat}`,
    length: chip.length_m === undefined ? undefined : `${chip.length_m} m, from ${chip.length_from}`, file: chip.path };
  const told = Object.entries(facts).filter(([, value]) => value !== undefined && value !== null);
  get("facts").replaceChildren(...told.flatMap(([key, value]) => [make("dt", {}, key), make("dd", {}, String(value))]));
  if (!get("detail").open) get("detail").showModal();
}

function keep(index, label) {
  const name = label.trim();
  if (name) labels.set(index, name); else labels.delete(index);
}

function step(by) {
  const place = shown.indexOf(current) + by;
  if (place >= 0 && place < shown.length) open(shown[place]);
}

const quoted = (value) => `"${String(value).replaceAll('"', '""')}"`;

function table() {
  const rows = [...labels].sort((a, b) => a[0] - b[0]).map(([index, label]) => {
    const chip = data.chips[index];
    return [chip.path, label, chip.class, chip.probability].map(quoted).join(",");
  });
  return ["path,class,predicted,probability", ...rows, ""].join("\r\n");
}

function save() {
  const link = make("a", { download: "corrected.csv" });
  link.href = URL.createObjectURL(new Blob([table()], { type: "text/csv" }));
  link.click();
  URL.revokeObjectURL(link.href);
}

for (const id of ["low", "high", "strange"]) get(id).addEventListener("input", show);
get("confirm").addEventListener("click", () => {
  for (const index of shown) if (!labels.has(index)) labels.set(index, data.chips[index].class);
  show();
});
get("save").addEventListener("click", save);
get("label").addEventListener("change", () => { keep(current, get("label").value); show(); });
get("next").addEventListener("click", () => { keep(current, get("label").value); show(); step(1); });
get("previous").addEventListener("click", () => step(-1));
get("saving").hidden = get("labelling").hidden = !data.kept;
get("strange-only").hidden = !data.chips.some((chip) => "ood" in chip);
listClasses();
show();
