/* Name classes without a bundle. The labels so far predict the class of every chip (a shrunk linear discriminant), choose
the next chip, and offer chips that are similar to the one that got a label. tests/plugins/suggestions/test_naming_browser.py
compares this with tools/reproduction/first_labels.py. */

const ROW_KEYS = "abcdefghijkl"; // one for each chip of the row; they have precedence while it is open
const SHRINKAGE = 0.3; // of the covariance within classes
const FAR = 0.9; // quantile of the distances from the labeled chips above which a chip counts as far
const vectors = readVectors();
let row = null; // {source, name, chips}: chips that are similar to the chip `source`, which has the class `name`

function readVectors() { // one array of numbers per chip
  const bytes = Uint8Array.from(atob(data.vectors), (character) => character.charCodeAt(0));
  const numbers = new Int16Array(bytes.buffer), all = [];
  for (let start = 0; start < numbers.length; start += data.dimensions) {
    all.push(Float64Array.from(numbers.subarray(start, start + data.dimensions), (value) => value * data.step));
  }
  return all;
}

const product = (a, b) => a.reduce((sum, value, index) => sum + value * b[index], 0);
const cosine = (a, b) => product(a, b) / Math.sqrt(product(a, a) * product(b, b) || 1);
const isClass = (label) => label.verdict === "class";
const unlabeled = () => data.chips.map((_, index) => index).filter((index) => !labels.has(index));

/* Prediction */

function classMembers() { // name -> numbers of its labeled chips, in the order in which the classes were named
  const members = new Map();
  for (const [index, label] of labels) {
    if (isClass(label)) members.set(label.class, [...(members.get(label.class) || []), index]);
  }
  return members;
}

function meanVector(indices) {
  const mean = new Float64Array(data.dimensions);
  for (const index of indices) vectors[index].forEach((value, position) => { mean[position] += value / indices.length; });
  return mean;
}

function covariance(members, means) { // within classes, shrunk toward equal variances
  const size = data.dimensions, matrix = Array.from({ length: size }, () => new Float64Array(size));
  let count = -means.length;
  [...members.values()].forEach((indices, number) => {
    count += indices.length;
    for (const index of indices) {
      const difference = vectors[index].map((value, position) => value - means[number][position]);
      difference.forEach((a, i) => { for (let j = 0; j < size; j += 1) matrix[i][j] += a * difference[j]; });
    }
  });
  const scale = count > 0 ? (1 - SHRINKAGE) / count : 0;
  const trace = matrix.reduce((sum, line, index) => sum + line[index], 0);
  const variance = count > 0 && trace > 0 ? trace / count / size : data.variance;
  matrix.forEach((line, i) => line.forEach((value, j) => { line[j] = value * scale + (i === j ? SHRINKAGE * variance : 0); }));
  return matrix;
}

function cholesky(matrix) { // lower triangle, in place
  matrix.forEach((line, i) => {
    for (let j = 0; j <= i; j += 1) {
      let sum = line[j];
      for (let k = 0; k < j; k += 1) sum -= line[k] * matrix[j][k];
      line[j] = i === j ? Math.sqrt(sum) : sum / matrix[j][j];
    }
  });
  return matrix;
}

function solve(triangle, right) {
  const size = right.length, x = Float64Array.from(right);
  for (let i = 0; i < size; i += 1) {
    for (let k = 0; k < i; k += 1) x[i] -= triangle[i][k] * x[k];
    x[i] /= triangle[i][i];
  }
  for (let i = size - 1; i >= 0; i -= 1) {
    for (let k = i + 1; k < size; k += 1) x[i] -= triangle[k][i] * x[k];
    x[i] /= triangle[i][i];
  }
  return x;
}

function predict() { // set classes, and class and probabilities of every chip; equal priors
  const members = classMembers(), means = [...members.values()].map(meanVector);
  data.classes.splice(0, data.classes.length, ...[...members.keys()].map((name, index) => ({ name, color: data.palette[index % data.palette.length] })));
  for (const { name, color } of data.classes) colors[name] = color;
  const triangle = means.length ? cholesky(covariance(members, means)) : [];
  const weights = means.map((mean) => solve(triangle, mean)), offsets = means.map((mean, index) => product(mean, weights[index]) / 2);
  data.chips.forEach((chip, index) => {
    const scores = weights.map((weight, number) => product(vectors[index], weight) - offsets[number]), top = Math.max(...scores);
    const odds = scores.map((score) => Math.exp(score - top)), total = odds.reduce((sum, value) => sum + value, 0);
    chip.all = odds.map((value) => value / total);
    if (labels.has(index)) return; // keeps what was predicted before
    const best = scores.indexOf(top);
    chip.class = best < 0 ? "" : data.classes[best].name;
    chip.probability = best < 0 ? 0 : chip.all[best];
  });
}

/* The next chip, and similar chips */

function chooseNext() { // undefined if every chip has a label
  const open = unlabeled(), labeled = [...labels.keys()];
  const first = open.find((index) => index < data.starts);
  if (first !== undefined || !data.classes.length || !open.length) return first ?? open[0];
  const counts = data.classes.map(({ name }) => [...labels.values()].filter((label) => label.class === name).length);
  const distances = open.map((index) => 1 - Math.max(...labeled.map((other) => cosine(vectors[index], vectors[other]))));
  const far = [...distances].sort((a, b) => a - b)[Math.floor(FAR * (open.length - 1))] || 1;
  const gains = open.map((index, position) => {
    const { all } = data.chips[index], [best, second = 0] = [...all].sort((a, b) => b - a);
    const uncertainty = all.length > 1 ? 1 - (best - second) : 1;
    const rarity = all.reduce((sum, value, number) => sum + value / (counts[number] + 1), 0);
    return (uncertainty + 1e-9) * Math.min(distances[position] / far, 1) * rarity;
  });
  return open[gains.indexOf(Math.max(...gains))];
}

function findSimilar(source) { // the most similar chips without a label, the most similar one first
  const likeness = new Map(unlabeled().map((index) => [index, cosine(vectors[source], vectors[index])]));
  return [...likeness.keys()].sort((a, b) => likeness.get(b) - likeness.get(a)).slice(0, ROW_KEYS.length);
}

function labelRow(count) { // give the first chips of the row the class of its source, and go on
  const { name, chips } = row;
  row = null;
  if (count) changeLabels(chips.slice(0, count).map((index) => [index, { verdict: "class", class: name, similar: true }]));
  show();
  goOn();
}

function goOn() {
  const next = chooseNext();
  next === undefined ? get("detail").close() : open(next);
}

/* Elements */

const similar = make("section", { hidden: true }), similarTitle = make("h3", { id: "similar-title" }), similarChips = make("div", { className: "similar" });
similar.setAttribute("aria-labelledby", "similar-title");
similar.append(similarTitle, similarChips, make("p", {}, rowButton("Enter", "All of them", () => labelRow(row.chips.length)), " ",
  rowButton("Esc", "None of them", () => labelRow(0))));
get("detail").querySelector(".steps").before(similar);
const rows = make("input", { type: "checkbox", checked: data.rows }), unseen = make("output", { id: "unseen", className: "hint" });
const nextButton = make("button", { type: "button", className: "strong", id: "name-next" }, "Name the next chip");
nextButton.addEventListener("click", goOn);
get("counts").after(make("p", {}, nextButton), make("label", {}, rows, " Offer similar chips"), unseen);
get("label-keys").append(make("p", {}, make("kbd", {}, "Enter"), " all similar chips have this class"),
  make("p", {}, make("kbd", {}, "A"), " to ", make("kbd", {}, "L"), " only the similar chips before this one"));

function rowButton(key, text, action) {
  const button = make("button", { type: "button" }, make("kbd", {}, key), ` ${text}`);
  button.addEventListener("click", action);
  return button;
}

function describeUnseen() { // Chao1 (Chao 1984) of the chips that were chosen one by one
  const counts = new Map();
  for (const label of labels.values()) if (isClass(label) && !label.similar) counts.set(label.class, (counts.get(label.class) || 0) + 1);
  const [once, twice] = [1, 2].map((number) => [...counts.values()].filter((count) => count === number).length);
  const expected = once * (once - 1) / (2 * (twice + 1));
  return `${counts.size} classes; about ${expected.toFixed(1)} more are expected (Chao1). ${once} classes have one chip.`;
}

hooks.changed = () => {
  row = null;
  predict();
  listClasses();
  unseen.textContent = describeUnseen();
};

hooks.next = () => {
  const label = labels.get(current), chips = findSimilar(current);
  if (!rows.checked || !isClass(label) || !chips.length) return chooseNext();
  row = { source: current, name: label.class, chips };
  return current; // the row is answered first
};

hooks.opened = (index) => {
  if (row && row.source !== index) row = null;
  similar.hidden = !row;
  get("position").textContent = `${labels.size} of ${data.chips.length} labeled`;
  if (row) {
    similarTitle.textContent = `Also ${row.name}? Press the key of the first one that differs.`;
    similarChips.replaceChildren(...row.chips.map((chip, position) => {
      const button = make("button", { type: "button", title: data.chips[chip].chip }, make("img", { src: data.chips[chip].thumb, alt: "" }),
        make("kbd", {}, ROW_KEYS[position].toUpperCase()));
      button.addEventListener("click", () => labelRow(position));
      return button;
    }));
    similar.scrollIntoView({ block: "nearest" });
  } else if (!data.classes.length) {
    get("label").focus();
  }
};

hooks.pressed = (key) => {
  if (!row) return false;
  const position = ROW_KEYS.indexOf(key);
  if (key === "Enter") labelRow(row.chips.length);
  else if (key === "Escape" || key === "ArrowRight") labelRow(0);
  else if (position >= 0 && position < row.chips.length) labelRow(position);
  else return false;
  return true;
};

hooks.ready = () => {
  unseen.textContent = describeUnseen();
  goOn();
};

predict();
