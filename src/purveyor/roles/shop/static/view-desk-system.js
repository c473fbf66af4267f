// Order desk: health, dead letters and emails that did not arrive.

import { get, post, withQuery } from "./api.js";
import { keys } from "./desk-keys.js";
import { deskTabs } from "./desk-tabs.js";
import { fill, h, say } from "./dom.js";
import { alertBox } from "./forms.js";
import { counted, moment, word } from "./format.js";
import { Problem } from "./http.js";
import { mailRow } from "./mail-panel.js";

const TROUBLED = ["failed", "unknown", "retry", "pending"];
const MOST = 200; // of one state

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

/** A section, or why it could not be read: one role that is away hides nothing of the others. */
function section(id, heading, hint, content) {
  return h("section", { class: "panel", "aria-labelledby": id }, h("h2", { id }, heading), hint && h("p", { class: "muted" }, hint),
    content instanceof Error ? alertBox(content) : content);
}

const settled = (promise) => promise.catch((error) => {
  if (error instanceof Problem) return error;
  throw error;
});

/** The health document, which a server that is not ready sends as an error. */
const health = async () => (await fetch("health/ready", { headers: { Accept: "application/json" }, cache: "no-store" })).json();

const statusOf = (status) => h("span", { class: `status ${status === "ok" ? "delivered" : "failed"}` }, status === "ok" ? "OK" : word(status));

function healthTable(found) {
  const rows = Object.entries(found.dependencies ?? {});
  return h("table", { class: "items" },
    h("thead", {}, h("tr", {}, ["Dependency", "Status", "Details"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, rows.map(([name, one]) => h("tr", {}, h("td", {}, name), h("td", {}, statusOf(one.status)), h("td", { class: "detail" }, one.detail ?? "")))));
}

/** How many emails only wait for their turn; without any, and without trouble, all were sent. */
function inTurn(waiting, troubled) {
  if (waiting === 0) return troubled === 0 && h("p", {}, "All emails were sent.");
  const count = waiting + troubled < MOST ? counted(waiting, "other email") : `${MOST} other emails or more`;
  return h("p", {}, h("a", { href: "#/desk/mails?state=pending" }, count), " waiting to be sent.");
}

export async function systemView({ signal, again }) {
  keys(signal);
  const [state, letters, ...lists] = await Promise.all([
    settled(health()), settled(get("/api/dead-letters")),
    ...TROUBLED.map((one) => settled(get(withQuery("/api/mails", { state: one, limit: MOST })))),
  ]);
  const away = lists.find((one) => one instanceof Error);
  const all = away ? [] : lists.flatMap((one) => one.mails);
  const mails = all.filter((mail) => mail.state !== "pending" || mail.error);
  return {
    title: "System",
    kind: "wide",
    content: [
      h("h1", {}, "System"), deskTabs("system"),
      h("div", { class: "stack system" },
        section("health", "Health", "", state instanceof Error ? state : healthTable(state)),
        section("letters", "Dead letters", "Events that could not be handled after all retries. Fix the cause, then replay them. Replaying an event that was already handled has no effect.",
          letters instanceof Error ? letters : letters.dead_letters.length
            ? h("ul", { class: "mail-rows" }, letters.dead_letters.map((letter) => letterRow(letter, again)))
            : h("p", {}, "All events were handled.")),
        section("troubled", "Emails that did not arrive", "Failed, in doubt, held, or waiting to be tried again.",
          away ?? [mails.length > 0 && h("ul", { class: "mail-rows" }, mails.map((mail) => mailRow(mail, again))), inTurn(all.length - mails.length, mails.length)])),
    ],
  };
}
