// Correction of an order by an admin, with its reason and without an email.

import { request } from "./api.js";
import { h, say } from "./dom.js";
import { field, form } from "./forms.js";
import { word } from "./format.js";

const STATUSES = ["pending", "confirmed", "shipped", "delivered", "cancelled"];
const PAYMENTS = ["unpaid", "paid", "refunded"];
const options = (names) => names.map((name) => [name, word(name)]);

/** Panel to set an order to any status. `done` is called afterwards. */
export function correctPanel({ order, etag }, done) {
  const submit = async ({ reason = "", status, payment_status }) => {
    const body = {
      reason,
      ...(status === order.status ? {} : { status }),
      ...(payment_status === order.payment_status ? {} : { payment_status }),
    };
    await request("POST", `/api/orders/${order.id}/correction`, { body, headers: { "If-Match": etag } });
    say(`Order ${order.order_number} was corrected.`);
    await done();
  };
  return h("details", { class: "panel correct" },
    h("summary", {}, "Correct order"),
    h("p", { class: "muted" }, "For mistakes. No email is sent, and the timeline records your reason."),
    form({ label: "Correct order", action: "Correct order", kind: "", submit },
      field({ label: "Right status", name: "status", options: options(STATUSES), value: order.status }),
      field({ label: "Right payment status", name: "payment_status", options: options(PAYMENTS), value: order.payment_status }),
      field({ label: "Why", name: "reason", required: true, maxlength: 500 })));
}
