// One job over many orders: its progress, and a result for each order.

import { get, post } from "./api.js";
import { deskTabs, listLink } from "./desk-tabs.js";
import { keys } from "./desk-keys.js";
import { fill, h, say } from "./dom.js";
import { alertBox } from "./forms.js";
import { counted, moment, word } from "./format.js";
import { HOLD_S } from "./undo.js";

const POLL_MS = 500;
const TITLES = { confirm: "Confirm orders", ship: "Mark orders as shipped", deliver: "Mark orders as delivered", undo: "Undo changes" };
const WORDS = { done: "delivered", failed: "failed", waiting: "pending", unchanged: "" };

const row = (item) => h("tr", {},
  h("th", { scope: "row" }, item.order_number ? h("a", { href: `#/desk/orders/${item.order_id}` }, item.order_number) : h("code", {}, item.order_id)),
  h("td", {}, h("span", { class: `status ${WORDS[item.state]}` }, word(item.state))),
  h("td", {}, item.detail ?? ""));

const pause = (signal) => new Promise((resolve) => {
  const timer = setTimeout(resolve, POLL_MS);
  signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
});

export async function jobView({ parameter: id, signal }) {
  const state = h("div");
  const buttons = h("p", { class: "actions no-print" });
  const body = h("tbody");
  let job = await get(`/api/orders/jobs/${id}`);

  async function act(work) {
    const trouble = await work().then(() => null, (error) => error);
    if (trouble) buttons.after(alertBox(trouble));
  }
  const resume = async () => { job = await post(`/api/orders/jobs/${id}/resume`); follow(); };
  const undo = async () => {
    const ids = job.items.filter((item) => item.state === "done").map((item) => item.order_id);
    location.hash = `#/desk/jobs/${(await post("/api/orders/jobs", { action: "undo", order_ids: ids })).id}`;
  };

  function draw() {
    const settled = job.items.length - job.waiting;
    const undoable = job.action !== "undo" && job.done > 0 && Date.now() < new Date(job.created_at).getTime() + HOLD_S * 1000;
    fill(state,
      h("progress", { max: job.items.length, value: settled, "aria-label": "Progress" }),
      h("p", { role: "status" }, `${settled} of ${counted(job.items.length, "order")}: ${job.done} done, ${job.unchanged} unchanged, ${job.failed} failed.`));
    fill(buttons,
      h("a", { class: "button primary", href: `#/desk/slips?ids=${job.items.filter((item) => item.order_number).map((item) => item.order_id).join(",")}` }, "Print packing slips"),
      job.finished && undoable && h("button", { type: "button", class: "button", onclick: () => act(undo) }, "Undo all"),
      job.finished && job.failed > 0 && h("button", { type: "button", class: "button", onclick: () => act(resume) }, "Try failed orders again"),
      h("a", { href: listLink() }, "Back to the orders"));
    fill(body, job.items.map(row));
  }

  async function follow() {
    draw();
    while (!signal.aborted && !job.finished) {
      await pause(signal);
      job = await get(`/api/orders/jobs/${id}`, { signal }).catch(() => job);
      if (!signal.aborted) draw();
    }
    if (signal.aborted) return;
    say(`${TITLES[job.action]}: finished.`);
    const left = new Date(job.created_at).getTime() + HOLD_S * 1000 - Date.now();
    if (left > 0) {
      const timer = setTimeout(draw, left + 100);
      signal.addEventListener("abort", () => clearTimeout(timer), { once: true });
    }
  }

  keys(signal);
  follow();
  return {
    title: TITLES[job.action],
    kind: "wide",
    content: [
      h("h1", {}, TITLES[job.action]), deskTabs("orders"),
      h("p", { class: "muted" }, `Started ${moment(job.created_at)}. You may leave this page: the work goes on.`),
      h("section", { class: "panel job" }, state, buttons),
      h("div", { class: "table-holder" }, h("table", { class: "desk results" },
        h("caption", { class: "visually-hidden" }, "Results"),
        h("thead", {}, h("tr", {}, ["Order", "Result", "Details"].map((name) => h("th", { scope: "col" }, name)))), body)),
    ],
  };
}
