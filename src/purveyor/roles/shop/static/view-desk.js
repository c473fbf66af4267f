// Order desk: search, filters, and actions on one or many orders. The URL holds what is shown.

import { get, post, request, withQuery } from "./api.js";
import { changeOrder } from "./desk-change.js";
import { keys } from "./desk-keys.js";
import { deskTabs, queues, rememberList } from "./desk-tabs.js";
import { emptyState, fill, h, say } from "./dom.js";
import { field, form, showProblem } from "./forms.js";
import { counted, moment, money, word } from "./format.js";
import { Problem } from "./http.js";
import { HOLD_S } from "./undo.js";
import { pager, statusPill } from "./view-orders.js";

const STATUSES = ["pending", "confirmed", "shipped", "delivered", "cancelled"];
const PAYMENTS = ["unpaid", "paid", "refunded"];
const SORTS = [["", "Newest first"], ["created_at", "Oldest first"], ["-total_amount", "Highest total"], ["total_amount", "Lowest total"]];
const FILTERS = ["q", "status", "payment_status", "sort", "from", "to", "mail_trouble"];
const PAGE = 50;

/** Start of a local day plus `days`, as an RFC 3339 time. */
function dayStart(text, days = 0) {
  if (!text) return "";
  const [year, month, day] = text.split("-").map(Number);
  return new Date(year, month - 1, day + days).toISOString();
}

/** The filters as API query parameters; the last day is included. */
const apiQuery = ({ from, to, sort, ...others }) => ({ ...others, created_from: dayStart(from), created_to: dayStart(to, 1) });

async function save(values, format, rows) {
  const response = await request("GET", withQuery("/api/orders/export.csv", { ...apiQuery(values), format, rows }), { timeoutMs: 0 });
  const address = URL.createObjectURL(await response.blob());
  h("a", { href: address, download: `${rows}.${format}` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
  say(`${word(rows)} saved as ${rows}.${format}.`);
}

const choice = (names) => [["", "All"], ...names.map((name) => [name, word(name)])];

/** The fields beside the search. On a phone they are folded, unless one is used, so that the orders come sooner. */
function moreFilters(values, signal) {
  const fields = h("div", { class: "filters" },
    field({ label: "Status", name: "status", options: choice(STATUSES), value: values.status }),
    field({ label: "Payment", name: "payment_status", options: choice(PAYMENTS), value: values.payment_status }),
    field({ label: "Sort by", name: "sort", options: SORTS, value: values.sort }),
    field({ label: "From", name: "from", type: "date", value: values.from }),
    field({ label: "To", name: "to", type: "date", value: values.to }));
  const made = h("details", { class: "more-filters" }, h("summary", {}, "Filters"), fields);
  const phone = matchMedia("(max-width: 48rem)");
  const used = ["payment_status", "sort", "from", "to"].some((name) => values[name]);
  const fold = () => { made.open = used || !phone.matches; };
  phone.addEventListener("change", fold, { signal });
  fold();
  return made;
}

function filters(values, signal) {
  const apply = (given) => {
    if (given.from > given.to) throw wrongDates();
    const next = withQuery("#/desk", { ...given, mail_trouble: values.mail_trouble });
    if (next === location.hash) dispatchEvent(new HashChangeEvent("hashchange"));
    else location.hash = next;
  };
  const download = (label, format, rows) => h("button", { type: "button", class: "button", onclick: () => save(values, format, rows).catch((error) => showProblem(made, error)) }, label);
  const reset = FILTERS.some((name) => values[name]) && h("a", { href: "#/desk" }, "Clear filters");
  const made = form({ label: "Filters", action: "Search", submit: apply, extra: [download("Export CSV", "csv", "orders"), download("Export Excel", "xlsx", "orders"), download("Export items", "xlsx", "items"), reset] },
    field({ label: "Search", name: "q", type: "search", maxlength: 200, value: values.q, autocomplete: "off", "aria-keyshortcuts": "/", placeholder: "Order number, name, email, phone or product" }),
    moreFilters(values, signal));
  for (const select of made.querySelectorAll("select")) select.addEventListener("change", () => made.requestSubmit());
  return made;
}

const buyerOf = (order) => order.buyer
  ? [h("a", { class: "buyer", href: `#/desk/customers/${order.user_id}` }, order.buyer.name), h("span", { class: "muted mail" }, order.buyer.email)]
  : "–";

const cells = (order) => [
  h("th", { scope: "row" }, h("a", { href: `#/desk/orders/${order.id}` }, order.order_number)),
  h("td", {}, statusPill(order.status)),
  h("td", { "data-label": "Payment" }, word(order.payment_status)),
  h("td", { class: "whole", "data-label": "Placed" }, moment(order.created_at)),
  h("td", { "data-label": "Buyer" }, h("span", { class: "two-lines" }, buyerOf(order))),
  h("td", { class: "whole", "data-label": "Items" }, counted(order.items.length, "item")),
  h("td", { class: "number", "data-label": "Total" }, money(order.total_amount, order.currency)),
];

const HEADS = ["Order", "Status", "Payment", "Placed", "Buyer", "Items"];

/** The table: its rows, which of them are selected, and the one that the keyboard is at. */
class Orders {
  constructor(changed) {
    this.changed = changed;
    this.rows = new Map();
    this.body = h("tbody");
    this.bar = h("div", { class: "bulk", hidden: true, role: "region", "aria-label": "Selected orders" });
    this.all = h("input", { type: "checkbox", "aria-label": "Select all orders shown", onchange: () => this.selectAll(this.all.checked) });
  }

  add(orders) {
    for (const order of orders) {
      const box = h("input", { type: "checkbox", "aria-label": `Select order ${order.order_number}`, onchange: () => this.drawBar() });
      const row = h("tr", {}, h("td", { class: "tick-cell" }, box), cells(order));
      this.rows.set(order.id, { order, box, row });
      this.body.append(row);
    }
    this.all.checked = false;
    history.replaceState({ ...history.state, count: this.rows.size }, "");
  }

  selected() {
    return [...this.rows.values()].filter(({ box }) => box.checked).map(({ order }) => order.id);
  }

  selectAll(on) {
    for (const { box } of this.rows.values()) box.checked = on;
    this.drawBar();
  }

  drawBar() {
    const ids = this.selected();
    this.all.checked = ids.length > 0 && ids.length === this.rows.size;
    this.all.indeterminate = ids.length > 0 && ids.length < this.rows.size;
    this.bar.hidden = ids.length === 0;
    const act = (label, action, kind = "") => h("button", { type: "button", class: `button small ${kind}`, onclick: () => this.start(action) }, label);
    fill(this.bar, h("strong", {}, `${counted(ids.length, "order")} selected`),
      act("Confirm", "confirm", "primary"), act("Mark as shipped", "ship"),
      h("a", { class: "button small", href: `#/desk/slips?ids=${ids.join(",")}` }, "Print packing slips"),
      h("button", { type: "button", class: "link", onclick: () => this.selectAll(false) }, "Clear selection"));
  }

  async start(action) {
    const job = await post("/api/orders/jobs", { action, order_ids: this.selected(), hold_mail_s: HOLD_S }).catch((error) => error);
    if (job instanceof Error) say(job.message);
    else location.hash = `#/desk/jobs/${job.id}`;
  }

  /** The entry of the row with the focus. */
  current() {
    return [...this.rows.values()].find(({ row }) => row.contains(document.activeElement));
  }

  step(by) {
    const rows = [...this.rows.values()];
    const next = rows[Math.min(Math.max(rows.indexOf(this.current()) + by, 0), rows.length - 1)];
    next?.row.querySelector("th a").focus();
    next?.row.scrollIntoView({ block: "nearest" });
  }

  toggle() {
    const entry = this.current();
    if (!entry) return;
    entry.box.checked = !entry.box.checked;
    this.drawBar();
  }

  async change(status) {
    const entry = this.current();
    if (!entry) return;
    try {
      await changeOrder(entry.order, { status }, () => this.redraw(entry));
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      say(error.message);
      await this.redraw(entry);
    }
  }

  async redraw(entry) {
    entry.order = await get(`/api/orders/${entry.order.id}`);
    const focused = entry.row.contains(document.activeElement);
    fill(entry.row, h("td", { class: "tick-cell" }, entry.box), cells(entry.order));
    if (focused) entry.row.querySelector("th a").focus();
    this.changed();
  }
}

/** As many orders as were shown before Back, page by page. */
async function firstPages(path) {
  let page = await get(path(null));
  const wanted = Math.min(history.state?.count ?? 0, 500);
  while (page.has_more && page.orders.length < wanted) {
    const next = await get(path(page.next_cursor));
    page = { ...next, orders: [...page.orders, ...next.orders] };
  }
  return page;
}

export async function deskView({ query, signal }) {
  const values = Object.fromEntries(FILTERS.map((name) => [name, query.get(name) ?? ""]));
  rememberList(withQuery("#/desk", values));
  const panel = filters(values, signal);
  const search = panel.querySelector("[name=q]");
  const focusSearch = () => { search.focus(); search.select(); };
  const waiting = queues(withQuery("#/desk", values), signal);
  const path = (cursor) => withQuery("/api/orders/", { ...apiQuery(values), sort: values.sort, limit: PAGE, cursor });
  const mounted = () => { if (query.has("focus")) focusSearch(); };
  const page = (...content) => ({ title: "Order desk", kind: "wide", mounted, content: [h("h1", {}, "Order desk"), deskTabs("orders"), waiting.bar, panel, content] });
  const orders = new Orders(waiting.refresh);
  keys(signal, {
    "/": focusSearch, j: () => orders.step(1), k: () => orders.step(-1), x: () => orders.toggle(),
    c: () => orders.change("confirmed"), s: () => orders.change("shipped"),
  });
  const first = await firstPages(path).catch((error) => error);
  if (first instanceof Error) {
    showProblem(panel, asFilters(first));
    return page();
  }
  if (!first.orders.length) return page(emptyState("No orders found", "No orders match these filters."));
  const more = pager({ path, first, add: (added) => orders.add(added), label: "Show more" });
  return page(
    orders.bar,
    h("div", { class: "table-holder" }, h("table", { class: "desk" },
      h("caption", { class: "visually-hidden" }, "Orders"),
      h("thead", {}, h("tr", {}, h("td", { class: "tick-cell" }, orders.all), HEADS.map((name) => h("th", { scope: "col" }, name)), h("th", { scope: "col", class: "number" }, "Total"))), orders.body)),
    more);
}

const wrongDates = () => new Problem(422, {
  title: "Please check the marked field", errors: [{ pointer: "/to", detail: "The last day must not be before the first." }],
});

/** Map the API's parameter names to those of the fields. */
function asFilters(problem) {
  const names = { "/created_from": "/from", "/created_to": "/to" };
  problem.errors = (problem.errors ?? []).map((entry) => ({ ...entry, pointer: names[entry.pointer] ?? entry.pointer }));
  return problem;
}
