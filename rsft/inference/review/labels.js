/* Labels of the analyst. A label is {verdict, class}; its class is "" unless the verdict is "class". */

const NOT_A_TARGET = "not a target", UNSURE = "unsure";
const COLUMNS = ["path", "class", "verdict", "predicted", "scene", "at"]; // of the saved file
const CUT_COLUMNS = ["row", "col", "chip", "table"]; // more columns if chips were cut from scenes: how to cut them again
const labels = new Map(loadLabels()); // index of a chip -> label
const undoSteps = []; // for every step a list of [index, label before the step]

const textOf = (label) => label.class || label.verdict;
const classOf = (index) => labels.has(index) ? textOf(labels.get(index)) : data.chips[index].class; // the label, else the predicted class

function makeLabel(name) { // a verdict, unless a class of the bundle has this name
  const isVerdict = [NOT_A_TARGET, UNSURE].includes(name.toLowerCase()) && !Object.hasOwn(colors, name);
  return isVerdict ? { verdict: name.toLowerCase(), class: "" } : { verdict: "class", class: name };
}

function describeLabel(index) { // what the label says about the prediction
  const label = labels.get(index), predicted = data.chips[index].class;
  if (!label) return "";
  if (label.verdict === UNSURE) return `${predicted}?`;
  return label.class === predicted ? "confirmed" : `was ${predicted}`;
}

function countLabels() { // [[class or verdict, number of chips]], the classes of the bundle first
  const all = [...labels.values()], counts = new Map(data.classes.map(({ name }) => [name, 0]));
  for (const label of all) if (label.class) counts.set(label.class, (counts.get(label.class) || 0) + 1);
  const verdicts = [NOT_A_TARGET, UNSURE].map((verdict) => [verdict, all.filter((label) => label.verdict === verdict).length]);
  return [...counts, ...verdicts].filter(([, count]) => count);
}

function changeLabels(changes) { // [[index, label, or undefined to remove it]]
  undoSteps.push(changes.map(([index]) => [index, labels.get(index)]));
  applyChanges(changes);
}

function undoLabels() { // return the index of a chip that changed
  const step = undoSteps.pop();
  applyChanges(step);
  return step[0][0];
}

function applyChanges(changes) {
  for (const [index, label] of changes) label ? labels.set(index, label) : labels.delete(index);
  storeLabels();
  hooks.changed();
}

/* The browser stores the labels until they are saved to a file */

function loadLabels() {
  try { return JSON.parse(localStorage.getItem(data.key)) || []; } catch { return []; }
}

function storeLabels() {
  try { localStorage.setItem(data.key, JSON.stringify([...labels])); } catch { /* the browser allows no storage */ }
}

/* The saved file */

const isNumber = (text) => text.trim() !== "" && !Number.isNaN(Number(text));
const escaped = (text) => /^'*[=+\-@\t\r]/.test(text) && !isNumber(text) ? `'${text}` : text; // no formula for spreadsheets
const unescaped = (text) => text.replace(/^'(?='*[=+\-@\t\r])/, "");
const quoted = (value) => `"${escaped(String(value ?? "")).replaceAll('"', '""')}"`;

function labelsAsCsv() {
  const rows = [...labels].sort((a, b) => a[0] - b[0]).map(([index, label]) => {
    const chip = data.chips[index];
    const cells = [chip.path, label.class, label.verdict, chip.class, chip.scene, chip.attributes.at];
    return [...cells, ...(data.table ? [chip.row, chip.col, chip.chip, data.table] : [])].map(quoted).join(",");
  });
  return [[...COLUMNS, ...(data.table ? CUT_COLUMNS : [])].join(","), ...rows, ""].join("\r\n");
}

function parseCsv(text) { // rows of cells, separated by commas, or by semicolons as some spreadsheets do
  const body = text.replace(/^\uFEFF/, ""), header = body.split(/[\r\n]/, 1)[0];
  const separator = header.includes(",") || !header.includes(";") ? "," : ";";
  const cell = new RegExp(`("(?:[^"]|"")*"|(?!")[^${separator}\\r\\n]*)(${separator}|\\r?\\n|\\r|$)`, "y");
  const rows = [[]];
  while (cell.lastIndex < body.length) {
    const [, value, end] = cell.exec(body) || [];
    if (value === undefined) throw new Error("a quotation mark is not closed");
    rows.at(-1).push(value.startsWith('"') ? value.slice(1, -1).replaceAll('""', '"') : value);
    if (end !== separator) rows.push([]);
  }
  return rows.filter((row) => row.some((value) => value.trim()));
}

function readLabel(verdict, name) { // undefined if the row has no label
  if (verdict === NOT_A_TARGET || verdict === UNSURE) return { verdict, class: "" };
  return (!verdict || verdict === "class") && name ? { verdict: "class", class: name } : undefined;
}

function restoreLabels(text) { // set the labels of a saved file; return a sentence about them
  const [header = [], ...rows] = parseCsv(text);
  const columns = header.map((name) => name.trim().toLowerCase());
  const missing = ["path", "class"].filter((name) => !columns.includes(name));
  if (missing.length) throw new Error(`it has no column ${missing.join(", ")}`);
  const position = (scene, place) => scene && (place ?? "") !== "" ? JSON.stringify([scene, String(place)]) : "";
  const indices = (key) => new Map(data.chips.map((chip, index) => [key(chip), index]).filter(([value]) => value));
  const byPath = indices((chip) => chip.path), byPosition = indices((chip) => position(chip.scene, chip.attributes.at ?? chip.chip));
  const changes = [];
  let foreign = 0, empty = 0;
  for (const row of rows) {
    const cell = (name) => unescaped((row[columns.indexOf(name)] ?? "").trim());
    const index = byPath.get(cell("path")) ?? byPosition.get(position(cell("scene"), cell("at") || cell("chip")));
    const label = readLabel(cell("verdict").toLowerCase(), cell("class"));
    if (index === undefined) foreign += 1;
    else if (!label) empty += 1;
    else changes.push([index, label]);
  }
  if (changes.length) changeLabels(changes);
  const counts = [`${changes.length} labels restored`, foreign && `${foreign} rows are for other chips`, empty && `${empty} rows have no label`];
  return `${counts.filter(Boolean).join(", ")}.`;
}
