// Internal notes on an order, for staff.

import { get, post, request } from "./api.js";
import { fill, h, say } from "./dom.js";
import { alertBox, field, form } from "./forms.js";
import { moment } from "./format.js";
import { user } from "./session.js";

/** Panel with the notes on one order and a form for another. */
export async function notesPanel(orderId) {
  const path = `/api/orders/${orderId}/notes`;
  const list = h("ul", { class: "notes" });
  const box = h("div");

  function row(note) {
    const own = note.author_id === user()?.user_id || user()?.role === "admin";
    const remove = async () => {
      try {
        await request("DELETE", `${path}/${note.id}`);
        say("The note was deleted.");
        await draw();
      } catch (error) {
        fill(box, alertBox(error));
      }
    };
    return h("li", {},
      h("p", { class: "note-text" }, note.text),
      h("p", { class: "muted" }, `${note.author || "Unknown"} · ${moment(note.at)} `,
        own && h("button", { type: "button", class: "link", onclick: remove, "aria-label": `Delete note: ${note.text.slice(0, 40)}` }, "Delete")));
  }

  async function draw() {
    const { notes } = await get(path);
    fill(list, notes.map(row));
    list.hidden = notes.length === 0;
  }

  const submit = async ({ text }) => {
    await post(path, { text });
    made.reset();
    say("The note was added.");
    await draw();
  };
  const made = form({ label: "Add note", action: "Add note", kind: "", submit },
    field({ label: "Note", name: "text", rows: 2, required: true, maxlength: 2000, hint: "For staff only. Customers never see it." }));
  await draw();
  return h("section", { class: "panel", "aria-labelledby": "notes" }, h("h2", { id: "notes" }, "Internal notes"), box, list, made);
}
