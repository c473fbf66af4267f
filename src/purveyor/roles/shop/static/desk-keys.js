// Keyboard shortcuts of the order desk.

import { h } from "./dom.js";

const HELP = [
  ["/", "Search orders"], ["j", "Next order"], ["k", "Previous order"], ["Enter", "Open the order"],
  ["x", "Select the order"], ["c", "Confirm"], ["s", "Mark as shipped"], ["?", "Show this help"],
];

function help() {
  const close = h("button", { type: "button", class: "button", onclick: () => dialog.close() }, "Close");
  const dialog = h("dialog", { class: "help", "aria-labelledby": "help-title", onclose: () => dialog.remove() },
    h("h2", { id: "help-title" }, "Keyboard shortcuts"),
    h("dl", {}, HELP.map(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)])),
    h("p", { class: "actions" }, close));
  document.body.append(dialog);
  dialog.showModal();
}

const typing = (target) => target instanceof Element && target.closest("input:not([type=checkbox]), textarea, select, [contenteditable], dialog");

/** Handle keys until `signal` aborts. `actions`: a function for each key. */
export function keys(signal, actions = {}) {
  const all = { "?": help, "/": () => { location.hash = "#/desk?focus=search"; }, ...actions };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || typing(event.target)) return;
    const action = all[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  }, { signal });
}
