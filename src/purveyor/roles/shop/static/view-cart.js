// The cart, and what the checkout shares with it.

import * as cart from "./cart.js";
import { products } from "./catalog.js";
import { emptyState, h, newId, say } from "./dom.js";
import { counted, money, sum } from "./format.js";
import { picture } from "./view-catalog.js";

/** Cart lines with their products; `product` is `undefined` if it no longer exists. */
export async function filledLines() {
  const byId = new Map((await products()).map((product) => [product.id, product]));
  return cart.lines().map((line) => ({ ...line, product: byId.get(line.id) }));
}

/** Total of the lines as text. */
export function totalOf(lines) {
  const priced = lines.filter((line) => line.product);
  if (!priced.length) return "";
  return money(sum(priced.map((line) => sum([line.product.price]) * line.quantity)), priced[0].product.currency);
}

export const emptyCart = () => emptyState("Your cart is empty", "Products that you add to your cart appear here.",
  h("a", { class: "button primary", href: "#/" }, "Continue shopping"));

export async function cartView({ again, signal }) {
  const lines = await filledLines();
  if (!lines.length) return { title: "Cart", kind: "narrow", content: [h("h1", {}, "Cart"), emptyCart()] };
  const total = h("strong", {}, totalOf(lines));

  function change(line, amount, quantity) {
    line.quantity = Math.min(Math.max(Math.trunc(quantity) || 1, 1), cart.MAX_QUANTITY);
    cart.set(line.id, line.quantity);
    amount.textContent = money(sum([line.product.price]) * line.quantity, line.product.currency);
    total.textContent = totalOf(lines);
  }

  function remove(line) {
    cart.set(line.id, 0);
    say(`${line.product?.title ?? "The product"} was removed from your cart.`);
    again();
  }

  const row = (line) => {
    const drop = h("button", { type: "button", class: "link", onclick: () => remove(line), "aria-label": `Remove ${line.product?.title ?? `product ${line.id}`}` }, "Remove");
    if (!line.product) {
      return h("li", { class: "line" }, h("span", { class: "picture none" }), h("div", {}, `Product ${line.id} is no longer available.`), drop);
    }
    const { product } = line;
    const id = newId("quantity");
    const amount = h("span", { class: "price" }, money(sum([product.price]) * line.quantity, product.currency));
    return h("li", { class: "line" },
      picture(product, { eager: true }),
      h("div", { class: "line-text" },
        h("a", { href: `#/products/${product.id}` }, product.title),
        h("span", { class: "muted" }, `${money(product.price, product.currency)} each`), drop),
      h("div", { class: "line-amount" },
        h("label", { class: "visually-hidden", for: id }, `Quantity of ${product.title}`),
        h("input", {
          id, type: "number", min: 1, max: cart.MAX_QUANTITY, value: line.quantity, inputmode: "numeric",
          onchange: (event) => { change(line, amount, event.target.valueAsNumber); event.target.value = line.quantity; },
        }), amount));
  };

  cart.changes.addEventListener("change", () => cart.lines().length === lines.length || again(), { signal });
  const missing = lines.some((line) => !line.product);
  return {
    title: "Cart",
    kind: "narrow",
    content: [
      h("h1", {}, "Cart"),
      h("p", { class: "muted" }, counted(lines.length, "product")),
      h("ul", { class: "lines" }, lines.map(row)),
      h("p", { class: "total" }, h("span", {}, "Total"), total),
      missing && h("p", { class: "alert" }, "Remove the unavailable products to check out."),
      h("p", { class: "actions end" },
        h("a", { class: "button", href: "#/" }, "Continue shopping"),
        !missing && h("a", { class: "button primary", href: "#/checkout" }, "Check out")),
    ],
  };
}
