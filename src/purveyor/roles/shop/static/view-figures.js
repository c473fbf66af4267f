// Order desk: orders, revenue and the time to the email by day.

import { get, withQuery } from "./api.js";
import { keys } from "./desk-keys.js";
import { deskTabs } from "./desk-tabs.js";
import { chips, h } from "./dom.js";
import { counted, money } from "./format.js";
import { bars } from "./plot.js";
import { locale } from "./text.js";

const SPANS = [7, 30, 90];

const seconds = (value) => (value === null ? "–" : `${value.toLocaleString(locale(), { maximumFractionDigits: 1 })} s`);

export async function figuresView({ query, signal }) {
  keys(signal);
  const span = SPANS.includes(Number(query.get("days"))) ? Number(query.get("days")) : 30;
  const { currency, days } = await get(withQuery("/api/orders/figures", { days: span }));
  const day = new Intl.DateTimeFormat(locale(), { month: "short", day: "numeric", timeZone: "UTC" });
  const labels = days.map((one) => day.format(new Date(one.date)));
  const amount = (value) => money(value, currency);
  const orders = days.reduce((sum, one) => sum + one.orders, 0);
  const revenue = days.reduce((sum, one) => sum + one.revenue, 0);
  return {
    title: "Figures",
    kind: "wide",
    content: [
      h("h1", {}, "Figures"), deskTabs("figures"),
      chips("Days", SPANS.map((one) => [`${one} days`, `#/desk/figures?days=${one}`, one === span])),
      h("p", { class: "lead" }, `${counted(orders, "order")}, ${amount(revenue)} in ${span} days. Cancelled and refunded orders count as orders, not as revenue.`),
      h("div", { class: "figures" },
        bars({ title: "Orders per day", values: days.map((one) => one.orders), labels, show: String }),
        bars({ title: "Revenue per day", values: days.map((one) => one.revenue), labels, show: amount }),
        bars({ title: "Time from order to email (95th percentile)", values: days.map((one) => one.mail_p95_s ?? 0), labels, show: seconds })),
      h("details", { class: "panel" }, h("summary", {}, "Table"),
        h("div", { class: "table-holder flat" }, h("table", { class: "desk plain" },
          h("thead", {}, h("tr", {}, ["Day", "Orders", "Revenue", "Email, median", "Email, 95th percentile"].map((name) => h("th", { scope: "col" }, name)))),
          h("tbody", {}, days.toReversed().map((one, place) => h("tr", {},
            h("th", { scope: "row" }, labels.at(-1 - place)), h("td", {}, one.orders), h("td", {}, amount(one.revenue)),
            h("td", {}, seconds(one.mail_p50_s)), h("td", {}, seconds(one.mail_p95_s)))))))),
    ],
  };
}
