// One order: status, items and timeline; for staff also status changes and emails.

import { get, post, request } from "./api.js";
import { fill, h, say } from "./dom.js";
import { field, form } from "./forms.js";
import { productLink } from "./catalog.js";
import { addressLines, date, money, payment, word } from "./format.js";
import { address } from "./http.js";
import { isStaff, user } from "./session.js";
import { t } from "./text.js";
import { changePanel } from "./change-order.js";
import { correctPanel } from "./correct-order.js";
import { cancelOrder } from "./desk-change.js";
import { keys } from "./desk-keys.js";
import { listLink } from "./desk-tabs.js";
import { mailPanel } from "./mail-panel.js";
import { notesPanel } from "./notes-panel.js";
import { timeline } from "./timeline.js";
import { endUndo, offerUndo } from "./undo.js";
import { statusPill } from "./view-orders.js";

const WAY = ["pending", "confirmed", "shipped", "delivered"];

/** The status as a row of steps. */
function progress(status) {
  if (status === "cancelled") return null;
  const reached = WAY.indexOf(status);
  return h("ol", { class: "progress", "aria-label": t("Progress") }, WAY.map((step, place) =>
    h("li", { class: place <= reached && "done", "aria-current": place === reached && "step" }, step === "pending" ? t("Placed") : word(step))));
}

function contents(order) {
  return h("section", { class: "panel", "aria-labelledby": "contents" },
    h("h2", { id: "contents" }, t("Items")),
    h("table", { class: "items" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, t("Product")), h("th", { scope: "col", class: "number" }, t("Quantity")), h("th", { scope: "col", class: "number" }, t("Amount")))),
      h("tbody", {}, order.items.map((item) => h("tr", {},
        h("td", {}, h("a", { href: productLink(item.product_id) }, item.title), h("span", { class: "muted each" }, t("{price} each", { price: money(item.price, order.currency) }))),
        h("td", { class: "number" }, item.quantity),
        h("td", { class: "number" }, money(item.total_amt, order.currency))))),
      h("tfoot", {}, h("tr", {}, h("th", { scope: "row", colspan: 2 }, t("Total")), h("td", { class: "number" }, money(order.total_amount, order.currency))))));
}

/** How to pay an order by bank transfer, as long as it is to be paid. */
function howToPay(order, bank) {
  if (order.payment_method !== "bank_transfer" || order.payment_status !== "unpaid" || order.status === "cancelled" || !bank.length) return null;
  const amount = money(order.total_amount, order.currency);
  return h("section", { class: "panel", "aria-labelledby": "pay" },
    h("h2", { id: "pay" }, t("How to pay")),
    h("p", {}, t("Please transfer {amount} to this account, with {number} as the payment reference:", { amount, number: order.order_number })),
    h("p", {}, bank.map((line) => h("span", { class: "address-line" }, line))));
}

function facts(order, staff) {
  const shipTo = order.shipping_address;
  const rows = [
    [t("Payment"), `${payment(order.payment_method)} · ${word(order.payment_status)}`],
    [t("Ship to"), shipTo ? addressLines(shipTo).map((line) => h("span", { class: "address-line" }, line)) : t("No shipping address")],
    order.note && [t("Note"), order.note],
    staff && ["Buyer", [h("a", { href: `#/desk/customers/${encodeURIComponent(order.user_id)}` }, order.buyer?.name || order.user_id),
      order.buyer && h("span", { class: "address-line" }, h("a", { href: `mailto:${order.buyer.email}` }, order.buyer.email))]],
  ].filter(Boolean);
  return h("section", { class: "panel", "aria-labelledby": "facts" },
    h("h2", { id: "facts" }, t("Shipping and payment")),
    h("dl", { class: "facts-list" }, rows.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])));
}

const canCancel = (order) => ["pending", "confirmed"].includes(order.status);

function cancelPanel(order, done, desk) {
  const submit = async ({ reason }) => {
    if (desk) return cancelOrder(order, reason, done);
    await post(`/api/orders/${order.id}/cancel`, reason ? { reason } : {});
    say(t("Order {number} was cancelled.", { number: order.order_number }));
    return done();
  };
  return h("details", { class: "panel cancel" },
    h("summary", {}, t("Cancel order")),
    form({ label: t("Cancel order"), action: t("Cancel order"), busy: t("Cancelling…"), kind: "danger", submit },
      field({ label: t("Reason"), name: "reason", rows: 2, maxlength: 500 })));
}

/** Emails about the order in the development mailbox. */
async function mailboxPanel(order) {
  const found = await get("/mailbox/messages?limit=200");
  const number = new RegExp(`(?<!\\d)${order.order_number}(?!\\d)`);
  const own = found.filter((mail) => number.test(mail.subject)).reverse();
  return h("section", { class: "panel", "aria-labelledby": "mailbox" },
    h("h2", { id: "mailbox" }, t("Emails in the development mailbox")),
    own.length === 0 && h("p", { class: "muted" }, t("No emails yet.")),
    own.map((mail) => h("details", { class: "mail-shown" },
      h("summary", {}, mail.subject),
      h("pre", { tabindex: 0 }, mail.text),
      h("p", {}, h("a", { href: address(`/mailbox#${encodeURIComponent(mail.id)}`).href }, t("Open in mailbox"))))));
}

async function read(id) {
  const response = await request("GET", `/api/orders/${id}`);
  return { order: await response.json(), etag: response.headers.get("ETag") };
}

export async function orderView({ parameter: id, path, query, signal, config }) {
  const desk = path.startsWith("/desk");
  const staff = isStaff();
  const parts = { head: h("div"), way: h("div"), change: h("div"), pay: h("div"), facts: h("div"), cancel: h("div"), mails: h("div"), box: h("div"), notes: h("div"), correct: h("div") };
  let current = await read(id);
  let drawn = null;

  /** Update the page. An unchanged cancel form is kept, because the user may be typing in it. */
  function draw(trouble = null) {
    const { order, etag } = current;
    if (etag === drawn && !trouble) return;
    drawn = etag;
    const lost = [parts.change, parts.cancel].some((part) => part.contains(document.activeElement));
    fill(parts.head, h("h1", { tabindex: -1 }, t("Order {number}", { number: order.order_number })), statusPill(order.status),
      h("p", { class: "muted" }, t("Placed on {date}", { date: date(order.created_at) }), " · ", money(order.total_amount, order.currency)));
    fill(parts.way, progress(order.status));
    if (!desk) fill(parts.pay, howToPay(order, config.bank_details));
    fill(parts.facts, facts(order, desk));
    if (!canCancel(order) || !parts.cancel.firstChild) fill(parts.cancel, canCancel(order) && cancelPanel(order, refresh, desk));
    if (desk) fill(parts.change, changePanel(current, { reload: refresh, trouble }));
    if (desk && user().role === "admin") fill(parts.correct, correctPanel(current, refresh));
    if (lost && document.activeElement === document.body) (parts.change.querySelector("button") ?? parts.head.querySelector("h1")).focus();
  }

  function deskOnly() {
    notesPanel(id).then((panel) => fill(parts.notes, panel), () => null);
    if (current.order.undo_until) offerUndo(current.order, word(current.order.status).toLowerCase(), refresh);
    const press = (label) => [...parts.change.querySelectorAll("button")].find((button) => button.textContent === label)?.click();
    keys(signal, { c: () => press("Confirm"), s: () => press("Mark as shipped") });
  }

  async function showMails() {
    if (desk) fill(parts.mails, await mailPanel(id).catch(() => null));
    if (config.mailbox) fill(parts.box, await mailboxPanel(current.order).catch(() => null));
  }

  async function refresh(trouble = null) {
    const fresh = await read(id);
    if (signal.aborted) return;
    current = fresh;
    if (!current.order.undo_until) endUndo(id);
    draw(trouble);
  }

  const onNews = async (entry, text) => {
    if (entry.by.id !== user()?.user_id) say(text); // whatever made one's own change has said so
    if (entry.mail) await showMails();
    else await refresh().catch(() => null);
  };
  const story = await timeline(id, { staff: desk, signal, onNews });
  draw();
  showMails();
  if (desk) deskOnly();
  const { order } = current;
  const up = desk ? [listLink(), "Order desk"] : ["#/orders", t("My orders")];
  return {
    title: t("Order {number}", { number: order.order_number }),
    content: [
      h("p", { class: "up" }, h("a", { href: up[0] }, `← ${up[1]}`)),
      query.has("placed") && h("div", { class: "notice", role: "status" },
        h("h2", {}, t("Thank you for your order!")), h("p", {}, t("We will send you a confirmation by email. This page shows every update as it happens."))),
      h("div", { class: "order-head" }, parts.head),
      parts.way,
      parts.change,
      h("div", { class: "columns order" },
        h("div", { class: "stack" },
          h("section", { class: "panel", "aria-labelledby": "story" },
            h("div", { class: "panel-head" }, h("h2", { id: "story" }, t("Timeline")), story.state), story.list),
          parts.mails, parts.box),
        h("div", { class: "stack" }, parts.pay, contents(order), parts.facts, parts.notes, parts.cancel, parts.correct)),
      !desk && staff && h("p", {}, h("a", { href: `#/desk/orders/${id}` }, "Open in order desk")),
    ],
  };
}
