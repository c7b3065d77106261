"use strict";
/* The data of the page, and helpers that make elements. The page joins dom.js, labels.js, map.js and page.js in this order. */

const data = JSON.parse(document.getElementById("data").textContent);
const get = (id) => document.getElementById(id);
const colors = Object.fromEntries(data.classes.map(({ name, color }) => [name, color]));
const percent = (value) => `${(100 * value).toFixed(1)} %`;

/* What the script of a page with an addition replaces */
const hooks = {
  next: (list, position) => list[position + 1], // index of the chip that opens after a label
  changed: () => {}, // called after labels changed
  opened: () => {}, // called with the index of the chip in the panel
  pressed: () => false, // called with a key of the panel; whether it has a meaning
  ready: () => {}, // called once
};

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) element[key] = value;
  element.append(...children);
  return element;
}

function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function dot(name) {
  const mark = make("span", { className: "dot" });
  if (Object.hasOwn(colors, name)) mark.style.background = colors[name];
  else mark.classList.add("hollow");
  return mark;
}
