"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const get = (id) => document.getElementById(id);
const colour = Object.fromEntries(data.classes.map((each) => [each.name, each.colour]));
const hidden = new Set(); // classes
const labels = new Map(recall()); // index of a chip -> what the analyst says it is
const RANKED = 8; // classes that are offered for a chip, one a key
let shown = [];
let current = 0;

function make(tag, facts = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(facts)) element[key] = value;
  element.append(...children);
  return element;
}

function svg(tag, facts, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(facts)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function dot(name) {
  const mark = make("span", { className: "dot" });
  mark.style.background = colour[name] || "#888";
  return mark;
}

const percent = (value) => `${(100 * value).toFixed(1)} %`;
const meant = (index) => labels.get(index) || data.chips[index].class;

/* What is shown */

const orders = {
  unsure: (a, b) => a - b, // as the page holds them
  sure: (a, b) => b - a,
  class: (a, b) => meant(a).localeCompare(meant(b)) || a - b,
};

function fits(chip, index) {
  const low = get("low").value / 100, high = get("high").value / 100, wanted = get("which").value;
  return !hidden.has(chip.class) && chip.probability >= low && chip.probability <= high
    && (!get("strange").checked || chip.ood) && (wanted === "all" || labels.has(index) === (wanted === "labelled"));
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

function setClasses(checked) {
  for (const { name } of data.classes) checked ? hidden.delete(name) : hidden.add(name);
  for (const box of get("classes").querySelectorAll("input")) box.checked = checked;
  show();
}

function card(index) {
  const chip = data.chips[index], label = labels.get(index);
  const name = make("span", { className: "name", title: meant(index) }, dot(meant(index)), meant(index));
  const sure = make("span", { className: "sure" }, label ? (label === chip.class ? "confirmed" : `was ${chip.class}`) : percent(chip.probability));
  const picture = make("img", { src: chip.thumb, alt: "", loading: "lazy" });
  const button = make("button", { type: "button", className: "card" + (label ? " labelled" : "") }, picture, name, sure);
  if (chip.ood) button.append(make("span", { className: "flag", title: "unlike the training chips" }, "strange"));
  button.dataset.index = index;
  button.setAttribute("aria-label", `${chip.chip}: ${meant(index)}, ${sure.textContent}${chip.ood ? ", unlike the training chips" : ""}`);
  button.addEventListener("click", () => open(index));
  for (const event of ["mouseenter", "focus"]) button.addEventListener(event, () => point(index));
  return button;
}

function scenes() {
  return data.scenes.map((scene) => {
    const size = Math.max(scene.width, scene.height);
    const dots = shown.filter((index) => data.chips[index].scene === scene.name).map((index) => {
      const chip = data.chips[index];
      const facts = { cx: chip.col, cy: chip.row, r: size / 110, fill: colour[meant(index)] || "#888", "data-index": index };
      const mark = svg("circle", facts, svg("title", {}, `${chip.chip}: ${meant(index)}, ${percent(chip.probability)}`));
      mark.addEventListener("click", () => open(index));
      return mark;
    });
    const picture = svg("image", { href: scene.picture, width: scene.width, height: scene.height });
    const facts = { viewBox: `0 0 ${scene.width} ${scene.height}`, role: "img", "aria-label": `${scene.name} with its chips` };
    return make("figure", {}, svg("svg", facts, picture, ...dots), make("figcaption", {}, `${scene.name}: ${dots.length} shown`));
  });
}

function point(index) {
  for (const mark of get("map").querySelectorAll("circle")) mark.classList.toggle("chosen", mark.dataset.index === String(index));
}

function show() {
  const order = orders[get("order").value];
  shown = data.chips.map((_, index) => index).filter((index) => fits(data.chips[index], index)).sort(order);
  get("chips").replaceChildren(...shown.map(card));
  get("map").replaceChildren(...scenes());
  get("count").textContent = shown.length ? `${shown.length} of ${data.chips.length} chips` : "No chip fits. Widen the filters.";
  get("done").textContent = labels.size ? `${labels.size} of ${data.chips.length} labelled` : "none yet";
  get("save").disabled = !labels.size;
  get("confirm").disabled = !shown.some((index) => !labels.has(index));
}

/* A chip */

function choice(name, value, number) {
  const bar = make("span", { className: "bar" });
  bar.style.width = `${100 * value}%`;
  bar.style.background = colour[name];
  const chosen = labels.get(current) === name;
  const button = make("button", { type: "button", className: "choice" }, make("kbd", {}, String(number)), dot(name),
    make("span", { className: "name" }, name), make("span", { className: "track" }, bar), make("span", { className: "sure" }, percent(value)));
  button.setAttribute("aria-pressed", chosen);
  button.disabled = !data.kept;
  button.addEventListener("click", () => say(name));
  return button;
}

function open(index) {
  current = index;
  const chip = data.chips[index], label = labels.get(index);
  get("picture").src = chip.thumb;
  get("name").textContent = chip.chip;
  get("choices").replaceChildren(...ranked(chip).map(([name, value], place) => choice(name, value, place + 1)));
  get("label").value = label && !ranked(chip).some(([name]) => name === label) ? label : "";
  get("state").textContent = label ? (label === chip.class ? `Confirmed: ${label}` : `Corrected: ${label}`) : "No label yet";
  get("clear").disabled = !label;
  const facts = { "may be": chip.set, "unlike the training chips": chip.ood ? "yes" : undefined, scene: chip.scene,
    "row, column": chip.row === undefined ? undefined : `${chip.row.toFixed(1)}, ${chip.col.toFixed(1)}`,
    "longitude, latitude": chip.lon === undefined ? undefined : `${chip.lon.toFixed(5)}, ${chip.lat.toFixed(5)}`,
    length: chip.length_m === undefined ? undefined : `${Math.round(chip.length_m)} m, from ${chip.length_from}`, file: chip.path };
  const told = Object.entries(facts).filter(([, value]) => value !== undefined && value !== null);
  get("facts").replaceChildren(...told.flatMap(([key, value]) => [make("dt", {}, key), make("dd", {}, String(value))]));
  const place = shown.indexOf(index);
  get("place").textContent = place < 0 ? "" : `${place + 1} of ${shown.length}`;
  get("previous").disabled = place <= 0;
  get("next").disabled = place < 0 || place + 1 >= shown.length;
  if (!get("detail").open) get("detail").showModal();
  point(index);
}

const ranked = (chip) => chip.all.map((value, place) => [data.classes[place].name, value]).sort((a, b) => b[1] - a[1]).slice(0, RANKED);

function say(label) { // and go on to the next chip, as the list stood before
  const list = shown, place = list.indexOf(current), name = label.trim();
  if (!data.kept || !name) return;
  labels.set(current, name);
  keep();
  show();
  const next = list[place + 1];
  if (place >= 0 && next !== undefined && shown.includes(next)) open(next); else open(current);
}

function step(by) {
  const place = shown.indexOf(current) + by;
  if (place >= 0 && place < shown.length) open(shown[place]);
}

get("detail").addEventListener("keydown", (event) => {
  const typing = event.target === get("label");
  const chip = data.chips[current];
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === "Enter" && typing) say(get("label").value);
  else if (event.key === "Enter" && event.target.tagName !== "BUTTON") say(meant(current));
  else if (typing) return;
  else if (event.key === "ArrowRight") step(1);
  else if (event.key === "ArrowLeft") step(-1);
  else if (/^[1-9]$/.test(event.key) && ranked(chip)[event.key - 1]) say(ranked(chip)[event.key - 1][0]);
  else return;
  event.preventDefault();
});
get("detail").addEventListener("close", () => {
  const found = get("chips").querySelector(`[data-index="${current}"]`);
  (found || get("chips").querySelector(".card") || get("order")).focus();
});

/* Labels: kept in this browser until they are saved */

function recall() {
  try { return JSON.parse(localStorage.getItem(data.key)) || []; } catch { return []; }
}

function keep() {
  try { localStorage.setItem(data.key, JSON.stringify([...labels])); } catch { /* a browser that keeps nothing */ }
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

for (const id of ["low", "high", "strange", "order", "which"]) get(id).addEventListener("input", show);
get("every").addEventListener("click", () => setClasses(true));
get("none").addEventListener("click", () => setClasses(false));
get("confirm").addEventListener("click", () => {
  for (const index of shown) if (!labels.has(index)) labels.set(index, data.chips[index].class);
  keep();
  show();
});
get("save").addEventListener("click", save);
get("other").addEventListener("click", () => say(get("label").value));
get("clear").addEventListener("click", () => { labels.delete(current); keep(); show(); open(current); });
get("next").addEventListener("click", () => step(1));
get("previous").addEventListener("click", () => step(-1));
for (const id of ["saving", "labelling", "which-label"]) get(id).hidden = !data.kept;
get("strange-only").hidden = !data.chips.some((chip) => "ood" in chip);
get("most").textContent = Math.min(RANKED, data.classes.length);
listClasses();
show();
