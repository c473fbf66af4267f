// The user's orders, newest first.

import { get, withQuery } from "./api.js";
import { emptyState, fill, h } from "./dom.js";
import { alertBox } from "./forms.js";
import { counted, date, money, word } from "./format.js";
import { user } from "./session.js";
import { t } from "./text.js";

/** An order's status as a colored label. */
export const statusPill = (status) => h("span", { class: `status ${status}` }, word(status));

/**
 * Button that loads the next page. `path(cursor)` is the URL of a page, `add(orders)` shows its orders, `read(page)`
 * turns a page of something else into one of orders.
 */
export function pager({ path, add, first, label = t("Show older orders"), read = (page) => page }) {
  const holder = h("p", { class: "actions center" });
  const button = h("button", { type: "button", class: "button", onclick: async () => {
    if (button.getAttribute("aria-disabled")) return;
    button.setAttribute("aria-disabled", "true");
    try {
      take(read(await get(path(cursor))));
    } catch (error) {
      holder.after(alertBox(error));
    } finally {
      button.removeAttribute("aria-disabled");
    }
  } }, label);
  let cursor = null;
  function take(page) {
    cursor = page.next_cursor;
    add(page.orders);
    fill(holder, page.has_more && button);
  }
  take(first);
  return holder;
}

const row = (order) => h("li", {},
  h("a", { class: "order-row", href: `#/orders/${order.id}` },
    h("span", { class: "order-name" }, h("strong", {}, t("Order {number}", { number: order.order_number })), statusPill(order.status)),
    h("span", { class: "muted" }, `${date(order.created_at)} · ${counted(order.items.length, "product")}`),
    h("span", { class: "order-items" }, order.items.map((item) => item.title).join(", ")),
    h("span", { class: "price" }, money(order.total_amount, order.currency))));

export async function ordersView() {
  const mine = { user_id: user().role === "customer" ? "" : user().user_id }; // the API shows staff all orders
  const path = (cursor) => withQuery("/api/orders/", { ...mine, cursor });
  const first = await get(path(null));
  const heading = h("h1", {}, t("My orders"));
  if (!first.orders.length) {
    const action = h("a", { class: "button primary", href: "#/" }, t("Continue shopping"));
    return { title: t("My orders"), kind: "narrow", content: [heading, emptyState(t("No orders yet"), t("Your orders and their status will appear here."), action)] };
  }
  const list = h("ul", { class: "orders" });
  const more = pager({ path, first, add: (orders) => list.append(...orders.map(row)) });
  return { title: t("My orders"), kind: "narrow", content: [heading, list, more] };
}
