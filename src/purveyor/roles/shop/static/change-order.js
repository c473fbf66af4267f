// Status changes by staff. `If-Match` refuses a change that is based on an outdated order.

import { changeOrder } from "./desk-change.js";
import { h, say } from "./dom.js";
import { alertBox } from "./forms.js";
import { Problem } from "./http.js";

const NEXT = { pending: ["confirmed"], confirmed: ["shipped"], shipped: ["delivered"] };
const NEXT_PAYMENT = { unpaid: ["paid"], paid: ["refunded"] };
const VERBS = { confirmed: "Confirm", shipped: "Mark as shipped", delivered: "Mark as delivered", paid: "Mark as paid", refunded: "Mark as refunded" };

/** Buttons of the possible next steps. `reload(problem)` loads the order again and shows why a change was refused. */
export function changePanel({ order }, { reload, trouble }) {
  const panel = h("section", { class: "panel next", "aria-labelledby": "change" });
  let running = false;

  async function change(members) {
    if (running) return;
    running = true;
    panel.querySelector(".alert")?.remove();
    try {
      await changeOrder(order, members, () => reload());
    } catch (error) {
      if (error instanceof Problem && [409, 412].includes(error.status)) {
        await reload(error).catch((trouble) => panel.append(alertBox(trouble)));
        say("Someone else changed this order. It has been reloaded.");
      } else {
        panel.append(alertBox(error));
      }
    } finally {
      running = false;
    }
  }

  const button = (member, value, kind) => h("button", {
    type: "button", class: `button ${kind}`, onclick: () => change({ [member]: value }),
  }, VERBS[value]);
  const steps = (NEXT[order.status] ?? []).map((status) => button("status", status, "primary"));
  const payments = (NEXT_PAYMENT[order.payment_status] ?? []).map((status) => button("payment_status", status, ""));
  panel.append(
    h("h2", { id: "change" }, "Next steps"),
    h("p", { class: "actions" },
      steps.length + payments.length === 0 && h("span", { class: "muted" }, "This order needs no further action."),
      steps, payments, h("a", { class: "button", href: `#/desk/slips?ids=${order.id}` }, "Print packing slip")));
  if (trouble) panel.append(alertBox(trouble));
  return panel;
}
