// Order desk: mail ledger and dead letters.

import { get, post, withQuery } from "./api.js";
import { chips, emptyState, fill, h, say } from "./dom.js";
import { alertBox } from "./forms.js";
import { counted, moment, word } from "./format.js";
import { mailRow } from "./mail-panel.js";
import { deskTabs } from "./view-desk.js";

const STATES = ["sent", "pending", "retry", "failed", "unknown"];

export async function mailsView({ query, again }) {
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

function letterRow(letter, again) {
  const result = h("div");
  const replay = async () => {
    try {
      await post(`/api/dead-letters/${encodeURIComponent(letter.queue)}/${encodeURIComponent(letter.event_id)}/replay`);
      say("The event will be delivered again.");
      await again();
    } catch (error) {
      fill(result, alertBox(error));
    }
  };
  return h("li", { class: "mail-row" },
    h("div", {},
      h("strong", {}, letter.type), " ", h("code", {}, letter.event_id),
      h("p", { class: "muted" }, `${letter.queue} · ${moment(letter.died_at)} · ${counted(letter.attempts, "attempt")}`),
      h("p", { class: "hint" }, letter.reason)),
    h("button", { type: "button", class: "button small", onclick: replay, "aria-label": `Replay ${letter.type} ${letter.event_id}` }, "Replay"),
    result);
}

export async function deadLettersView({ again }) {
  const { dead_letters: letters } = await get("/api/dead-letters");
  return {
    title: "Dead letters",
    kind: "wide",
    content: [
      h("h1", {}, "Dead letters"), deskTabs("letters"),
      h("p", { class: "muted" }, "Events that could not be handled after all retries. Fix the cause, then replay them. Replaying an event that was already handled has no effect."),
      letters.length
        ? h("ul", { class: "mail-rows panel" }, letters.map((letter) => letterRow(letter, again)))
        : emptyState("No dead letters", "All events were handled."),
    ],
  };
}
