// Show the learned scales of the selected epoch. Without this script, the page shows the last epoch.
const source = document.getElementById("frames");
if (source) {
  const { start, reach, strong, epochs, frames } = JSON.parse(source.textContent);
  const slider = document.getElementById("epoch");
  const output = document.querySelector("output[for=epoch]");
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
