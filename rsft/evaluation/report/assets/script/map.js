// The chip under the pointer, or the one that the arrow keys lead to, is shown and ringed on both maps.
const points = document.getElementById("points");
if (points) {
  const { classes, chips, sheet } = JSON.parse(points.textContent);
  const maps = [...document.querySelectorAll("svg.map")];
  const card = document.getElementById("chip");
  const picture = card.querySelector("canvas");
  const words = card.querySelector("p");
  const picker = document.getElementById("class");
  const image = document.getElementById("sheet");
  const near = 14; // in figure units
  let current = -1;

  const allowed = (chip) => picker.value === "" || chip[4] === Number(picker.value);
  const describe = ([, , , , truth, guess]) => {
    const name = (place) => classes[place] ?? "unknown";
    return truth === guess ? `${name(truth)}, right` : `${name(truth)}, taken for ${name(guess)}`;
  };
  const hide = () => {
    current = -1;
    card.hidden = true;
    for (const map of maps) map.querySelector(".ring").setAttribute("visibility", "hidden");
  };
  const place = (map, x, y) => {
    const frame = card.offsetParent.getBoundingClientRect();
    const box = map.getBoundingClientRect();
    const left = box.left - frame.left + (x / 460) * box.width;
    card.style.left = `${Math.max(0, Math.min(left + 14, frame.width - card.offsetWidth))}px`;
    card.style.top = `${box.top - frame.top + (y / 460) * box.height + 14}px`;
  };
  const show = (index, map) => {
    current = index;
    const chip = chips[index];
    maps.forEach((each, stage) => {
      const ring = each.querySelector(".ring");
      ring.setAttribute("cx", chip[2 * stage]);
      ring.setAttribute("cy", chip[2 * stage + 1]);
      ring.setAttribute("visibility", "visible");
    });
    words.textContent = describe(chip);
    picture.hidden = !sheet;
    if (sheet) {
      const { side, columns } = sheet;
      const [top, left] = [Math.floor(index / columns) * side, (index % columns) * side];
      const pen = picture.getContext("2d");
      pen.imageSmoothingEnabled = false;
      pen.drawImage(image, left, top, side, side, 0, 0, picture.width, picture.height);
    }
    card.hidden = false;
    const stage = maps.indexOf(map);
    place(map, chip[2 * stage], chip[2 * stage + 1]);
  };

  maps.forEach((map, stage) => {
    const find = (event) => {
      const box = map.getBoundingClientRect();
      const scale = 460 / box.width;
      const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
      let [best, least] = [-1, near * Math.max(1, scale)];
      chips.forEach((chip, index) => {
        const distance = Math.hypot(chip[2 * stage] - x, chip[2 * stage + 1] - y);
        if (distance < least && allowed(chip)) [best, least] = [index, distance];
      });
      if (best < 0) hide();
      else if (best !== current) show(best, map);
    };
    map.addEventListener("pointermove", find);
    map.addEventListener("pointerdown", find);
    map.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hide());
    map.parentElement.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") hide();
      if (!step) return;
      event.preventDefault();
      let index = current < 0 && step < 0 ? 0 : current;
      for (let tried = 0; tried < chips.length; tried += 1) {
        index = (index + step + chips.length) % chips.length;
        if (allowed(chips[index])) break;
      }
      if (allowed(chips[index])) show(index, map);
    });
    map.parentElement.addEventListener("blur", hide);
  });

  picker.addEventListener("change", () => {
    hide();
    for (const path of document.querySelectorAll("svg.map path")) {
      path.classList.toggle("faint", picker.value !== "" && path.dataset.class !== picker.value);
    }
  });
  picker.parentElement.hidden = false;
}
