// The user's account: profile, email address, password, addresses, sessions and personal data.

import { addressFields, addressOf } from "./address-form.js";
import { get, patch, post, request } from "./api.js";
import { fill, h, say } from "./dom.js";
import { alertBox, checkbox, field, form } from "./forms.js";
import { addressLines, moment, word } from "./format.js";
import { Problem, send } from "./http.js";
import { forget, freshToken, signOut, update, user } from "./session.js";
import { t } from "./text.js";
import { emailField, languageField, newPassword, passwordField } from "./view-sign-in.js";

/** A titled part of the page. */
const panel = (id, title, ...content) => h("section", { class: "panel", "aria-labelledby": id }, h("h2", { id }, title), content);

/** A list that is read again after each change. `row(entry, change)`: `change(work)` does the work and reads again. */
async function entries(read, row, none) {
  const list = h("ul", { class: "entries" });
  const trouble = h("div");
  const change = async (work) => {
    fill(trouble);
    try {
      await work();
      await draw();
    } catch (error) {
      fill(trouble, alertBox(error));
    }
  };
  const draw = async () => {
    const found = await read();
    fill(list, found.length ? found.map((entry) => row(entry, change)) : h("li", { class: "muted" }, none));
  };
  await draw();
  return { list, trouble, draw, change };
}

const link = (text, label, onclick) => h("button", { type: "button", class: "link", "aria-label": label, onclick }, text);

function profilePanel(own, profile, again) {
  const save = async ({ name = "", phone, language }) => {
    const changed = await patch(own, { name, phone: phone ?? null, language });
    update(changed);
    await again();
    say(t("Your profile was saved."));
  };
  return panel("profile", t("Profile"),
    form({ label: t("Profile"), action: t("Save"), submit: save, kind: "" },
      field({ label: t("Name"), name: "name", required: true, maxlength: 200, autocomplete: "name", value: profile.name }),
      field({ label: t("Phone"), name: "phone", type: "tel", maxlength: 40, autocomplete: "tel", value: profile.phone }),
      languageField()));
}

function emailPanel(own, profile) {
  const change = async (values) => {
    await post(`${own}/email`, values);
    fill(result, h("div", { class: "notice", role: "status" },
      h("p", {}, t("We have sent an email to {email}. Your address changes when you open the link in it.", values))));
  };
  const result = h("div");
  return panel("email", t("Email"),
    h("p", { class: "muted" }, profile.email),
    result,
    h("details", {}, h("summary", {}, t("Change email address")),
      form({ label: t("Change email address"), action: t("Send confirmation"), submit: change, kind: "" },
        emailField(t("New email address"), { autocomplete: "email", hint: t("Enter your current address to get a new link to confirm it.") }), passwordField(t("Current password"), "password"))));
}

function passwordPanel(again) {
  const change = async ({ current_password, new_password }) => {
    await post("/password", { current_password, new_password });
    await again();
    say(t("Your password was changed. Other devices were signed out."));
  };
  return panel("password", t("Password"),
    h("details", {}, h("summary", {}, t("Change password")),
      form({ label: t("Change password"), action: t("Change password"), submit: change, kind: "" },
        passwordField(t("Current password"), "current_password"), newPassword(t("New password"), "new_password"))));
}

/** Form of a new or a known address. */
function addressForm(known, submit, cancel) {
  const title = known.id ? t("Edit address") : t("Add address");
  return form({
    label: title, action: t("Save"), kind: "",
    submit: (values) => submit({ ...addressOf(values), is_default: Boolean(values.is_default) }),
    extra: [cancel && h("button", { type: "button", class: "button", onclick: cancel }, t("Cancel"))],
  }, addressFields(known), checkbox({ label: t("Use as default address"), name: "is_default", checked: known.is_default ?? false }));
}

async function addressPanel(own) {
  const row = (address, change) => {
    const lines = addressLines(address);
    const name = lines.join(", ");
    const item = h("li");
    const edit = () => {
      const save = async (body) => {
        await request("PUT", `${own}/addresses/${address.id}`, { body });
        await book.draw();
      };
      const editing = addressForm(address, save, show);
      fill(item, editing);
      editing.querySelector("input").focus();
    };
    const show = () => fill(item,
      h("div", {}, lines.map((line) => h("p", {}, line)), address.is_default && h("span", { class: "pill" }, t("Default"))),
      h("p", { class: "actions" },
        link(t("Edit"), t("Edit address: {name}", { name }), edit),
        link(t("Delete"), t("Delete address: {name}", { name }), () => change(() => request("DELETE", `${own}/addresses/${address.id}`)))));
    show();
    return item;
  };
  const book = await entries(() => get(`${own}/addresses`), row, t("No saved addresses."));
  const adding = h("details", {}, h("summary", {}, t("Add address")));
  const blank = () => addressForm({ recipient: user().name }, async (body) => {
    await post(`${own}/addresses`, body);
    adding.open = false;
    fill(adding, adding.firstChild, blank());
    await book.draw();
  });
  adding.append(blank());
  return panel("addresses", t("Addresses"), book.list, book.trouble, adding);
}

async function sessionPanel(own) {
  const row = (session, change) => {
    const name = t(session.device || "Unknown device");
    const since = moment(session.created_at);
    return h("li", {},
      h("div", {},
        h("p", {}, name, session.current && [" ", h("span", { class: "pill" }, t("This device"))]),
        h("p", { class: "muted" }, t("Signed in {time}", { time: since })),
        h("p", { class: "muted" }, t("Last used {time}", { time: moment(session.refreshed_at) }))),
      !session.current && h("p", { class: "actions" },
        link(t("Sign out"), t("Sign out {name}, signed in {time}", { name, time: since }),
          () => change(() => request("DELETE", `${own}/sessions/${session.id}`)))));
  };
  const sessions = await entries(() => get(`${own}/sessions`), row, t("No other sessions."));
  const others = () => sessions.change(async () => {
    await request("DELETE", `${own}/sessions`);
    say(t("All other devices were signed out."));
  });
  return panel("sessions", t("Where you are signed in"), sessions.list, sessions.trouble,
    h("p", { class: "actions" }, h("button", { type: "button", class: "button", onclick: others }, t("Sign out all other devices"))));
}

/** Offer a JSON document as a file. */
function download(name, document) {
  const url = URL.createObjectURL(new Blob([JSON.stringify(document, null, 2)], { type: "application/json" }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** The error of a login as that of the password field. */
const wrongPassword = (error) => (error instanceof Problem && error.status === 401
  ? new Problem(422, { title: t("The current password is wrong"), errors: [{ pointer: "/password", detail: t("Is not the current password") }] })
  : error);

function dataPanel(own) {
  const trouble = h("div");
  const save = async () => {
    fill(trouble);
    try {
      const found = await get(`${own}/export`);
      download("personal-data.json", found);
      say(found.complete ? t("Your data was saved as a file.") : t("A part of your data was not ready. Try again in a minute for the rest."));
    } catch (error) {
      fill(trouble, alertBox(error));
    }
  };
  const leave = async ({ password, cancel_open_orders }) => {
    const token = await freshToken(password).catch((error) => { throw wrongPassword(error); });
    try {
      await send("DELETE", `${own}${cancel_open_orders ? "?cancel_open_orders=true" : ""}`, { token });
    } catch (error) {
      await send("POST", "/logout", { token }).catch(() => null); // ends the session of that token
      throw error;
    }
    location.hash = "#/";
    forget();
    say(t("Your account was deleted."), { keep: true });
  };
  return panel("data", t("Your data"),
    h("p", { class: "muted" }, t("Save everything that the shop knows about you as a JSON file.")),
    trouble,
    h("p", { class: "actions" }, h("button", { type: "button", class: "button", onclick: save }, t("Export my data"))),
    h("details", { class: "leave" }, h("summary", {}, t("Delete account")),
      form({ label: t("Delete account"), action: t("Delete account for good"), busy: t("Deleting…"), submit: leave, kind: "danger" },
        h("p", {}, t("Your account, your addresses and your sessions are deleted at once. Data of open orders is kept until they are delivered or cancelled.")),
        checkbox({ label: t("Cancel my open orders, where that is still possible"), name: "cancel_open_orders" }),
        passwordField(t("Current password"), "password"),
        checkbox({ label: t("I understand that this cannot be undone."), name: "sure", required: true }))));
}

export async function accountView({ again }) {
  const own = `/user/${user().user_id}`;
  const profile = await get(own);
  const leave = async () => {
    await signOut();
    location.hash = "#/";
  };
  return {
    title: t("Account"),
    kind: "slim",
    content: [
      h("div", { class: "head" }, h("h1", {}, t("Account")), h("button", { type: "button", class: "button", onclick: leave }, t("Sign out"))),
      profile.role !== "customer" && h("p", { class: "muted" }, h("span", { class: "pill" }, word(profile.role))),
      profilePanel(own, profile, again), emailPanel(own, profile), passwordPanel(again),
      await addressPanel(own),
      await sessionPanel(own).catch(() => null), // a foreign auth service need not have it
      dataPanel(own),
    ],
  };
}
