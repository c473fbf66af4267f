// Product page.

import { get } from "./api.js";
import * as cart from "./cart.js";
import { products } from "./catalog.js";
import { h, newId } from "./dom.js";
import { category, money, word } from "./format.js";
import { richText } from "./html-text.js";
import { picture } from "./picture.js";
import { t } from "./text.js";
import { addButton, card } from "./view-catalog.js";

const RELATED = 4;

export async function productView({ parameter }) {
  const product = await get(`/api/products/${encodeURIComponent(parameter)}`);
  const listing = await products().first.catch(() => ({ products: [] }));
  const related = listing.products
    .filter((other) => other.category === product.category && other.id !== product.id).slice(0, RELATED);
  const id = newId("quantity");
  const quantity = h("input", { id, type: "number", min: 1, max: cart.MAX_QUANTITY, value: 1, inputmode: "numeric" });
  const facts = [[t("Brand"), product.brand], [t("Model"), product.model], [t("Color"), word(product.color ?? "")]].filter(([, value]) => value);
  const up = product.category
    ? { href: `#/?category=${encodeURIComponent(product.category)}`, text: category(product.category) }
    : { href: "#/", text: t("All products") };
  return {
    title: product.title,
    content: [
      h("p", { class: "up" }, h("a", { href: up.href }, `← ${up.text}`)),
      h("article", { class: "product" },
        h("div", { class: "product-picture" }, picture(product, { eager: true })),
        h("div", { class: "product-text" },
          h("h1", {}, product.title),
          h("p", { class: "price large" }, money(product.price, product.currency)),
          h("div", { class: "lead" }, richText(product.description)),
          h("div", { class: "buy" },
            h("label", { for: id }, t("Quantity")), quantity,
            addButton(product, { quantity: () => Math.max(1, quantity.valueAsNumber || 1), kind: "primary" })),
          facts.length > 0 && h("dl", { class: "facts-list" }, facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])))),
      related.length > 0 && h("section", { "aria-labelledby": "related" },
        h("h2", { id: "related", class: "section" }, t("You may also like")),
        h("ul", { class: "grid" }, related.map((other) => card(other)))),
    ],
  };
}
