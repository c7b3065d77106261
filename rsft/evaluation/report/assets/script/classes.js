// Show the classes whose name contains the text of the field. Without this script, all classes are shown.
const field = document.getElementById("class-name");
if (field) {
  const rows = [...document.querySelectorAll("table.classes tbody tr")];
  const update = () => {
    const text = field.value.trim().toLowerCase();
    for (const row of rows) row.hidden = !row.cells[0].textContent.toLowerCase().includes(text);
    const count = rows.filter((row) => !row.hidden).length;
    document.getElementById("classes-shown").textContent = `${count} of ${rows.length} classes`;
  };
  field.addEventListener("input", update);
  field.parentElement.hidden = false;
  update();
}
