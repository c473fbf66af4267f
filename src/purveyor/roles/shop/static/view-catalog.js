// Product list with categories, search and sorting.

import * as cart from "./cart.js";
import { categories, productLink, products, search, sorted } from "./catalog.js";
import { at, chips, emptyState, fill, h, newId, say } from "./dom.js";
import { alertBox } from "./forms.js";
import { category as categoryName, counted, money } from "./format.js";
import { picture } from "./picture.js";
import { t } from "./text.js";

const STEP = 24;

/** Button that adds a product to the cart. */
export function addButton(product, { quantity = () => 1, kind = "" } = {}) {
  const onclick = () => {
    const fits = cart.add(product.id, quantity());
    say(fits
      ? t("{title} was added to your cart.", product)
      : t("Your cart can hold at most {most} different products.", { most: cart.MAX_LINES }));
  };
  return h("button", { type: "button", class: `button ${kind}`, onclick, "aria-label": t("Add to cart: {title}", product) }, t("Add to cart"));
}

/** A product in the grid. */
export function card(product, { eager = false } = {}) {
  return h("li", { class: "card" },
    h("a", { href: productLink(product.id) }, picture(product, { eager }), h("h2", {}, product.title)),
    h("div", { class: "card-foot" }, h("span", { class: "price" }, money(product.price, product.currency)), addButton(product)));
}

const SORTS = [["", "Featured"], ["price", "Price: low to high"], ["-price", "Price: high to low"], ["title", "Name"]];

export async function catalogView({ query, signal }) {
  const listing = await products().first;
  const state = { category: query.get("category") ?? "", query: query.get("q") ?? "", sort: query.get("sort") ?? "" };
  const grid = h("ul", { class: "grid", "aria-labelledby": "found" });
  const more = h("p", { class: "actions center" });
  const found = h("p", { class: "found", id: "found", role: "status" });
  const trouble = h("div");
  let size = STEP;

  function address(changed) {
    const values = { category: state.category, q: state.query, sort: state.sort, ...changed };
    const text = new URLSearchParams(Object.entries(values).filter(([, value]) => value)).toString();
    return text ? `#/?${text}` : "#/";
  }

  function draw() {
    const hits = sorted(search(listing.products, state), state.sort);
    const shown = hits.slice(0, size);
    found.textContent = listing.complete ? counted(hits.length, "product") : t("{found}, still loading…", { found: counted(hits.length, "product") });
    fill(grid, shown.map((product, place) => card(product, { eager: place < 8 })));
    fill(more, hits.length > shown.length && h("button", { type: "button", class: "button", onclick: grow }, t("Show more")));
    grid.hidden = hits.length === 0;
    if (hits.length === 0 && listing.complete) {
      const all = h("a", { class: "button", href: "#/" }, t("Show all products"));
      fill(more, emptyState(t("No products found"), t("Try another search or category."), all));
    }
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

  const categoryChips = () => chips(t("Categories"), [
    [t("All"), address({ category: "" }), !state.category],
    ...categories(listing.products).map((name) => [categoryName(name), address({ category: name }), name === state.category]),
  ]);

  /** More products were loaded. The grid is redrawn only if that changes it, because somebody may be using it. */
  function grown() {
    const before = grid.children.length;
    if (before < size || state.sort || listing.complete) draw();
    if (at("categories")) fill(at("categories"), categoryChips());
  }

  const ids = { search: newId("search"), sort: newId("sort") };
  const controls = h("div", { class: "finder", role: "search" },
    h("label", { class: "visually-hidden", for: ids.search }, t("Search products")),
    h("input", {
      id: ids.search, type: "search", value: state.query, placeholder: t("Search products"), autocomplete: "off",
      oninput: (event) => change({ query: event.target.value }),
    }),
    h("label", { class: "visually-hidden", for: ids.sort }, t("Sort by")),
    h("select", { id: ids.sort, onchange: (event) => change({ sort: event.target.value }) },
      SORTS.map(([value, text]) => h("option", { value, selected: value === state.sort }, t(text)))));

  draw();
  if (!listing.complete) {
    listing.addEventListener("grown", grown, { signal });
    listing.all.catch((error) => {
      if (!signal.aborted) fill(trouble, alertBox(error));
    });
  }
  return {
    title: state.category ? categoryName(state.category) : t("Products"),
    content: [
      h("div", { class: "head" },
        h("h1", {}, state.category ? categoryName(state.category) : t("All products")), controls),
      h("div", { id: "categories" }, categoryChips()), found, grid, more, trouble,
    ],
  };
}
