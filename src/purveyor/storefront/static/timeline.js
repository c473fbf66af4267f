// The timeline of an order: what there was, and what is added while one looks.

import { get } from "./api.js";
import { fill, h } from "./dom.js";
import { moment, word } from "./format.js";
import { follow } from "./live.js";

const WHAT = {
  placed: "Order placed", confirmed: "Confirmed", shipped: "Shipped", delivered: "Delivered", cancelled: "Cancelled",
  paid: "Paid", refunded: "Payment refunded", erased: "Personal data erased",
};
const MAILS = {
  "order.created": "Mail on the order", "order.confirmed": "Mail on the confirmation", "order.shipped": "Mail on the shipment",
  "order.delivered": "Mail on the delivery", "order.cancelled": "Mail on the cancellation",
  "user.registered": "Mail of welcome", "user.password_reset_requested": "Mail on a new password",
};
const MAIL_STATES = { sent: "sent", failed: "could not be delivered", unknown: "may have been sent" };

export const mailName = (kind) => MAILS[kind] ?? word(kind);

function headline(entry) {
  if (entry.mail) return `${mailName(entry.mail.kind)} ${MAIL_STATES[entry.mail.state] ?? entry.mail.state}`;
  return WHAT[entry.what] ?? word(entry.what);
}

function who(by, staff) {
  if (by.kind === "system") return "";
  if (by.kind === "customer") return staff ? `by ${by.name || "the customer"}` : "by you";
  return staff && by.name ? `by ${by.name}` : "by the shop";
}

function row(entry, staff) {
  const reply = staff && entry.mail ? entry.mail.error || entry.mail.smtp_reply : "";
  return h("li", { class: `step ${entry.mail ? "mail" : ""} ${entry.what}` },
    h("p", { class: "step-what" }, headline(entry)),
    h("p", { class: "muted" }, h("time", { datetime: entry.at }, moment(entry.at)), ` ${who(entry.by, staff)}`),
    entry.reason && h("p", { class: "reason" }, `“${entry.reason}”`),
    reply && h("p", { class: "hint" }, reply));
}

const STATES = { live: "Live", waiting: "Reconnecting …", ended: "" };

/**
 * The timeline of an order, live until `signal` aborts. `onNews` hears each entry that was not there before.
 */
export async function timeline(orderId, { staff, signal, onNews }) {
  const path = `/api/orders/${orderId}`;
  const { entries } = await get(`${path}/timeline`);
  const seen = new Set();
  const list = h("ol", { class: "timeline", id: "timeline" });
  const state = h("span", { class: "live", id: "live-state" });

  function add(entry) {
    if (seen.has(entry.id)) return false;
    seen.add(entry.id);
    list.append(row(entry, staff));
    return true;
  }

  entries.forEach(add);
  follow(`${path}/live`, {
    signal,
    lastId: entries.length ? String(entries.at(-1).id) : null,
    onState: (now) => { fill(state, STATES[now]); state.dataset.state = now; },
    onEvent: ({ data }) => {
      const entry = data && JSON.parse(data);
      if (entry?.id && add(entry)) onNews(entry, headline(entry));
    },
  });
  return { list, state, entries };
}
