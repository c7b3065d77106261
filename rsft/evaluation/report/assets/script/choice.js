// One of several figures is shown, as a group of radio buttons says. Without this script it is the first.
for (const choice of document.querySelectorAll("[data-choice]")) {
  choice.addEventListener("change", (event) => {
    for (const other of choice.querySelectorAll("input")) {
      document.getElementById(other.value).hidden = other !== event.target;
    }
  });
  choice.hidden = false;
}
