// The cart, and what the checkout shares with it.

import * as cart from "./cart.js";
import { find, productLink, products } from "./catalog.js";
import { emptyState, h, newId, say } from "./dom.js";
import { counted, money, total } from "./format.js";
import { picture } from "./picture.js";
import { t } from "./text.js";

/** Cart lines with their products; `product` is `undefined` if it can no longer be bought. */
export async function filledLines() {
  const lines = cart.lines();
  if (lines.length > 1) await products().first.catch(() => null); // one request for most of them
  return Promise.all(lines.map(async (line) => ({ ...line, product: await find(line.id) })));
}

/** Total of lines with products, in major units. */
export const amountDue = (lines) => total(lines.map((line) => [line.product.price, line.quantity]), lines[0].product.currency);

/** Total of the lines as text. */
export function totalOf(lines) {
  const priced = lines.filter((line) => line.product);
  return priced.length ? money(amountDue(priced), priced[0].product.currency) : "";
}

/** Amount of one line as text. */
export const amountOf = ({ product, quantity }) => totalOf([{ product, quantity }]);

export const emptyCart = () => emptyState(t("Your cart is empty"), t("Products that you add to your cart appear here."),
  h("a", { class: "button primary", href: "#/" }, t("Continue shopping")));

export async function cartView({ again, signal }) {
  const lines = await filledLines();
  const title = t("Cart");
  if (!lines.length) return { title, kind: "narrow", content: [h("h1", {}, title), emptyCart()] };
  const totals = ["strong", "strong", "span"].map((tag) => h(tag, { class: "price" }));
  const drawTotals = () => totals.forEach((shown) => { shown.textContent = totalOf(lines); });

  function change(line, amount, quantity) {
    line.quantity = Math.min(Math.max(Math.trunc(quantity) || 1, 1), cart.MAX_QUANTITY);
    cart.set(line.id, line.quantity);
    amount.textContent = amountOf(line);
    drawTotals();
  }

  function remove(line) {
    cart.set(line.id, 0);
    say(line.product ? t("{title} was removed from your cart.", line.product) : t("The product was removed from your cart."));
    again();
  }

  const row = (line) => {
    const name = line.product?.title ?? t("Product {id}", line);
    const drop = h("button", { type: "button", class: "link", onclick: () => remove(line), "aria-label": t("Remove {name}", { name }) }, t("Remove"));
    if (!line.product) {
      return h("li", { class: "line" }, picture({}), h("div", {}, t("{name} is no longer available.", { name })), drop);
    }
    const { product } = line;
    const id = newId("quantity");
    const amount = h("span", { class: "price" }, amountOf(line));
    return h("li", { class: "line" },
      picture(product, { eager: true }),
      h("div", { class: "line-text" },
        h("a", { href: productLink(product.id) }, product.title),
        h("span", { class: "muted" }, t("{price} each", { price: money(product.price, product.currency) })), drop),
      h("div", { class: "line-amount" },
        h("label", { class: "visually-hidden", for: id }, t("Quantity of {title}", product)),
        h("input", {
          id, type: "number", min: 1, max: cart.MAX_QUANTITY, value: line.quantity, inputmode: "numeric",
          onchange: (event) => { change(line, amount, event.target.valueAsNumber); event.target.value = line.quantity; },
        }), amount));
  };

  drawTotals();
  cart.changes.addEventListener("change", () => cart.lines().length === lines.length || again(), { signal });
  const missing = lines.some((line) => !line.product);
  return {
    title,
    kind: "narrow",
    content: [
      h("h1", {}, title),
      h("p", { class: "sum" }, h("span", { class: "muted" }, counted(lines.length, "product")), totals[0]),
      h("ul", { class: "lines" }, lines.map(row)),
      h("p", { class: "total" }, h("span", {}, t("Total")), totals[1]),
      missing && h("p", { class: "alert" }, t("Remove the unavailable products to check out.")),
      h("p", { class: "actions end" },
        h("a", { class: "button", href: "#/" }, t("Continue shopping")),
        !missing && h("a", { class: "button primary", href: "#/checkout" }, t("Check out"), " · ", totals[2])),
    ],
  };
}
