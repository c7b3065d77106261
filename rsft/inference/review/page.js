"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const get = (id) => document.getElementById(id);
const colors = Object.fromEntries(data.classes.map(({ name, color }) => [name, color]));
const hiddenClasses = new Set();
const labels = new Map(loadLabels()); // index of a chip -> class that the analyst chose
const MAX_CHOICES = 8; // largest number of classes in the dialog; each has a number key
let shown = []; // indices of the chips that pass the filters, in the selected order
let current = 0; // index of the chip in the dialog

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) element[key] = value;
  element.append(...children);
  return element;
}

function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function dot(name) {
  const mark = make("span", { className: "dot" });
  mark.style.background = colors[name] || "#888";
  return mark;
}

const percent = (value) => `${(100 * value).toFixed(1)} %`;
const classOf = (index) => labels.get(index) || data.chips[index].class; // the label, or the predicted class without a label

/* Filters, list and map */

const orders = {
  uncertain: (a, b) => a - b, // the page stores chips by rising probability
  certain: (a, b) => b - a,
  class: (a, b) => classOf(a).localeCompare(classOf(b)) || a - b,
};

function passesFilters(chip, index) {
  const low = get("low").value / 100, high = get("high").value / 100, labelFilter = get("which").value;
  return !hiddenClasses.has(chip.class) && chip.probability >= low && chip.probability <= high
    && (!get("ood").checked || chip.ood)
    && (labelFilter === "all" || labels.has(index) === (labelFilter === "labeled"));
}

function listClasses() {
  for (const { name } of data.classes) {
    const count = data.chips.filter((chip) => chip.class === name).length;
    const box = make("input", { type: "checkbox", checked: true });
    box.addEventListener("change", () => { box.checked ? hiddenClasses.delete(name) : hiddenClasses.add(name); show(); });
    get("classes").append(make("label", {}, box, dot(name), `${name} ${count}`));
    get("class-names").append(make("option", { value: name }));
  }
}

function setClasses(checked) {
  for (const { name } of data.classes) checked ? hiddenClasses.delete(name) : hiddenClasses.add(name);
  for (const box of get("classes").querySelectorAll("input")) box.checked = checked;
  show();
}

function card(index) {
  const chip = data.chips[index], label = labels.get(index);
  const name = make("span", { className: "name", title: classOf(index) }, dot(classOf(index)), classOf(index));
  const status = label ? (label === chip.class ? "confirmed" : `was ${chip.class}`) : percent(chip.probability);
  const picture = make("img", { src: chip.thumb, alt: "", loading: "lazy" });
  const button = make("button", { type: "button", className: "card" + (label ? " labeled" : "") }, picture, name,
    make("span", { className: "probability" }, status));
  if (chip.ood) button.append(make("span", { className: "flag", title: "unlike the training chips" }, "unusual"));
  button.dataset.index = index;
  button.setAttribute("aria-label", `${chip.chip}: ${classOf(index)}, ${status}${chip.ood ? ", unlike the training chips" : ""}`);
  button.addEventListener("click", () => open(index));
  for (const event of ["mouseenter", "focus"]) button.addEventListener(event, () => highlight(index));
  return button;
}

function scenes() {
  return data.scenes.map((scene) => {
    const size = Math.max(scene.width, scene.height);
    const dots = shown.filter((index) => data.chips[index].scene === scene.name).map((index) => {
      const chip = data.chips[index];
      const attributes = { cx: chip.col, cy: chip.row, r: size / 110, fill: colors[classOf(index)] || "#888", "data-index": index };
      const title = svg("title", {}, `${chip.chip}: ${classOf(index)}, ${percent(chip.probability)}`);
      const mark = svg("circle", attributes, title);
      mark.addEventListener("click", () => open(index));
      return mark;
    });
    const picture = svg("image", { href: scene.picture, width: scene.width, height: scene.height });
    const attributes = { viewBox: `0 0 ${scene.width} ${scene.height}`, role: "img", "aria-label": `${scene.name} with its chips` };
    return make("figure", {}, svg("svg", attributes, picture, ...dots), make("figcaption", {}, `${scene.name}: ${dots.length} shown`));
  });
}

function highlight(index) {
  for (const mark of get("map").querySelectorAll("circle")) mark.classList.toggle("chosen", mark.dataset.index === String(index));
}

function show() {
  const order = orders[get("order").value];
  shown = data.chips.map((_, index) => index).filter((index) => passesFilters(data.chips[index], index)).sort(order);
  get("chips").replaceChildren(...shown.map(card));
  get("map").replaceChildren(...scenes());
  get("count").textContent = shown.length ? `${shown.length} of ${data.chips.length} chips` : "No chip passes the filters.";
  get("label-count").textContent = labels.size ? `${labels.size} of ${data.chips.length} labeled` : "none yet";
  get("save").disabled = !labels.size;
  get("confirm").disabled = !shown.some((index) => !labels.has(index));
}

/* The dialog of one chip */

function choice(name, value, key) {
  const bar = make("span", { className: "bar" });
  bar.style.width = `${100 * value}%`;
  bar.style.background = colors[name];
  const button = make("button", { type: "button", className: "choice" }, make("kbd", {}, String(key)), dot(name),
    make("span", { className: "name" }, name), make("span", { className: "track" }, bar),
    make("span", { className: "probability" }, percent(value)));
  button.setAttribute("aria-pressed", labels.get(current) === name);
  button.disabled = !data.can_label;
  button.addEventListener("click", () => setLabel(name));
  return button;
}

function properties(chip) {
  const rows = { "class set": chip.set, "unlike the training chips": chip.ood ? "yes" : undefined, scene: chip.scene,
    "row, column": chip.row === undefined ? undefined : `${chip.row.toFixed(1)}, ${chip.col.toFixed(1)}`,
    "longitude, latitude": chip.lon === undefined ? undefined : `${chip.lon.toFixed(5)}, ${chip.lat.toFixed(5)}`,
    length: chip.length_m === undefined ? undefined : `${Math.round(chip.length_m)} m, from ${chip.length_from}`, file: chip.path };
  return [...Object.entries(rows), ...Object.entries(chip.attributes)].filter(([, value]) => value !== undefined && value !== null);
}

function open(index) {
  current = index;
  const chip = data.chips[index], label = labels.get(index), choices = rankedClasses(chip);
  get("picture").src = chip.thumb;
  get("name").textContent = chip.chip;
  get("choices").replaceChildren(...choices.map(([name, value], rank) => choice(name, value, rank + 1)));
  get("label").value = label && !choices.some(([name]) => name === label) ? label : "";
  get("state").textContent = label ? (label === chip.class ? `Confirmed: ${label}` : `Corrected: ${label}`) : "No label yet";
  get("clear").disabled = !label;
  get("properties").replaceChildren(
    ...properties(chip).flatMap(([key, value]) => [make("dt", {}, key), make("dd", {}, String(value))]));
  const position = shown.indexOf(index);
  get("position").textContent = position < 0 ? "" : `${position + 1} of ${shown.length}`;
  get("previous").disabled = position <= 0;
  get("next").disabled = position < 0 || position + 1 >= shown.length;
  if (!get("detail").open) get("detail").showModal();
  highlight(index);
}

const rankedClasses = (chip) => chip.all.map((value, index) => [data.classes[index].name, value]).sort((a, b) => b[1] - a[1]).slice(0, MAX_CHOICES);

function setLabel(label) { // label the current chip, then open the next one of the list
  const list = shown, position = list.indexOf(current), name = label.trim();
  if (!data.can_label || !name) return;
  labels.set(current, name);
  storeLabels();
  show();
  const next = list[position + 1];
  if (position >= 0 && next !== undefined && shown.includes(next)) open(next); else open(current);
}

function step(offset) {
  const position = shown.indexOf(current) + offset;
  if (position >= 0 && position < shown.length) open(shown[position]);
}

get("detail").addEventListener("keydown", (event) => {
  const isTyping = event.target === get("label");
  const chip = data.chips[current];
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === "Enter" && isTyping) setLabel(get("label").value);
  else if (event.key === "Enter" && event.target.tagName !== "BUTTON") setLabel(classOf(current));
  else if (isTyping) return;
  else if (event.key === "ArrowRight") step(1);
  else if (event.key === "ArrowLeft") step(-1);
  else if (/^[1-9]$/.test(event.key) && rankedClasses(chip)[event.key - 1]) setLabel(rankedClasses(chip)[event.key - 1][0]);
  else return;
  event.preventDefault();
});
get("detail").addEventListener("close", () => {
  const button = get("chips").querySelector(`[data-index="${current}"]`);
  (button || get("chips").querySelector(".card") || get("order")).focus();
});

/* The browser stores the labels until they are saved to a file */

function loadLabels() {
  try { return JSON.parse(localStorage.getItem(data.key)) || []; } catch { return []; }
}

function storeLabels() {
  try { localStorage.setItem(data.key, JSON.stringify([...labels])); } catch { /* the browser allows no storage */ }
}

const quoted = (value) => `"${String(value).replaceAll('"', '""')}"`;

function labelsAsCsv() {
  const rows = [...labels].sort((a, b) => a[0] - b[0]).map(([index, label]) => {
    const chip = data.chips[index];
    return [chip.path, label, chip.class, chip.probability].map(quoted).join(",");
  });
  return ["path,class,predicted,probability", ...rows, ""].join("\r\n");
}

function save() {
  const link = make("a", { download: "corrected.csv" });
  link.href = URL.createObjectURL(new Blob([labelsAsCsv()], { type: "text/csv" }));
  link.click();
  URL.revokeObjectURL(link.href);
}

for (const id of ["low", "high", "ood", "order", "which"]) get(id).addEventListener("input", show);
get("all-classes").addEventListener("click", () => setClasses(true));
get("no-class").addEventListener("click", () => setClasses(false));
get("confirm").addEventListener("click", () => {
  for (const index of shown) if (!labels.has(index)) labels.set(index, data.chips[index].class);
  storeLabels();
  show();
});
get("save").addEventListener("click", save);
get("other").addEventListener("click", () => setLabel(get("label").value));
get("clear").addEventListener("click", () => { labels.delete(current); storeLabels(); show(); open(current); });
get("next").addEventListener("click", () => step(1));
get("previous").addEventListener("click", () => step(-1));
for (const id of ["saving", "labeling", "which-label"]) get(id).hidden = !data.can_label;
get("ood-only").hidden = !data.chips.some((chip) => "ood" in chip);
get("last-key").textContent = Math.min(MAX_CHOICES, data.classes.length);
listClasses();
show();
