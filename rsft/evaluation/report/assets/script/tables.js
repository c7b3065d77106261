// Sort a table when a column heading is clicked: first in rising order for text, and in falling order for numbers.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const key = (row) => row.cells[column].textContent.trim();
      const number = (row) => {
        const value = parseFloat(key(row).replaceAll(",", ""));
        return Number.isNaN(value) ? -1 : value;
      };
      const numeric = head.hasAttribute("data-number");
      const order = head.getAttribute("aria-sort");
      const rising = order ? order === "descending" : !numeric;
      const compare = numeric ? (a, b) => number(a) - number(b) : (a, b) => key(a).localeCompare(key(b));
      body.append(...[...body.rows].sort((a, b) => (rising ? compare(a, b) : compare(b, a))));
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", rising ? "ascending" : "descending");
    });
  });
}
