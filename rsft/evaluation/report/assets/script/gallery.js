// The gallery is sorted and filtered. Without this script every chip is shown, the surest mistakes first.
const gallery = document.getElementById("exhibits");
if (gallery) {
  const form = document.getElementById("filters");
  const items = [...gallery.children];
  const status = document.getElementById("shown");
  const numeric = { confidence: -1, unsure: 1, strange: -1 };
  const key = { confidence: "confidence", unsure: "confidence", strange: "strange", truth: "truth", predicted: "predicted" };
  const arrange = () => {
    const wanted = Object.fromEntries(new FormData(form));
    const fits = ({ dataset }) =>
      (!wanted.kind || dataset.kinds.split(" ").includes(wanted.kind)) &&
      (!wanted.truth || dataset.truth === wanted.truth) &&
      (!wanted.predicted || dataset.predicted === wanted.predicted) &&
      Number(dataset.confidence) >= Number(wanted.least || 0) &&
      Number(dataset.confidence) <= Number(wanted.most || 100);
    const value = (item) => item.dataset[key[wanted.order]];
    const direction = numeric[wanted.order];
    const sorted = items.toSorted((a, b) =>
      direction ? direction * (Number(value(a)) - Number(value(b))) : value(a).localeCompare(value(b)),
    );
    for (const item of items) item.hidden = !fits(item);
    gallery.append(...sorted);
    const count = items.filter((item) => !item.hidden).length;
    status.textContent = `${count} of ${items.length} chips`;
    document.getElementById("none").hidden = count > 0;
  };
  form.addEventListener("input", arrange);
  form.addEventListener("reset", () => setTimeout(arrange));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  arrange();
}
