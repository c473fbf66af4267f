// Checkout: shipping address, payment method and placing the order.

import { addressFields, addressOf } from "./address-form.js";
import { get, post } from "./api.js";
import { forget } from "./catalog.js";
import { fill, h } from "./dom.js";
import { alertBox, checkbox, field, form, radios } from "./forms.js";
import { addressLines, counted, payment } from "./format.js";
import { Problem } from "./http.js";
import * as placing from "./placing.js";
import { user } from "./session.js";
import { t } from "./text.js";
import { amountDue, amountOf, emptyCart, filledLines, totalOf } from "./view-cart.js";

const FRESH_MS = 10 * 60_000; // an interrupted attempt younger than this is finished without asking
const NEW = "new";

const toOrder = (order) => location.replace(`#/orders/${order.id}?placed=1`);

function summary(lines) {
  return h("section", { class: "panel summary", "aria-labelledby": "summary" },
    h("h2", { id: "summary" }, t("Order summary")),
    h("ul", {}, lines.map((line) => h("li", {},
      h("span", {}, `${line.quantity} × ${line.product.title}`),
      h("span", { class: "price" }, amountOf(line))))),
    h("p", { class: "total" }, h("span", {}, t("Total")), h("strong", { class: "price" }, totalOf(lines))),
    h("p", {}, h("a", { href: "#/cart" }, t("Edit cart"))));
}

/** Choice of a saved address or a new one. */
function destination(saved) {
  const fresh = h("div", { id: "new-address" }, addressFields({ recipient: user().name }), checkbox({ label: t("Save this address for next time"), name: "keep", checked: true }));
  if (!saved.length) return h("fieldset", {}, h("legend", {}, t("Shipping address")), fresh);
  const chosen = (saved.find((address) => address.is_default) ?? saved.at(-1)).id;
  const toggle = (isNew) => {
    fresh.hidden = !isNew;
    for (const control of fresh.querySelectorAll("input, select")) control.disabled = !isNew;
  };
  toggle(false);
  const choices = [...saved.map((address) => [address.id, addressLines(address).join(", ")]), [NEW, t("Use a different address")]];
  return [
    radios({ legend: t("Shipping address"), name: "address", choices, value: chosen, onchange: (event) => toggle(event.target.value === NEW) }),
    fresh,
  ];
}

function bodyOf(values, lines, addressId) {
  return {
    items: lines.map((line) => ({ product_id: line.id, quantity: line.quantity })),
    expected_total: amountDue(lines),
    payment_method: values.payment_method,
    ...(addressId ? { shipping_address_id: addressId } : { shipping_address: addressOf(values) }),
    ...(values.note ? { note: values.note } : {}),
  };
}

/** Lines at the prices of a `price-changed` problem. */
const repriced = (lines, items) => lines.map((line) => {
  const { title, price } = items.find((item) => item.product_id === line.id) ?? line.product;
  return { ...line, product: { ...line.product, title, price } };
});

/** Notice of an attempt that may have reached the server. Sending it again is safe in any case. */
function interrupted(again, error) {
  const notice = h("div", { class: "notice", role: "status" },
    h("h2", {}, t("We could not confirm your last order")),
    h("p", {}, t("The connection was lost before the shop could answer. You can safely send the order again. It will be placed only once.")));
  const finish = async () => {
    try {
      toOrder(await placing.finish());
    } catch (trouble) {
      if (!placing.open()) again();
      fill(result, alertBox(trouble));
    }
  };
  const leave = () => { placing.drop(); again(); };
  const result = h("div", {}, error && alertBox(error));
  return [notice, result, h("p", { class: "actions" },
    h("button", { type: "button", class: "button primary", onclick: finish }, t("Send order again")),
    h("a", { class: "button", href: "#/orders" }, t("View my orders")),
    h("button", { type: "button", class: "button", onclick: leave }, t("Discard")))];
}

export async function checkoutView({ again }) {
  const heading = h("h1", {}, t("Checkout"));
  const page = (kind, ...content) => ({ title: t("Checkout"), kind, content: [heading, content] });
  const attempt = placing.open();
  if (attempt) {
    if (Date.now() - attempt.at > FRESH_MS) return page("narrow", interrupted(again));
    try {
      toOrder(await placing.finish());
      return page("narrow");
    } catch (error) {
      if (placing.open()) return page("narrow", interrupted(again, error));
    }
  }
  let lines = (await filledLines()).filter((line) => line.product);
  if (!lines.length) return page("narrow", emptyCart());
  const saved = await get(`/user/${user().user_id}/addresses`);

  let kept = null; // address saved by an earlier try that failed later
  const submit = async (values) => {
    let addressId = values.address && values.address !== NEW ? values.address : null;
    const address = addressOf(values);
    if (!addressId && values.keep) {
      const text = JSON.stringify(address);
      if (kept?.text !== text) kept = { text, id: (await post(`/user/${user().user_id}/addresses`, address)).id };
      addressId = kept.id;
    }
    try {
      toOrder(await placing.place(bodyOf(values, lines, addressId)));
    } catch (error) {
      if (["price-changed", "product-unavailable", "unknown-product"].includes(error.code)) forget();
      if (error.code !== "price-changed") throw error;
      lines = repriced(lines, error.document.items);
      draw();
      throw new Problem(error.status, {
        title: t("Prices have changed"),
        detail: t("The total is now {total}. Check your order, and place it again if you agree.", { total: totalOf(lines) }),
      });
    }
  };
  const sum = h("strong", { class: "price" });
  const side = h("div", {});
  const draw = () => { sum.textContent = totalOf(lines); fill(side, summary(lines)); };
  draw();
  const payments = ["cash_on_delivery", "card", "bank_transfer"].map((method) => [method, payment(method)]);
  return page("",
    h("p", { class: "sum" }, h("span", { class: "muted" }, counted(lines.length, "product")), sum),
    h("div", { class: "columns" },
      form({ label: t("Checkout"), action: () => `${t("Place order")} · ${totalOf(lines)}`, busy: t("Placing order…"), submit },
        destination(saved),
        radios({ legend: t("Payment method"), name: "payment_method", choices: payments, value: payments[0][0] }),
        field({ label: t("Order note"), name: "note", rows: 2, maxlength: 500 })),
      side));
}
