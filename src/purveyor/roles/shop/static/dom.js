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

let hide = 0;
/** Show and announce a status message without moving the focus. */
export function say(text) {
  const status = at("status");
  clearTimeout(hide);
  status.textContent = "";
  requestAnimationFrame(() => {
    status.textContent = text;
    status.classList.add("shown");
  });
  hide = setTimeout(() => status.classList.remove("shown"), 5000);
}

/** A row of links. `entries`: [label, href, whether it is the current one]. */
export function chips(label, entries) {
  return h("nav", { class: "chips", "aria-label": label },
    entries.map(([text, href, current]) => h("a", { href, "aria-current": current && "true" }, text)));
}

/** Placeholder for an empty list. */
export function emptyState(heading, text, ...actions) {
  return h("div", { class: "empty" }, h("h2", {}, heading), h("p", {}, text), h("p", { class: "actions" }, actions));
}
