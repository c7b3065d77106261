// Show the chip under the pointer, or the chip that the arrow keys select, and draw a ring around it on all maps.
// A chip is [coordinates on all maps, class, predicted class of each run].
const points = document.getElementById("points");
if (points) {
  const { side, classes, labels, chips, sheet } = JSON.parse(points.textContent);
  const maps = [...document.querySelectorAll("svg.map")];
  const card = document.getElementById("chip");
  const picture = card.querySelector("canvas");
  const caption = card.querySelector("p");
  const picker = document.getElementById("class");
  const image = document.getElementById("sheet");
  const pickRadius = 14; // largest distance of a chip from the pointer, in figure units
  let current = -1;

  const selectable = (chip) => picker.value === "" || chip[1] === Number(picker.value);
  const describe = ([, truth, predicted]) => {
    const name = (index) => classes[index] ?? "unknown";
    const outcome = (index) => (index === truth ? "correct" : `predicted as ${name(index)}`);
    return [name(truth), ...predicted.map((index, run) => `${labels[run] ?? ""} ${outcome(index)}`.trim())].join(", ");
  };
  const hide = () => {
    current = -1;
    card.hidden = true;
    for (const map of maps) map.querySelector(".ring").setAttribute("visibility", "hidden");
  };
  const moveCard = (map, x, y) => {
    const frame = card.offsetParent.getBoundingClientRect();
    const box = map.getBoundingClientRect();
    const left = box.left - frame.left + (x / side) * box.width;
    card.style.left = `${Math.max(0, Math.min(left + 14, frame.width - card.offsetWidth))}px`;
    card.style.top = `${box.top - frame.top + (y / side) * box.height + 14}px`;
  };
  const show = (index, map) => {
    current = index;
    const chip = chips[index];
    const [at] = chip;
    maps.forEach((figure, stage) => {
      const ring = figure.querySelector(".ring");
      ring.setAttribute("cx", at[2 * stage]);
      ring.setAttribute("cy", at[2 * stage + 1]);
      ring.setAttribute("visibility", "visible");
    });
    caption.textContent = describe(chip);
    picture.hidden = !sheet;
    if (sheet) {
      const size = sheet.side;
      const [top, left] = [Math.floor(index / sheet.columns) * size, (index % sheet.columns) * size];
      const context = picture.getContext("2d");
      context.imageSmoothingEnabled = false;
      context.drawImage(image, left, top, size, size, 0, 0, picture.width, picture.height);
    }
    card.hidden = false;
    const stage = maps.indexOf(map);
    moveCard(map, at[2 * stage], at[2 * stage + 1]);
  };

  maps.forEach((map, stage) => {
    const showNearest = (event) => {
      const box = map.getBoundingClientRect();
      const scale = side / box.width;
      const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
      let [nearest, shortest] = [-1, pickRadius * Math.max(1, scale)];
      chips.forEach((chip, index) => {
        const distance = Math.hypot(chip[0][2 * stage] - x, chip[0][2 * stage + 1] - y);
        if (distance < shortest && selectable(chip)) [nearest, shortest] = [index, distance];
      });
      if (nearest < 0) hide();
      else if (nearest !== current) show(nearest, map);
    };
    map.addEventListener("pointermove", showNearest);
    map.addEventListener("pointerdown", showNearest);
    map.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hide());
    map.parentElement.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") hide();
      if (!step) return;
      event.preventDefault();
      let index = current < 0 && step < 0 ? 0 : current;
      for (let attempt = 0; attempt < chips.length; attempt += 1) {
        index = (index + step + chips.length) % chips.length;
        if (selectable(chips[index])) break;
      }
      if (selectable(chips[index])) show(index, map);
    });
    map.parentElement.addEventListener("blur", hide);
  });

  picker.addEventListener("change", () => {
    hide();
    for (const group of document.querySelectorAll("svg.map g")) {
      group.classList.toggle("faint", picker.value !== "" && group.dataset.class !== picker.value);
    }
  });
  picker.parentElement.hidden = false;
}
