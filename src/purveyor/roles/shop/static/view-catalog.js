// Product list with categories, search and sorting.

import * as cart from "./cart.js";
import { categories, products, search, sorted } from "./catalog.js";
import { at, chips, emptyState, fill, h, newId, say } from "./dom.js";
import { category as categoryName, counted, money } from "./format.js";

const STEP = 24;

/** A product's picture, or a placeholder if it cannot be loaded or is on another origin. */
export function picture(product, { eager = false } = {}) {
  const own = product.image && new URL(product.image, location.href).origin === location.origin;
  const place = () => h("span", { class: "picture none", "aria-hidden": "true" }, product.title.charAt(0));
  if (!own) return place();
  return h("img", {
    class: "picture", src: product.image, alt: "", width: 480, height: 480, loading: eager ? "eager" : "lazy",
    onerror: (event) => event.target.replaceWith(place()),
  });
}

/** Button that adds a product to the cart. */
export function addButton(product, { quantity = () => 1, kind = "" } = {}) {
  const onclick = () => {
    const fits = cart.add(product.id, quantity());
    say(fits ? `${product.title} was added to your cart.` : `Your cart can hold at most ${cart.MAX_LINES} different products.`);
  };
  return h("button", { type: "button", class: `button ${kind}`, onclick, "aria-label": `Add to cart: ${product.title}` }, "Add to cart");
}

/** A product in the grid. */
export function card(product, { eager = false } = {}) {
  return h("li", { class: "card" },
    h("a", { href: `#/products/${product.id}` }, picture(product, { eager }), h("h2", {}, product.title)),
    h("div", { class: "card-foot" }, h("span", { class: "price" }, money(product.price, product.currency)), addButton(product)));
}

const SORTS = [["", "Featured"], ["price", "Price: low to high"], ["-price", "Price: high to low"], ["title", "Name"]];

export async function catalogView({ query }) {
  const all = await products();
  const state = { category: query.get("category") ?? "", query: query.get("q") ?? "", sort: query.get("sort") ?? "" };
  const grid = h("ul", { class: "grid", "aria-labelledby": "found" });
  const more = h("p", { class: "actions center" });
  const found = h("p", { class: "found", id: "found", role: "status" });
  let size = STEP;

  function address(changed) {
    const values = { category: state.category, q: state.query, sort: state.sort, ...changed };
    const text = new URLSearchParams(Object.entries(values).filter(([, value]) => value)).toString();
    return text ? `#/?${text}` : "#/";
  }

  function draw() {
    const hits = sorted(search(all, state), state.sort);
    const shown = hits.slice(0, size);
    found.textContent = counted(hits.length, "product");
    fill(grid, shown.map((product, place) => card(product, { eager: place < 8 })));
    fill(more, hits.length > shown.length && h("button", { type: "button", class: "button", onclick: grow }, "Show more"));
    grid.hidden = hits.length === 0;
    if (hits.length === 0) fill(more, emptyState("No products found", "Try another search or category.", h("a", { class: "button", href: "#/" }, "Show all products")));
  }

  function grow() {
    const before = size;
    size += STEP;
    draw();
    grid.children[before]?.querySelector("a").focus();
  }

  function change(changed) {
    Object.assign(state, changed);
    size = STEP;
    history.replaceState(null, "", address({}));
    draw();
    fill(at("categories"), categoryChips());
  }

  const categoryChips = () => chips("Categories", [
    ["All", address({ category: "" }), !state.category],
    ...categories(all).map((name) => [categoryName(name), address({ category: name }), name === state.category]),
  ]);

  const ids = { search: newId("search"), sort: newId("sort") };
  const controls = h("div", { class: "finder", role: "search" },
    h("label", { class: "visually-hidden", for: ids.search }, "Search products"),
    h("input", {
      id: ids.search, type: "search", value: state.query, placeholder: "Search products", autocomplete: "off",
      oninput: (event) => change({ query: event.target.value }),
    }),
    h("label", { class: "visually-hidden", for: ids.sort }, "Sort by"),
    h("select", { id: ids.sort, onchange: (event) => change({ sort: event.target.value }) },
      SORTS.map(([value, text]) => h("option", { value, selected: value === state.sort }, text))));

  draw();
  return {
    title: state.category ? categoryName(state.category) : "Products",
    content: [
      h("div", { class: "head" },
        h("h1", {}, state.category ? categoryName(state.category) : "Well-made things, delivered"), controls),
      h("div", { id: "categories" }, categoryChips()), found, grid, more,
    ],
  };
}
