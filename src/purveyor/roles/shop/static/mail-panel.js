// Emails about an order from the mail ledger, with a button to resend each. For staff.

import { get, post, withQuery } from "./api.js";
import { fill, h, say } from "./dom.js";
import { alertBox } from "./forms.js";
import { counted, moment, word } from "./format.js";
import { mailName } from "./timeline.js";

const WAITS = new Set(["pending", "retry"]); // the timeline does not show why these wait

// One that is due and still there waits for the earlier email of its order, or for a free connection.
const nextTry = (at) => new Date(at) > new Date() ? `next try ${moment(at)}` : "waits for its turn";

/** One email with its resend button. `done` is called after a resend; `brief` omits what the order page shows anyway. */
export function mailRow(mail, done, { brief = false } = {}) {
  const result = h("div");
  const resend = async () => {
    try {
      await post(`/api/mails/${encodeURIComponent(mail.event_id)}/resend`);
      say(`The email to ${mail.recipient} will be sent again.`);
      await done();
    } catch (error) {
      fill(result, alertBox(error));
    }
  };
  const name = mailName(mail.kind);
  const facts = [!brief && mail.order_number && `Order ${mail.order_number}`, mail.recipient, moment(mail.updated_at), counted(mail.attempts, "attempt"), mail.next_attempt_at && nextTry(mail.next_attempt_at)];
  return h("li", { class: "mail-row" },
    h("div", {},
      h("strong", {}, name), " ", h("span", { class: `status ${mail.state}` }, word(mail.state)),
      h("p", { class: "muted" }, facts.filter(Boolean).join(" · ")),
      (!brief || WAITS.has(mail.state)) && (mail.error || mail.smtp_reply) && h("p", { class: "hint" }, mail.error || mail.smtp_reply)),
    h("button", { type: "button", class: "button small", onclick: resend, "aria-label": `Resend: ${name} to ${mail.recipient}` }, "Resend"),
    result);
}

/** Panel with the emails of one order. */
export async function mailPanel(orderId) {
  const list = h("ul", { class: "mail-rows" });
  const draw = async () => {
    const { mails } = await get(withQuery("/api/mails", { order_id: orderId }));
    fill(list, mails.map((mail) => mailRow(mail, draw, { brief: true })));
    return mails.length;
  };
  return h("section", { class: "panel", "aria-labelledby": "mails" },
    h("h2", { id: "mails" }, "Emails"), await draw() ? list : h("p", { class: "muted" }, "No emails yet."));
}
