"use strict";

// The modulator's values at another epoch. Without this script the page shows the last one.
const source = document.getElementById("frames");
if (source) {
  const { start, reach, strong, epochs, frames } = JSON.parse(source.textContent);
  const slider = document.getElementById("epoch");
  const output = document.querySelector("output");
  const sites = [...document.querySelectorAll(".modulator .site")];
  slider.addEventListener("input", () => {
    const frame = frames[slider.value];
    sites.forEach((site, index) => {
      const share = Math.min(1, Math.abs(frame[index] - start) / reach);
      const [box, number] = site.children;
      box.setAttribute("class", `shade ${frame[index] > start ? "above" : "below"}`);
      box.setAttribute("fill-opacity", share.toFixed(3));
      number.setAttribute("class", share > strong ? "reversed" : "");
      number.textContent = frame[index].toFixed(2);
    });
    output.textContent = epochs[slider.value];
    slider.setAttribute("aria-valuetext", `epoch ${epochs[slider.value]}`);
  });
  slider.parentElement.hidden = false;
}

// Tables sort by a column when its head is pressed: words upward first, numbers downward first.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const key = (row) => row.cells[column].textContent.trim();
      const numeric = [...body.rows].some((row) => Number.isFinite(parseFloat(key(row))) && column > 1);
      const known = head.getAttribute("aria-sort");
      const up = known ? known === "descending" : !numeric;
      const number = (row) => (Number.isNaN(parseFloat(key(row))) ? -1 : parseFloat(key(row)));
      const compare = numeric ? (a, b) => number(a) - number(b) : (a, b) => key(a).localeCompare(key(b));
      body.append(...[...body.rows].sort((a, b) => (up ? compare(a, b) : compare(b, a))));
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
    });
  });
}
