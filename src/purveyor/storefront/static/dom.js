// Elements from data. Text from outside reaches the page only as text: nothing here parses HTML.

/** A new element. `properties`: attributes by name (`false`, `null`: left out; `true`: empty), listeners as `onclick`. */
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

/** Replace what is inside an element. */
export function fill(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter(Boolean));
  return element;
}

let count = 0;
/** An id that no other element of this page has. */
export const newId = (stem) => `${stem}-${++count}`;

let hide = 0;
/** Say something that happened, to eyes and to screen readers, without taking the focus. */
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

/** A choice as a row of links, the present one marked. `entries`: [label, href, whether it is the present one]. */
export function chips(label, entries) {
  return h("nav", { class: "chips", "aria-label": label },
    entries.map(([text, href, here]) => h("a", { href, "aria-current": here && "true" }, text)));
}

/** What a page shows where there is nothing to show. */
export function emptyState(heading, text, ...actions) {
  return h("div", { class: "empty" }, h("h2", {}, heading), h("p", {}, text), h("p", { class: "actions" }, actions));
}
