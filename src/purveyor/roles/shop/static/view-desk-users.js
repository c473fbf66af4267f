// Order desk: users, and for admins what each may do.

import { get, patch, withQuery } from "./api.js";
import { keys } from "./desk-keys.js";
import { deskTabs } from "./desk-tabs.js";
import { emptyState, fill, h, say } from "./dom.js";
import { alertBox, field, form } from "./forms.js";
import { date, word } from "./format.js";
import { user } from "./session.js";
import { pager } from "./view-orders.js";

const ROLES = ["customer", "staff", "admin"];

function accessOf(found, trouble) {
  if (user().role !== "admin" || found.id === user().user_id) return [word(found.role), found.blocked && h("span", { class: "status failed" }, "Blocked")];
  const save = async (members) => {
    try {
      Object.assign(found, await patch(`/user/${found.id}/access`, members));
      say(`${found.name}: ${word(found.role).toLowerCase()}${found.blocked ? ", blocked" : ""}.`);
    } catch (error) {
      fill(trouble, alertBox(error));
    }
    select.value = found.role;
    block.textContent = found.blocked ? "Unblock" : "Block";
  };
  const select = h("select", { "aria-label": `Role of ${found.name}`, onchange: () => save({ role: select.value }) }, ROLES.map((role) => h("option", { value: role }, word(role))));
  select.value = found.role;
  const block = h("button", { type: "button", class: "button small", onclick: () => save({ blocked: !found.blocked }) }, found.blocked ? "Unblock" : "Block");
  return h("span", { class: "access" }, select, block);
}

const row = (found, trouble) => h("tr", {},
  h("th", { scope: "row" }, h("a", { href: `#/desk/customers/${found.id}` }, found.name)),
  h("td", { "data-label": "Email" }, found.email),
  h("td", { class: "whole", "data-label": "Since" }, date(found.created_at)),
  h("td", { "data-label": "Role" }, accessOf(found, trouble)));

export async function usersView({ query, signal }) {
  keys(signal);
  const values = { q: query.get("q") ?? "", role: query.get("role") ?? "" };
  const search = form({ label: "Filters", action: "Search", submit: (given) => { location.hash = withQuery("#/desk/users", given); } },
    h("div", { class: "filters users-filters" },
      field({ label: "Name or email", name: "q", type: "search", maxlength: 200, value: values.q }),
      field({ label: "Role", name: "role", options: [["", "All"], ...ROLES.map((role) => [role, word(role)])], value: values.role })));
  const path = (cursor) => withQuery("/users", { ...values, limit: 50, cursor });
  const page = await get(path(null));
  const asPage = (one) => ({ ...one, orders: one.users });
  const trouble = h("div");
  const body = h("tbody");
  const more = pager({ path, first: asPage(page), read: asPage, add: (users) => body.append(...users.map((found) => row(found, trouble))), label: "Show more" });
  return {
    title: "Users",
    kind: "wide",
    content: [
      h("h1", {}, "Users"), deskTabs("users"), search, trouble,
      page.users.length === 0 ? emptyState("No users found", "No users match these filters.") : [
        h("div", { class: "table-holder" }, h("table", { class: "desk users" },
          h("caption", { class: "visually-hidden" }, "Users"),
          h("thead", {}, h("tr", {}, ["Name", "Email", "Since", "Role"].map((name) => h("th", { scope: "col" }, name)))), body)),
        more],
    ],
  };
}
