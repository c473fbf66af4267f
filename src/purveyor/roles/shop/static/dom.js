// DOM helpers. Foreign text is only ever inserted as text; nothing here parses HTML.

/** Create an element. Attributes that are `false` or `null` are omitted, `true` is an empty one; `on...` are listeners. */
export function h(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export const at = (id) => document.getElementById(id);

/** Replace the children of an element. */
export function fill(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter(Boolean));
  return element;
}

let count = 0;
/** A unique element id. */
export const newId = (stem) => `${stem}-${++count}`;

const SHOWN_MS = 5000;
const MARGIN = 12;
const STEP = 8;
const CONTROLS = ".button, button, input, select, textarea, summary, .foot a";

let hide = 0;
let kept = false;

/** Show and announce a status message without moving the focus. It ends with its view, or with `keep` with the next. */
export function say(text, { keep = false } = {}) {
  const status = at("status");
  clearTimeout(hide);
  kept = keep;
  status.textContent = "";
  requestAnimationFrame(() => {
    status.textContent = text;
    status.classList.add("shown");
    placeStatus();
  });
  hide = setTimeout(endStatus, SHOWN_MS);
}

const endStatus = () => at("status").classList.remove("shown");

/** Another view is shown: end the message, unless it was meant for this view. */
export function leaveStatus() {
  if (kept) kept = false;
  else endStatus();
}

/** Put the message where it covers no control; where there is no such place, only screen readers get it. */
export function placeStatus() {
  const status = at("status");
  if (!status.classList.contains("shown")) return;
  const { width, height } = status.getBoundingClientRect();
  const taken = [...document.querySelectorAll(CONTROLS)].map((control) => control.getBoundingClientRect());
  const free = (left, top) => !taken.some((box) => box.width && left < box.right + MARGIN && left + width > box.left - MARGIN
    && top < box.bottom + MARGIN && top + height > box.top - MARGIN);
  const lefts = [(innerWidth - width) / 2, MARGIN, innerWidth - width - MARGIN];
  const highest = document.querySelector(".bar").getBoundingClientRect().bottom;
  for (let top = innerHeight - height - MARGIN; top > highest; top -= STEP) {
    const left = lefts.find((one) => free(one, top));
    if (left !== undefined) {
      status.style.setProperty("top", `${top}px`);
      status.style.setProperty("left", `${left}px`);
      status.classList.remove("crowded");
      return;
    }
  }
  status.classList.add("crowded");
}

addEventListener("scroll", placeStatus, { passive: true });
addEventListener("resize", placeStatus);

/** A row of links. `entries`: [label, href, whether it is the current one]. */
export function chips(label, entries) {
  return h("nav", { class: "chips", "aria-label": label },
    entries.map(([text, href, current]) => h("a", { href, "aria-current": current && "true" }, text)));
}

/** Placeholder for an empty list. */
export function emptyState(heading, text, ...actions) {
  return h("div", { class: "empty" }, h("h2", {}, heading), h("p", {}, text), h("p", { class: "actions" }, actions));
}
