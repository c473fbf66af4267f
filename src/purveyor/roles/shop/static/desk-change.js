// A change of one order at the desk. The email about it is held back, so that it can be undone.

import { get, request } from "./api.js";
import { say } from "./dom.js";
import { word } from "./format.js";
import { HOLD_S, offerUndo } from "./undo.js";

/** Change an order, show it with `done`, and say so with an offer to undo it. Throws `Problem`. */
export async function changeOrder(order, members, done) {
  const headers = { "If-Match": `"${order.version}"` };
  await request("PATCH", `/api/orders/${order.id}`, { body: { ...members, hold_mail_s: HOLD_S }, headers });
  await offered(order.id, word(Object.values(members)[0]).toLowerCase(), done);
}

/** Cancel an order, show it with `done`, and say so with an offer to undo it. Throws `Problem`. */
export async function cancelOrder(order, reason, done) {
  const body = { hold_mail_s: HOLD_S, ...(reason ? { reason } : {}) };
  await request("POST", `/api/orders/${order.id}/cancel`, { body });
  await offered(order.id, "cancelled", done);
}

async function offered(id, what, done) {
  const order = await get(`/api/orders/${id}`);
  try {
    await done(); // first, because what is drawn still has the version before the change
  } finally {
    if (order.undo_until) offerUndo(order, what, done);
    else say(`Order ${order.order_number}: ${what}.`);
  }
}
