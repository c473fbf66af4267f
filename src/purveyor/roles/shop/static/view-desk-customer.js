// Order desk: one customer with addresses, orders and emails.

import { get, withQuery } from "./api.js";
import { keys } from "./desk-keys.js";
import { deskTabs } from "./desk-tabs.js";
import { fill, h } from "./dom.js";
import { addressLines, counted, date, languageName, moment, money, word } from "./format.js";
import { Problem } from "./http.js";
import { mailRow } from "./mail-panel.js";
import { pager, statusPill } from "./view-orders.js";

const MAILED_ORDERS = 10;

const row = (order) => h("li", {}, h("a", { class: "order-row", href: `#/desk/orders/${order.id}` },
  h("span", { class: "order-name" }, h("strong", {}, `Order ${order.order_number}`), statusPill(order.status)),
  h("span", { class: "muted" }, `${date(order.created_at)} · ${counted(order.items.length, "product")} · ${word(order.payment_status)}`),
  h("span", { class: "order-items" }, order.items.map((item) => item.title).join(", ")),
  h("span", { class: "price" }, money(order.total_amount, order.currency))));

/** The account, or `null` once it was deleted. */
const account = (id) => get(`/user/${id}`).catch((error) => {
  if (error instanceof Problem && error.status === 404) return null;
  throw error;
});

function facts(profile) {
  const rows = [
    ["Email", profile.email], profile.phone && ["Phone", profile.phone], ["Language", profile.language ? languageName(profile.language) : "–"],
    ["Role", word(profile.role)], ["Customer since", moment(profile.created_at)],
  ].filter(Boolean);
  return h("section", { class: "panel", "aria-labelledby": "account" }, h("h2", { id: "account" }, "Account"),
    h("dl", { class: "facts-list" }, rows.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])));
}

const addresses = (profile) => h("section", { class: "panel", "aria-labelledby": "addresses" },
  h("h2", { id: "addresses" }, "Addresses"),
  profile.addresses.length === 0 && h("p", { class: "muted" }, "No saved addresses."),
  profile.addresses.map((address) => h("address", {},
    addressLines(address).map((line) => h("span", { class: "address-line" }, line)),
    address.is_default && h("span", { class: "pill" }, "Default"))));

/** The emails about the newest orders, each order with a request of its own. */
async function mails(orders, draw) {
  const found = await Promise.all(orders.slice(0, MAILED_ORDERS).map((order) => get(withQuery("/api/mails", { order_id: order.id })).catch(() => ({ mails: [] }))));
  const all = found.flatMap((one) => one.mails).sort((one, other) => other.created_at.localeCompare(one.created_at));
  return h("section", { class: "panel", "aria-labelledby": "mails" }, h("h2", { id: "mails" }, "Emails about the newest orders"),
    all.length ? h("ul", { class: "mail-rows" }, all.map((mail) => mailRow(mail, draw))) : h("p", { class: "muted" }, "No emails yet."));
}

export async function customerView({ parameter: id, signal }) {
  keys(signal);
  const path = (cursor) => withQuery("/api/orders/", { user_id: id, cursor });
  const [profile, first] = await Promise.all([account(id), get(path(null))]);
  const list = h("ul", { class: "orders" });
  const more = pager({ path, first, add: (orders) => list.append(...orders.map(row)) });
  const box = h("div");
  const draw = async () => { fill(box, await mails(first.orders, draw)); };
  draw();
  const name = profile?.name ?? "Deleted account";
  return {
    title: name,
    kind: "wide",
    content: [
      h("h1", {}, name), deskTabs("users"),
      !profile && h("p", { class: "muted" }, "This account does not exist or was deleted."),
      h("div", { class: "columns" },
        h("div", { class: "stack" },
          h("section", { "aria-labelledby": "orders" }, h("h2", { id: "orders" }, "Orders"),
            first.orders.length === 0 && h("p", { class: "muted" }, "No orders yet."), list, more), box),
        profile && h("div", { class: "stack" }, facts(profile), addresses(profile))),
    ],
  };
}
