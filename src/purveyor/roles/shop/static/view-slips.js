// Packing slips for printing: one page per order, with what goes into the parcel and no prices.

import { get } from "./api.js";
import { keys } from "./desk-keys.js";
import { listLink } from "./desk-tabs.js";
import { emptyState, h } from "./dom.js";
import { addressLines, date } from "./format.js";

const AT_ONCE = 6;

/** The orders, a few requests at a time. */
async function read(ids) {
  const found = new Array(ids.length);
  let next = 0;
  const reader = async () => {
    while (next < ids.length) {
      const place = next++;
      found[place] = await get(`/api/orders/${ids[place]}`);
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, ids.length) }, reader));
  return found;
}

function slip(order, shop) {
  const address = order.shipping_address;
  const pieces = order.items.reduce((sum, item) => sum + item.quantity, 0);
  return h("article", { class: "slip", "aria-label": `Packing slip for order ${order.order_number}` },
    h("header", {}, h("h2", {}, "Packing slip"), h("p", {}, shop)),
    h("div", { class: "slip-head" },
      h("address", {}, address ? addressLines(address).map((line) => h("span", { class: "address-line" }, line)) : order.buyer?.name ?? "No shipping address"),
      h("dl", {}, h("dt", {}, "Order"), h("dd", {}, order.order_number), h("dt", {}, "Placed"), h("dd", {}, date(order.created_at)))),
    h("table", { class: "items" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, h("span", { class: "visually-hidden" }, "Packed")), h("th", { scope: "col" }, "Product"), h("th", { scope: "col" }, "Number"), h("th", { scope: "col", class: "number" }, "Quantity"))),
      h("tbody", {}, order.items.map((item) => h("tr", {}, h("td", { class: "box" }, "☐"), h("td", {}, item.title), h("td", {}, String(item.product_id)), h("td", { class: "number" }, item.quantity)))),
      h("tfoot", {}, h("tr", {}, h("th", { scope: "row", colspan: 3 }, "Pieces"), h("td", { class: "number" }, pieces)))),
    order.note && h("div", { class: "slip-note" }, h("h3", {}, "Note"), h("p", {}, order.note)));
}

export async function slipsView({ query, signal, config }) {
  keys(signal);
  const ids = (query.get("ids") ?? "").split(",").filter(Boolean);
  const orders = await read(ids);
  return {
    title: "Packing slips",
    content: [
      h("div", { class: "no-print" },
        h("h1", {}, "Packing slips"),
        h("p", { class: "actions" },
          orders.length > 0 && h("button", { type: "button", class: "button primary", onclick: () => print() }, "Print"),
          h("a", { href: listLink() }, "Back to the orders"))),
      orders.length ? orders.map((order) => slip(order, config.name ?? "")) : emptyState("No orders selected", "Select orders at the desk first."),
    ],
  };
}
