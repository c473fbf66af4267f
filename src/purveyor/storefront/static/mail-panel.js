// The mails about an order as the mail ledger has them, and sending one again. Only for staff, and only where the
// process that answers runs role email too.

import { get, post, withQuery } from "./api.js";
import { fill, h, say } from "./dom.js";
import { alertBox } from "./forms.js";
import { moment, word } from "./format.js";
import { mailName } from "./timeline.js";

/** A mail in the ledger, with a button that sends it again. `done` is called afterwards; `brief`: what is said beside it is left out. */
export function mailRow(mail, done, { brief = false } = {}) {
  const result = h("div");
  const resend = async () => {
    try {
      await post(`/api/mails/${encodeURIComponent(mail.event_id)}/resend`);
      say(`The mail to ${mail.recipient} goes out again.`);
      await done();
    } catch (error) {
      fill(result, alertBox(error));
    }
  };
  const name = mailName(mail.kind);
  const facts = [!brief && mail.order_number && `order ${mail.order_number}`, mail.recipient, moment(mail.updated_at), `attempt ${mail.attempts}`];
  return h("li", { class: "mail-row" },
    h("div", {},
      h("strong", {}, name), " ", h("span", { class: `status ${mail.state}` }, word(mail.state)),
      h("p", { class: "muted" }, facts.filter(Boolean).join(" · ")),
      !brief && (mail.error || mail.smtp_reply) && h("p", { class: "hint" }, mail.error || mail.smtp_reply)),
    h("button", { type: "button", class: "button small", onclick: resend, "aria-label": `Send again: ${name} to ${mail.recipient}` }, "Send again"),
    result);
}

/** The panel of one order's mails. */
export async function mailPanel(orderId) {
  const list = h("ul", { class: "mail-rows" });
  const draw = async () => {
    const { mails } = await get(withQuery("/api/mails", { order_id: orderId }));
    fill(list, mails.map((mail) => mailRow(mail, draw, { brief: true })));
    return mails.length;
  };
  return h("section", { class: "panel", "aria-labelledby": "mails" },
    h("h2", { id: "mails" }, "Mails"), await draw() ? list : h("p", { class: "muted" }, "None yet."));
}
