// Show the definition of a term beside it, also under the mouse and at the focus. Without this script, a click shows it
// at the edge of the window.
for (const term of document.querySelectorAll(".term")) {
  const definition = document.getElementById(term.getAttribute("popovertarget"));
  const place = () => {
    const box = term.getBoundingClientRect();
    const left = Math.min(box.left, innerWidth - definition.offsetWidth - 8);
    const below = box.bottom + 6;
    const top = below + definition.offsetHeight < innerHeight ? below : box.top - definition.offsetHeight - 6;
    definition.style.inset = `${Math.max(8, top)}px auto auto ${Math.max(8, left)}px`;
  };
  const show = () => {
    if (!definition.matches(":popover-open")) definition.showPopover();
    place();
  };
  const hide = () => definition.matches(":popover-open") && definition.hidePopover();
  term.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && show());
  term.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hide());
  term.addEventListener("focus", () => term.matches(":focus-visible") && show());
  term.addEventListener("blur", hide);
  term.addEventListener("click", () => setTimeout(place));
  addEventListener("scroll", hide, { passive: true });
}
