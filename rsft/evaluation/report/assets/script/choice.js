// Show the one of several figures that a group of radio buttons selects. Without this script the first one is shown.
for (const choice of document.querySelectorAll("[data-choice]")) {
  choice.addEventListener("change", (event) => {
    for (const button of choice.querySelectorAll("input")) {
      document.getElementById(button.value).hidden = button !== event.target;
    }
  });
  choice.hidden = false;
}
