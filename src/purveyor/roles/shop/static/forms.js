// Forms: labeled fields, one submission at a time, and errors shown at their fields.

import { h, newId } from "./dom.js";
import { Problem } from "./http.js";
import { foreign, t } from "./text.js";

/**
 * A labeled field. `name` is also the last part of the JSON Pointer in the API's errors. `options`
 * ([value, label] pairs) makes it a select, `rows` a textarea.
 */
export function field({ label, name, hint, options, rows, value, ...attributes }) {
  const id = newId(name);
  const described = hint ? `${id}-hint` : null;
  const shared = { id, name, "aria-describedby": described, ...attributes };
  const control = options
    ? h("select", shared, options.map(([key, text]) => h("option", { value: key }, text)))
    : h(rows ? "textarea" : "input", { rows, ...shared });
  if (value !== undefined && value !== null) control.value = value;
  const optional = !attributes.required && !options && !["search", "date"].includes(attributes.type);
  return h("div", { class: "field" },
    h("label", { for: id }, label, optional && h("span", { class: "optional" }, ` (${t("optional")})`)),
    control,
    hint && h("p", { class: "hint", id: described }, hint));
}

/** A checkbox. */
export function checkbox({ label, name, checked = false, required = false }) {
  return h("label", { class: "tick" }, h("input", { id: newId(name), type: "checkbox", name, checked, required }), h("span", {}, label));
}

/** A group of radio buttons. `choices`: [value, content]. */
export function radios({ legend, name, choices, value, onchange = () => {} }) {
  return h("fieldset", { class: "radios" }, h("legend", {}, legend), choices.map(([key, content]) =>
    h("label", { class: "radio" },
      h("input", { type: "radio", name, value: key, checked: key === value, onchange }), h("span", {}, content))));
}

/** An element with a text of the API. */
function said(tag, attributes, message) {
  const { text, lang } = foreign(message);
  return h(tag, { ...attributes, lang }, text);
}

/** An alert with the problem's title, its detail and the errors that belong to no field. */
export function alertBox(error, loose = []) {
  const known = error instanceof Problem;
  if (!known) console.error(error);
  const detail = known && error.detail.replace(/\.$/, "") !== error.title ? error.detail : "";
  return h("div", { class: "alert", role: "alert", tabindex: "-1" },
    known ? said("strong", {}, error.title) : h("strong", {}, t("Something went wrong on this page")),
    detail && said("p", {}, detail),
    loose.length > 0 && h("ul", {}, loose.map((entry) =>
      entry.pointer ? h("li", {}, `${entry.pointer.slice(1)}: `, said("span", {}, entry.detail)) : said("li", {}, sentence(entry.detail)))),
    known && error.status >= 500 && error.requestId && h("p", { class: "hint" }, `${t("Request ID")}: ${error.requestId}`));
}

function clear(form) {
  form.querySelectorAll(".alert, .error").forEach((shown) => shown.remove());
  for (const control of form.querySelectorAll("[aria-invalid]")) {
    control.removeAttribute("aria-invalid");
    const described = (control.getAttribute("aria-describedby") ?? "").split(" ").filter((id) => !id.endsWith("-error"));
    if (described.join("")) control.setAttribute("aria-describedby", described.join(" "));
    else control.removeAttribute("aria-describedby");
  }
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

const pleaseCheck = (errors) => new Problem(422, {
  title: errors.length === 1 ? t("Please check the marked field") : t("Please check the marked fields"), errors,
});

/** Show a problem in a form: errors at their fields, the rest above the form. */
export function showProblem(form, error) {
  clear(form);
  const loose = [];
  let first = null;
  for (const entry of error.errors ?? []) {
    const control = form.querySelector(`[name="${CSS.escape(entry.pointer.split("/").pop())}"]`);
    const holder = control?.closest(".field, .tick");
    if (!holder) {
      loose.push(entry);
      continue;
    }
    const id = `${control.id}-error`;
    holder.append(said("p", { class: "error", id }, sentence(entry.detail)));
    control.setAttribute("aria-invalid", "true");
    control.setAttribute("aria-describedby", [control.getAttribute("aria-describedby"), id].filter(Boolean).join(" "));
    first ??= control;
  }
  const box = alertBox(first && loose.length === 0 && error.code === "invalid-input" ? pleaseCheck(error.errors) : error, loose);
  form.prepend(box);
  (first ?? box).focus();
}

/**
 * A form. `submit(values)` gets the non-empty values and may throw. Further submissions are ignored while it
 * runs. `action` is the text of the button, or a function for a text that changes.
 */
export function form({ label, action, busy = t("Please wait…"), submit, extra = [], kind = "primary" }, ...children) {
  const text = () => (typeof action === "function" ? action() : action);
  const button = h("button", { type: "submit", class: `button ${kind}` }, text());
  let running = false;
  const made = h("form", { "aria-label": label, novalidate: true, onsubmit: async (event) => {
    event.preventDefault();
    if (running) return;
    clear(made);
    const invalid = made.querySelector(":invalid:not(fieldset)");
    if (invalid) {
      showProblem(made, invalidFields(made));
      return;
    }
    running = true;
    button.setAttribute("aria-disabled", "true");
    button.textContent = busy;
    try {
      await submit(Object.fromEntries([...new FormData(made)].filter(([, value]) => value !== "")));
    } catch (error) {
      showProblem(made, error);
    } finally {
      running = false;
      button.removeAttribute("aria-disabled");
      button.textContent = text();
    }
  } }, children, h("p", { class: "actions" }, button, extra));
  return made;
}

/** The fault that the browser found in a control, in the language of the page instead of that of the browser. */
function faultOf({ validity, type, minLength, validationMessage }) {
  if (validity.valueMissing) return t("This field is required.");
  if (validity.typeMismatch && type === "email") return t("Enter an email address, such as ada@example.com.");
  if (validity.tooShort) return t("Enter at least {least} characters.", { least: minLength });
  return validationMessage;
}

/** The browser's own validation errors as a `Problem`. */
function invalidFields(made) {
  const errors = [...made.querySelectorAll(":invalid:not(fieldset)")].map((control) => ({
    pointer: `/${control.name}`, detail: faultOf(control),
  }));
  return pleaseCheck(errors);
}
