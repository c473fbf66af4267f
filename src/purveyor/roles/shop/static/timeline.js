// Live timeline of an order.

import { get } from "./api.js";
import { fill, h } from "./dom.js";
import { moment, word } from "./format.js";
import { follow } from "./live.js";
import { t } from "./text.js";

const WHAT = {
  placed: "Order placed", confirmed: "Confirmed", shipped: "Shipped", delivered: "Delivered", cancelled: "Cancelled",
  paid: "Paid", refunded: "Payment refunded", erased: "Personal data erased", undone: "Change undone",
  corrected: "Corrected",
};
const MAILS = {
  "order.created": "Order confirmation", "order.confirmed": "Order acceptance", "order.paid": "Payment confirmation",
  "order.shipped": "Shipping confirmation", "order.delivered": "Delivery confirmation",
  "order.cancelled": "Cancellation confirmation", "order.refunded": "Refund confirmation",
  "shop.new_order": "New order notice", "user.registered": "Welcome email",
  "user.email_confirmation_requested": "Address confirmation email", "user.email_changed": "Address change notice",
  "user.password_reset_requested": "Password reset email", "user.password_changed": "Password change notice",
  "user.erased": "Account deletion notice",
};
const MAIL_STATES = { sent: "sent", failed: "could not be delivered", unknown: "may have been sent" };

export const mailName = (kind) => (MAILS[kind] ? t(MAILS[kind]) : word(kind));

/** Whether a later email about the order replaced this one, which was never sent. */
const isSuperseded = (mail) => mail.state === "failed" && mail.error?.startsWith("superseded by ");

function headline(entry) {
  if (entry.mail) {
    const became = isSuperseded(entry.mail) ? "was no longer needed" : MAIL_STATES[entry.mail.state] ?? entry.mail.state;
    return t(`{mail} ${became}`, { mail: mailName(entry.mail.kind) });
  }
  return WHAT[entry.what] ? t(WHAT[entry.what]) : word(entry.what);
}

function who(by, staff) {
  if (by.kind === "system") return "";
  if (by.kind === "customer") return staff ? `by ${by.name || "the customer"}` : t("by you");
  return staff && by.name ? `by ${by.name}` : t("by the shop");
}

function row(entry, staff) {
  const reply = staff && entry.mail ? entry.mail.error || entry.mail.smtp_reply : "";
  return h("li", { class: `step ${entry.mail ? "mail" : ""} ${entry.what}` },
    h("p", { class: "step-what" }, headline(entry)),
    h("p", { class: "muted" }, h("time", { datetime: entry.at }, moment(entry.at)), ` ${who(entry.by, staff)}`),
    entry.reason && h("p", { class: "reason" }, `“${entry.reason}”`),
    reply && h("p", { class: "hint" }, reply));
}

const STATES = { live: "Live", waiting: "Reconnecting…", ended: "" };

/** The timeline of an order, live until `signal` aborts. `onNews` gets each new entry. */
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
  follow(orderId, {
    signal,
    last: entries.at(-1)?.id,
    onState: (now) => { fill(state, STATES[now] && t(STATES[now])); state.dataset.state = now; },
    onEntry: (entry) => { if (add(entry)) onNews(entry, headline(entry)); },
  });
  return { list, state, entries };
}
