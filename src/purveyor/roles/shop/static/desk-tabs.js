// The tabs of the order desk, and what waits there.

import { get } from "./api.js";
import { chips, fill, h } from "./dom.js";

const REFRESH_MS = 15_000;
const MOST = 1000;

let list = "#/desk";

/** Remember which orders the desk shows. */
export const rememberList = (hash) => { list = hash; };

/** Link to the orders that the desk showed last, with their filters. */
export const listLink = () => list;

/** The sections of the desk. */
export const deskTabs = (here) => chips("Desk", [
  ["Orders", "#/desk", here === "orders"],
  ["Emails", "#/desk/mails", here === "mails"],
  ["Users", "#/desk/users", here === "users"],
  ["Figures", "#/desk/figures", here === "figures"],
  ["System", "#/desk/system", here === "system"],
]);

const QUEUES = [
  ["All orders", "#/desk", null],
  ["To confirm", "#/desk?status=pending", "to_confirm"],
  ["To ship", "#/desk?status=confirmed", "to_ship"],
  ["Email problems", "#/desk?mail_trouble=true", "mail_trouble"],
];

const amount = (count) => (count >= MOST ? `${MOST - 1}+` : String(count));

/** Links to the orders that wait, each with their number, which refreshes itself until `signal` aborts. */
export function queues(here, signal) {
  const numbers = new Map();
  const links = QUEUES.map(([label, href, name]) => {
    const number = h("span", { class: "count", hidden: true });
    if (name) numbers.set(name, number);
    return h("a", { href, "aria-current": href === here && "true" }, label, name && " ", name && number);
  });
  async function refresh() {
    if (document.hidden) return;
    const counts = await get("/api/orders/counts", { signal }).catch(() => null);
    if (!counts) return;
    for (const [name, number] of numbers) {
      fill(number, amount(counts[name]));
      number.hidden = counts[name] === 0;
    }
  }
  const timer = setInterval(refresh, REFRESH_MS);
  document.addEventListener("visibilitychange", refresh, { signal });
  signal.addEventListener("abort", () => clearInterval(timer), { once: true });
  refresh();
  return { bar: h("nav", { class: "chips", "aria-label": "Waiting orders" }, links), refresh };
}
