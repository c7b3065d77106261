/* Filters, the list of chips, and the panel of one chip */

const MAX_CHOICES = 8; // largest number of classes in the panel; each has a number key
const hiddenClasses = new Set();
let shown = []; // indices of the chips that pass the filters, in the selected order
let current = 0; // index of the chip in the panel

/* Filters and list */

const orders = {
  ranked: (a, b) => a - b, // as the page stores the chips
  uncertain: (a, b) => data.chips[a].probability - data.chips[b].probability || a - b,
  certain: (a, b) => data.chips[b].probability - data.chips[a].probability || b - a,
  class: (a, b) => classOf(a).localeCompare(classOf(b)) || a - b,
};

const labelFilters = {
  all: () => true,
  open: (label) => !label,
  labeled: (label) => Boolean(label),
  corrected: (label, chip) => label?.verdict === "class" && label.class !== chip.class,
  "no-target": (label) => label?.verdict === NOT_A_TARGET,
  unsure: (label) => label?.verdict === UNSURE,
};

function passesFilters(chip, index) {
  const low = get("low").value / 100, high = get("high").value / 100;
  return !hiddenClasses.has(chip.class) && chip.probability >= low && chip.probability <= high
    && (!get("ood").checked || chip.ood) && labelFilters[get("which").value](labels.get(index), chip);
}

function listClasses() {
  for (const id of ["classes", "class-names"]) get(id).replaceChildren();
  for (const { name } of data.classes) {
    const count = data.chips.filter((chip) => chip.class === name).length;
    const box = make("input", { type: "checkbox", checked: !hiddenClasses.has(name) });
    box.addEventListener("change", () => { box.checked ? hiddenClasses.delete(name) : hiddenClasses.add(name); show(); });
    get("classes").append(make("label", {}, box, dot(name), make("span", {}, `${name} ${count}`)));
    get("class-names").append(make("option", { value: name }));
  }
}

function setClasses(checked) {
  for (const { name } of data.classes) checked ? hiddenClasses.delete(name) : hiddenClasses.add(name);
  for (const box of get("classes").querySelectorAll("input")) box.checked = checked;
  show();
}

function card(index) {
  const chip = data.chips[index], isLabeled = labels.has(index);
  const name = make("span", { className: "name", title: classOf(index) }, dot(classOf(index)), classOf(index));
  const status = describeLabel(index) || percent(chip.probability);
  const picture = make("img", { src: chip.thumb, alt: "", loading: "lazy" });
  const button = make("button", { type: "button", className: "card" + (isLabeled ? " labeled" : "") }, picture, name,
    make("span", { className: "probability" }, status));
  if (chip.ood) button.append(make("span", { className: "flag", title: "unlike the training chips" }, "unusual"));
  button.dataset.index = index;
  button.setAttribute("aria-label", `${chip.chip}: ${classOf(index)}, ${status}${chip.ood ? ", unlike the training chips" : ""}`);
  button.addEventListener("click", () => open(index));
  for (const event of ["mouseenter", "focus"]) button.addEventListener(event, () => highlight(index));
  return button;
}

function show() {
  const order = orders[get("order").value];
  shown = data.chips.map((_, index) => index).filter((index) => passesFilters(data.chips[index], index)).sort(order);
  if (!document.body.classList.contains("reviewing")) get("chips").replaceChildren(...shown.map(card)); // the list is hidden then
  sceneMaps.forEach(drawChips);
  get("count").textContent = shown.length ? `${shown.length} of ${data.chips.length} chips` : "No chip passes the filters.";
  get("label-count").textContent = labels.size ? `${labels.size} of ${data.chips.length} labeled` : "none yet";
  get("counts").replaceChildren(...countLabels().map(([name, count]) => make("li", {}, dot(name), `${name} ${count}`)));
  get("save").disabled = !labels.size;
  get("confirm").disabled = !shown.some((index) => !labels.has(index));
  for (const id of ["undo", "undo-here"]) get(id).disabled = !undoSteps.length;
  if (get("detail").open) highlight(current);
}

/* The panel of one chip. It leaves the map visible: everything else is hidden until it closes. */

const rankedClasses = (chip) => chip.all.map((value, index) => [data.classes[index].name, value]).filter(([, value]) => value !== null)
  .sort((a, b) => b[1] - a[1]).slice(0, MAX_CHOICES); // null: not a class of this chip

function choice(name, value, key) {
  const label = labels.get(current), bar = make("span", { className: "bar" });
  bar.style.width = `${100 * value}%`;
  bar.style.background = colors[name];
  const button = make("button", { type: "button", className: "choice" }, make("kbd", {}, String(key)), dot(name),
    make("span", { className: "name" }, name), make("span", { className: "track" }, bar),
    make("span", { className: "probability" }, percent(value)));
  button.setAttribute("aria-pressed", label?.verdict === "class" && label.class === name);
  button.disabled = !data.can_label;
  button.addEventListener("click", () => setLabel({ verdict: "class", class: name }));
  return button;
}

function properties(chip) {
  const rows = { "class set": chip.class_set, "unlike the training chips": chip.ood ? "yes" : undefined, scene: chip.scene,
    "row, column": chip.row === undefined ? undefined : `${chip.row.toFixed(1)}, ${chip.col.toFixed(1)}`,
    "longitude, latitude": chip.lon === undefined ? undefined : `${chip.lon.toFixed(5)}, ${chip.lat.toFixed(5)}`,
    length: chip.length_m === undefined ? undefined : `${Math.round(chip.length_m)} m, from ${chip.length_from}`, file: chip.path };
  const columns = Object.entries(data.columns).map(([name, label]) => [label, chip[name]]);
  return [...Object.entries(rows), ...columns, ...Object.entries(chip.attributes)].filter(([, value]) => value !== undefined && value !== null);
}

function describeState(index) {
  const label = labels.get(index);
  if (!label) return "No label yet";
  if (label.verdict !== "class") return `Labeled: ${label.verdict}`;
  return label.class === data.chips[index].class ? `Confirmed: ${label.class}` : `Corrected: ${label.class}`;
}

function open(index) {
  current = index;
  const chip = data.chips[index], label = labels.get(index), choices = rankedClasses(chip);
  get("picture").src = chip.thumb;
  get("name").textContent = chip.chip;
  get("choices").replaceChildren(...choices.map(([name, value], rank) => choice(name, value, rank + 1)));
  for (const [id, verdict] of [["not-target", NOT_A_TARGET], ["unsure", UNSURE]]) get(id).setAttribute("aria-pressed", label?.verdict === verdict);
  get("label").value = label && !choices.some(([name]) => name === label.class) ? label.class : "";
  get("state").textContent = describeState(index);
  get("clear").disabled = !label;
  get("properties").replaceChildren(
    ...properties(chip).flatMap(([key, value]) => [make("dt", {}, key), make("dd", {}, String(value))]));
  const position = shown.indexOf(index);
  get("position").textContent = position < 0 ? "" : `${position + 1} of ${shown.length}`;
  get("previous").disabled = position <= 0;
  get("next").disabled = position < 0 || position + 1 >= shown.length;
  if (!get("detail").open) showPanel(true);
  const active = document.activeElement; // the keys of the panel work after a class was typed
  if (active === get("label") || !(get("detail").contains(active) || get("map").contains(active))) get("name").focus();
  highlight(index);
  followOnMap(index);
  hooks.opened(index);
}

function showPanel(visible) {
  document.body.classList.toggle("reviewing", visible && sceneMaps.length > 0);
  for (const element of document.querySelectorAll("header, #tools, #training, #list")) element.inert = visible && sceneMaps.length > 0;
  if (visible) sceneMaps.length ? get("detail").show() : get("detail").showModal();
}

function setLabel(label) { // label the open chip, then open the next one of the list
  const list = shown, position = list.indexOf(current);
  if (!data.can_label || (label.verdict === "class" && !label.class)) return;
  changeLabels([[current, label]]);
  show();
  const next = hooks.next(list, position);
  if (position >= 0 && next !== undefined && shown.includes(next)) open(next); else open(current);
}

function setTypedLabel() { // a class is the name of a folder
  const field = get("label");
  field.setCustomValidity(/[/\\]/.test(field.value) ? "A class name has no / and no \\." : "");
  if (field.reportValidity()) setLabel(makeLabel(field.value.trim()));
}

function undo() {
  if (!undoSteps.length) return;
  const index = undoLabels();
  show();
  say("Undone.");
  if (get("detail").open) open(index);
}

function step(offset) {
  const position = shown.indexOf(current) + offset;
  if (position >= 0 && position < shown.length) open(shown[position]);
}

get("detail").addEventListener("close", () => {
  showPanel(false);
  show();
  highlight(current);
  const button = get("chips").querySelector(`[data-index="${current}"]`);
  (button || get("chips").querySelector(".card") || get("order")).focus();
});

/* Keys */

function pressKey(key) { // return whether the key has a meaning for the open chip
  const ranked = rankedClasses(data.chips[current]), map = mapOf(current);
  if (hooks.pressed(key)) return true;
  if (key === "Enter") setLabel(labels.get(current) || makeLabel(classOf(current)));
  else if (key === "Escape") get("detail").close();
  else if (key === "ArrowRight") step(1);
  else if (key === "ArrowLeft") step(-1);
  else if (/^[1-9]$/.test(key) && ranked[key - 1]) setLabel({ verdict: "class", class: ranked[key - 1][0] });
  else if (key === "n") setLabel({ verdict: NOT_A_TARGET, class: "" });
  else if (key === "u") setLabel({ verdict: UNSURE, class: "" });
  else if (key === "a" && data.can_label) get("label").focus();
  else if (key === "c" && map) showOnMap(current);
  else return map !== undefined && zoomByKey(map, key);
  return true;
}

function isField(element) { // keys are text or choices there
  return element.matches("input:not([type=checkbox]), select, textarea");
}

document.addEventListener("keydown", (event) => {
  const { target, key } = event, isUndo = key === "z" && !event.altKey, isOpen = get("detail").open;
  if (get("help").open || ((event.ctrlKey || event.altKey || event.metaKey) && !isUndo)) return;
  if (isOpen && target === get("label") && key === "Enter") setTypedLabel();
  else if (isOpen && target === get("label") && key === "Escape") get("detail").close();
  else if (isField(target)) return;
  else if (key === "?") get("help").showModal();
  else if (isUndo) undo();
  else if (!isOpen || (key === "Enter" && target.matches("button, summary")) || !pressKey(key)) return;
  event.preventDefault();
});

/* Save and load */

const say = (sentence) => { get("message").textContent = sentence; };

function save() {
  const link = make("a", { download: data.file });
  link.href = URL.createObjectURL(new Blob([labelsAsCsv()], { type: "text/csv" }));
  link.click();
  URL.revokeObjectURL(link.href);
  get("training").open = true;
}

async function load(file) {
  if (!file || !data.can_label) return;
  try {
    say(`${file.name}: ${restoreLabels(await file.text())}`);
    show();
    if (get("detail").open) open(current);
  } catch (error) {
    say(`${file.name} is not a saved ${data.file}: ${error.message}.`);
  }
}

get("file").addEventListener("change", () => { load(get("file").files[0]); get("file").value = ""; });
get("load").addEventListener("click", () => get("file").click());
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => { event.preventDefault(); load(event.dataTransfer.files[0]); });

for (const id of ["low", "high", "ood", "order", "which"]) get(id).addEventListener("input", show);
get("all-classes").addEventListener("click", () => setClasses(true));
get("no-class").addEventListener("click", () => setClasses(false));
get("confirm").addEventListener("click", () => {
  const unlabeled = shown.filter((index) => !labels.has(index));
  changeLabels(unlabeled.map((index) => [index, { verdict: "class", class: data.chips[index].class }]));
  show();
});
get("save").addEventListener("click", save);
for (const id of ["undo", "undo-here"]) get(id).addEventListener("click", undo);
for (const id of ["keys", "keys-here"]) get(id).addEventListener("click", () => get("help").showModal());
get("not-target").addEventListener("click", () => setLabel({ verdict: NOT_A_TARGET, class: "" }));
get("unsure").addEventListener("click", () => setLabel({ verdict: UNSURE, class: "" }));
get("other").addEventListener("click", setTypedLabel);
get("clear").addEventListener("click", () => { changeLabels([[current, undefined]]); show(); open(current); });
get("next").addEventListener("click", () => step(1));
get("previous").addEventListener("click", () => step(-1));
for (const id of ["saving", "labeling", "which-label", "label-keys", "undo-here"]) get(id).hidden = !data.can_label;
get("map-keys").hidden = !sceneMaps.length;
get("ood-only").hidden = !data.chips.some((chip) => "ood" in chip);
get("last-key").textContent = Math.min(MAX_CHOICES, data.classes.length);
get("map").append(...sceneMaps.map(({ figure }) => figure));
listClasses();
show();
hooks.ready();
