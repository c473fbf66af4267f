// Order desk: mail ledger.

import { get, withQuery } from "./api.js";
import { keys } from "./desk-keys.js";
import { deskTabs } from "./desk-tabs.js";
import { chips, emptyState, h } from "./dom.js";
import { word } from "./format.js";
import { mailRow } from "./mail-panel.js";

const STATES = ["sent", "pending", "retry", "failed", "unknown"];

export async function mailsView({ query, again, signal }) {
  keys(signal);
  const state = query.get("state") ?? "";
  const { mails } = await get(withQuery("/api/mails", { state }));
  const states = [["All", "#/desk/mails", !state], ...STATES.map((name) => [word(name), `#/desk/mails?state=${name}`, name === state])];
  return {
    title: "Emails",
    kind: "wide",
    content: [
      h("h1", {}, "Emails"), deskTabs("mails"), chips("Status", states),
      mails.length
        ? h("ul", { class: "mail-rows panel" }, mails.map((mail) => mailRow(mail, again)))
        : emptyState("No emails", "No emails have this status."),
    ],
  };
}
