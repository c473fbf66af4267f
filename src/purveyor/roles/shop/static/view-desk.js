// Order desk: all orders, with filters and CSV export.

import { get, request, withQuery } from "./api.js";
import { chips, emptyState, fill, h, say } from "./dom.js";
import { field, form, showProblem } from "./forms.js";
import { counted, moment, money, word } from "./format.js";
import { pager, statusPill } from "./view-orders.js";

const STATUSES = ["pending", "confirmed", "shipped", "delivered", "cancelled"];
const FILTERS = ["status", "order_number", "user_id", "from", "to"];

/** Tabs of the desk. */
export const deskTabs = (here) => chips("Desk", [
  ["Orders", "#/desk", here === "orders"],
  ["Emails", "#/desk/mails", here === "mails"],
  ["Dead letters", "#/desk/dead-letters", here === "letters"],
]);

/** Start of a local day plus `days`, as an RFC 3339 time. */
function dayStart(text, days = 0) {
  if (!text) return "";
  const [year, month, day] = text.split("-").map(Number);
  return new Date(year, month - 1, day + days).toISOString();
}

/** The filters as API query parameters; the last day is included. */
const apiQuery = (values) => ({
  status: values.status, order_number: values.order_number, user_id: values.user_id,
  created_from: dayStart(values.from), created_to: dayStart(values.to, 1),
});

async function exportCsv(values) {
  const response = await request("GET", withQuery("/api/orders/export.csv", apiQuery(values)), { timeoutMs: 0 });
  const address = URL.createObjectURL(await response.blob());
  h("a", { href: address, download: "orders.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
  say("Orders saved as orders.csv.");
}

function filters(values) {
  const apply = (given) => {
    const next = withQuery("#/desk", given);
    if (next === location.hash) dispatchEvent(new HashChangeEvent("hashchange"));
    else location.hash = next;
  };
  const download = h("button", { type: "button", class: "button", onclick: () => exportCsv(values).catch((error) => showProblem(made, error)) }, "Export CSV");
  const reset = FILTERS.some((name) => values[name]) && h("a", { href: "#/desk" }, "Clear filters");
  const made = form({ label: "Filters", action: "Filter", submit: apply, extra: [download, reset] },
    h("div", { class: "filters" },
      field({ label: "Status", name: "status", options: [["", "All"], ...STATUSES.map((status) => [status, word(status)])], value: values.status }),
      field({ label: "Order number", name: "order_number", type: "search", inputmode: "numeric", value: values.order_number }),
      field({ label: "Customer ID", name: "user_id", type: "search", value: values.user_id }),
      field({ label: "From", name: "from", type: "date", value: values.from }),
      field({ label: "To", name: "to", type: "date", value: values.to })));
  return made;
}

const row = (order) => h("tr", {},
  h("th", { scope: "row" }, h("a", { href: `#/desk/orders/${order.id}` }, order.order_number)),
  h("td", {}, statusPill(order.status)),
  h("td", { "data-label": "Payment" }, word(order.payment_status)),
  h("td", { "data-label": "Placed" }, moment(order.created_at)),
  h("td", { "data-label": "Ship to" }, order.shipping_address?.recipient ?? "–"),
  h("td", { "data-label": "Items" }, counted(order.items.length, "item")),
  h("td", { class: "number", "data-label": "Total" }, money(order.total_amount, order.currency)));

const HEADS = ["Order", "Status", "Payment", "Placed", "Ship to", "Items"];

export async function deskView({ query }) {
  const values = Object.fromEntries(FILTERS.map((name) => [name, query.get(name) ?? ""]));
  const panel = filters(values);
  const path = (cursor) => withQuery("/api/orders/", { ...apiQuery(values), limit: 50, cursor });
  const page = (...content) => ({ title: "Order desk", kind: "wide", content: [h("h1", {}, "Order desk"), deskTabs("orders"), panel, content] });
  const first = await get(path(null)).catch((error) => error);
  if (first instanceof Error) {
    showProblem(panel, asFilters(first));
    return page();
  }
  if (!first.orders.length) return page(emptyState("No orders found", "No orders match these filters."));
  const body = h("tbody");
  const add = (orders) => body.append(...orders.map(row));
  const more = pager({ path, first, add, label: "Show more" });
  return page(
    h("div", { class: "table-holder" }, h("table", { class: "desk" },
      h("caption", { class: "visually-hidden" }, "Orders, newest first"),
      h("thead", {}, h("tr", {}, HEADS.map((name) => h("th", { scope: "col" }, name)), h("th", { scope: "col", class: "number" }, "Total"))), body)),
    more);
}

/** Map the API's parameter names to those of the fields. */
function asFilters(problem) {
  const names = { "/created_from": "/from", "/created_to": "/to" };
  problem.errors = (problem.errors ?? []).map((entry) => ({ ...entry, pointer: names[entry.pointer] ?? entry.pointer }));
  return problem;
}
