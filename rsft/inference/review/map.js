/* The scenes with their chips. A view is the visible window of a scene, in its pixels. */

const DOT_RADIUS = 6, CLICK_RADIUS = { mouse: 12, pen: 16, touch: 24 }; // CSS pixels
const DRAG_START = 4; // CSS pixels; a pointer that moved less clicks
const SMALLEST_VIEW = 32; // longer side, in pixels of the scene
const CHIP_ZOOM = 8, CHIP_VIEW = 400; // to show a chip: least zoom, and longer side in pixels of the scene
const PAN_STEP = 0.2; // of the view, by arrow keys
const sceneMaps = data.scenes.map(makeSceneMap);

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const longerSide = ({ width, height }) => Math.max(width, height);
const smallestWidth = ({ scene }) => scene.width * Math.min(1, SMALLEST_VIEW / longerSide(scene));
const isZoomed = (map) => map.view.width < map.scene.width;
const mapOf = (index) => sceneMaps.find((map) => map.scene.name === data.chips[index].scene);

function makeSceneMap(scene) {
  const dots = svg("g", {}), marker = svg("g", { class: "marker" });
  const picture = svg("image", { href: scene.picture, width: scene.width, height: scene.height });
  const label = `${scene.name} with its chips. Arrow keys move it, + and - zoom, 0 shows all of it.`;
  const drawing = svg("svg", { tabindex: 0, role: "group", "aria-label": label }, picture, dots, marker);
  const map = { scene, drawing, dots, marker, caption: make("figcaption"), view: { x: 0, y: 0, ...scene }, indices: [] };
  const button = (text, title, action) => {
    const element = make("button", { type: "button", title }, text);
    element.setAttribute("aria-label", `${title}: ${scene.name}`);
    element.addEventListener("click", action);
    return element;
  };
  map.find = button("Chip", "Show the open chip (C)", () => showOnMap(current));
  map.all = button("All", "Show the whole scene (0)", () => showScene(map));
  const zooms = [button("+", "Zoom in (+)", () => zoomMap(map, 1.5)), button("\u2212", "Zoom out (-)", () => zoomMap(map, 1 / 1.5))];
  const controls = make("div", { className: "controls" }, ...zooms, map.all, map.find);
  map.figure = make("figure", {}, make("div", { className: "frame" }, drawing, controls), map.caption);
  listenToMap(map);
  new ResizeObserver(() => drawView(map)).observe(drawing);
  return map;
}

function drawChips(map) { // the chips that pass the filters
  map.indices = shown.filter((index) => data.chips[index].scene === map.scene.name);
  map.dots.replaceChildren(...map.indices.map((index) => {
    const chip = data.chips[index], label = labels.get(index);
    const fill = Object.hasOwn(colors, classOf(index)) && label?.verdict !== NOT_A_TARGET ? colors[classOf(index)] : "#888";
    const title = svg("title", {}, `${chip.chip}: ${classOf(index)}, ${describeLabel(index) || percent(chip.probability)}`);
    const kind = label ? (label.verdict === "class" ? "labeled" : "no-class") : "";
    return svg("circle", { cx: chip.col, cy: chip.row, fill, class: kind, "data-index": index }, title);
  }));
  map.caption.textContent = `${map.scene.name}: ${map.indices.length} shown`;
}

function highlight(index) { // mark one chip in its scene
  for (const map of sceneMaps) {
    const chip = data.chips[index], isHere = chip !== undefined && map === mapOf(index);
    map.figure.classList.toggle("current", isHere);
    map.find.disabled = !isHere || !get("detail").open;
    for (const mark of map.dots.children) mark.classList.toggle("chosen", mark.dataset.index === String(index));
    const ring = (name) => svg("circle", { cx: chip.col, cy: chip.row, class: name });
    map.marker.replaceChildren(...(isHere ? [ring("halo"), ring("ring")] : []));
  }
}

/* Zoom and pan */

function drawView(map) {
  const { x, y, width, height } = map.view, { drawing } = map;
  drawing.setAttribute("viewBox", `${x} ${y} ${width} ${height}`);
  drawing.classList.toggle("zoomed", isZoomed(map));
  map.all.disabled = !isZoomed(map);
  const scale = drawing.getScreenCTM()?.a; // CSS pixels per pixel of the scene
  if (scale) drawing.style.setProperty("--radius", `${DOT_RADIUS / scale}px`);
}

function setView(map, width, centerX, centerY) {
  const { scene } = map;
  width = clamp(width, smallestWidth(map), scene.width);
  const height = (width * scene.height) / scene.width;
  map.view = { x: clamp(centerX, 0, scene.width) - width / 2, y: clamp(centerY, 0, scene.height) - height / 2, width, height };
  if (!isZoomed(map)) map.view = { x: 0, y: 0, width: scene.width, height: scene.height };
  drawView(map);
}

const centerOf = ({ view }) => ({ x: view.x + view.width / 2, y: view.y + view.height / 2 });
const showScene = (map) => setView(map, map.scene.width, 0, 0);

function zoomMap(map, factor, point = centerOf(map)) { // `point` of the scene stays where it is
  const width = clamp(map.view.width / factor, smallestWidth(map), map.scene.width);
  const ratio = width / map.view.width, center = centerOf(map);
  setView(map, width, point.x + (center.x - point.x) * ratio, point.y + (center.y - point.y) * ratio);
}

function moveMap(map, right, down) { // by pixels of the scene
  const { x, y } = centerOf(map);
  setView(map, map.view.width, x + right, y + down);
}

function showOnMap(index) { // zoom in, with the chip in the middle
  const map = mapOf(index), chip = data.chips[index];
  if (!map) return;
  const zoom = Math.max(CHIP_ZOOM, longerSide(map.scene) / CHIP_VIEW);
  setView(map, Math.min(map.view.width, map.scene.width / zoom), chip.col, chip.row);
}

function followOnMap(index) { // move a view that does not show the chip
  const map = mapOf(index), { row, col } = data.chips[index];
  if (!map || !isZoomed(map)) return;
  const { x, y } = centerOf(map), { width, height } = map.view;
  if (Math.abs(col - x) > 0.4 * width || Math.abs(row - y) > 0.4 * height) setView(map, width, col, row);
}

/* Mouse, fingers, keys */

function scenePoint(map, event) {
  return new DOMPoint(event.clientX, event.clientY).matrixTransform(map.drawing.getScreenCTM().inverse());
}

function chipNear(map, event) { // the nearest chip, so that fingers need not hit a dot
  const scale = map.drawing.getScreenCTM().a, { x, y } = scenePoint(map, event);
  const distance = (index) => Math.hypot(data.chips[index].col - x, data.chips[index].row - y) * scale;
  const nearest = map.indices.reduce((best, index) => (best === undefined || distance(index) < distance(best) ? index : best), undefined);
  return nearest !== undefined && distance(nearest) <= CLICK_RADIUS[event.pointerType || "mouse"] ? nearest : undefined;
}

function listenToMap(map) {
  const { drawing } = map, pointers = new Map(); // identity of a pressed pointer -> its last event
  let path = 0; // CSS pixels that the pointers moved since they were pressed
  const middle = () => {
    const events = [...pointers.values()], [first, last] = [events[0], events.at(-1)];
    const size = Math.hypot(first.clientX - last.clientX, first.clientY - last.clientY);
    return { clientX: (first.clientX + last.clientX) / 2, clientY: (first.clientY + last.clientY) / 2, size };
  };
  drawing.addEventListener("pointerdown", (event) => {
    if (event.button || pointers.size > 1) return;
    if (!pointers.size) path = 0;
    pointers.set(event.pointerId, event);
  });
  drawing.addEventListener("pointermove", (event) => {
    const last = pointers.get(event.pointerId);
    if (last && event.buttons === 0) pointers.delete(event.pointerId); // it was released outside the map
    if (!last || event.buttons === 0) return;
    path += Math.hypot(event.clientX - last.clientX, event.clientY - last.clientY);
    if (path < DRAG_START) return;
    drawing.setPointerCapture(event.pointerId);
    const before = middle();
    pointers.set(event.pointerId, event);
    const after = middle();
    if (before.size && after.size) zoomMap(map, after.size / before.size, scenePoint(map, after));
    const from = scenePoint(map, before), to = scenePoint(map, after);
    moveMap(map, from.x - to.x, from.y - to.y);
  });
  for (const name of ["pointerup", "pointercancel"]) drawing.addEventListener(name, (event) => pointers.delete(event.pointerId));
  drawing.addEventListener("click", (event) => {
    const index = path < DRAG_START ? chipNear(map, event) : undefined;
    if (index !== undefined) open(index);
  });
  drawing.addEventListener("wheel", (event) => {
    const lines = event.deltaMode ? event.deltaY * 16 : event.deltaY, before = map.view.width;
    zoomMap(map, Math.exp(-clamp(lines, -200, 200) / 300), scenePoint(map, event));
    if (map.view.width !== before) event.preventDefault(); // at the limits, the wheel scrolls the page
  }, { passive: false });
  drawing.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const { width, height } = map.view;
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (moves && isZoomed(map)) moveMap(map, moves[0] * PAN_STEP * width, moves[1] * PAN_STEP * height);
    else if (!zoomByKey(map, event.key)) return;
    event.preventDefault();
    event.stopPropagation();
  });
}

function zoomByKey(map, key) { // return whether it is a key of the map
  if (key === "+" || key === "=") zoomMap(map, 1.5);
  else if (key === "-") zoomMap(map, 1 / 1.5);
  else if (key === "0") showScene(map);
  else return false;
  return true;
}
