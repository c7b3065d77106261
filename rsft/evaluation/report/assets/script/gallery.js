// Sort and filter the gallery. Without this script, all chips are shown, beginning with the most confident mistakes.
const gallery = document.getElementById("chips");
if (gallery) {
  const form = document.getElementById("filters");
  const items = [...gallery.children];
  const status = document.getElementById("shown");
  const directions = { confidence: -1, unsure: 1, ood: -1 }; // of numbers; other orders are alphabetical
  const keys = { confidence: "confidence", unsure: "confidence", ood: "ood", truth: "truth", predicted: "predicted" };
  const update = () => {
    const filters = Object.fromEntries(new FormData(form));
    const matches = ({ dataset }) =>
      (!filters.kind || dataset.kinds.split(" ").includes(filters.kind)) &&
      (!filters.truth || dataset.truth === filters.truth) &&
      (!filters.predicted || dataset.predicted === filters.predicted) &&
      Number(dataset.confidence) >= Number(filters.lowest || 0) &&
      Number(dataset.confidence) <= Number(filters.highest || 100);
    const value = (item) => item.dataset[keys[filters.order]];
    const direction = directions[filters.order];
    const sorted = items.toSorted((a, b) =>
      direction ? direction * (Number(value(a)) - Number(value(b))) : value(a).localeCompare(value(b)),
    );
    for (const item of items) item.hidden = !matches(item);
    gallery.append(...sorted);
    const count = items.filter((item) => !item.hidden).length;
    status.textContent = `${count} of ${items.length} chips`;
    document.getElementById("none").hidden = count > 0;
  };
  form.addEventListener("input", update);
  form.addEventListener("reset", () => setTimeout(update));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  update();
}
