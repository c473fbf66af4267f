// Small bar charts as SVG.

import { h } from "./dom.js";

const SPACE = "http://www.w3.org/2000/svg";
const WIDTH = 600;
const HEIGHT = 100;

function svg(tag, properties, ...children) {
  const made = document.createElementNS(SPACE, tag);
  for (const [name, value] of Object.entries(properties)) made.setAttribute(name, value);
  made.append(...children.flat());
  return made;
}

/** A bar for each value. `labels` name the bars, `show(value)` writes a value; the last and the highest are named. */
export function bars({ title, values, labels, show }) {
  const most = Math.max(...values, 0);
  const step = WIDTH / values.length;
  const height = (value) => (most ? (value / most) * HEIGHT : 0);
  const shapes = values.map((value, place) => svg("rect", {
    class: "plot-bar", x: (place * step + step * 0.12).toFixed(1), width: (step * 0.76).toFixed(1),
    y: (HEIGHT - height(value)).toFixed(1), height: Math.max(height(value), value ? 1 : 0).toFixed(1), rx: 2,
  }, svg("title", {}, `${labels[place]}: ${show(value)}`)));
  const highest = values.indexOf(most);
  const picture = svg("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", class: "plot",
    "aria-label": `${title}. Highest: ${show(most)} on ${labels[highest]}. Latest: ${show(values.at(-1))}.`,
  }, svg("line", { class: "plot-base", x1: 0, x2: WIDTH, y1: HEIGHT, y2: HEIGHT }), shapes);
  return h("figure", { class: "panel figure" }, h("figcaption", {}, title),
    h("p", { class: "plot-text" }, `Highest: ${show(most)}`), picture,
    h("p", { class: "plot-text plot-ends" }, h("span", {}, labels[0]), h("span", {}, labels.at(-1))));
}
