// Show the figure that radio buttons select. Without this script, the first figure is shown.
for (const choice of document.querySelectorAll("[data-choice]")) {
  choice.addEventListener("change", (event) => {
    for (const button of choice.querySelectorAll("input")) {
      document.getElementById(button.value).hidden = button !== event.target;
    }
  });
  choice.hidden = false;
}
