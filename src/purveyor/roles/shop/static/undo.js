// Changes whose emails are held back, each with a button to undo it until the email leaves.

import { request } from "./api.js";
import { at, fill, h, say } from "./dom.js";
import { Problem } from "./http.js";

/** For how long the desk holds an email back. */
export const HOLD_S = 30;

const offers = new Map();

/** Withdraw the offer for an order: its email has left, or nothing is left to undo. */
export function endUndo(orderId) {
  const offer = offers.get(orderId);
  if (!offer) return;
  clearInterval(offer.timer);
  offer.line.remove();
  offers.delete(orderId);
}

/** Offer to undo the last change of an order until `order.undo_until`. `done` is called after the undo. */
export function offerUndo(order, what, done) {
  endUndo(order.id);
  const until = new Date(order.undo_until).getTime();
  const left = h("span", { class: "muted", "aria-live": "off" });
  const button = h("button", { type: "button", class: "button small", "aria-label": `Undo order ${order.order_number}` }, "Undo");
  const line = h("p", { class: "undo-line" }, h("span", {}, `Order ${order.order_number}: ${what}. `, left), button);
  const tick = () => {
    const seconds = Math.ceil((until - Date.now()) / 1000);
    if (seconds <= 0) endUndo(order.id);
    else fill(left, `Email leaves in ${seconds}\u00a0s.`);
  };
  button.addEventListener("click", async () => {
    endUndo(order.id);
    try {
      await request("POST", `/api/orders/${order.id}/undo`, { headers: { "If-Match": `"${order.version}"` } });
      say(`Order ${order.order_number}: the change was undone. No email was sent.`);
    } catch (error) {
      say(error instanceof Problem ? error.message : "The change could not be undone.");
    }
    await done?.();
  });
  offers.set(order.id, { line, timer: setInterval(tick, 500) });
  tick();
  at("undo").append(line);
}
