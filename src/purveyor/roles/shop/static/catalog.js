// The products of the shop, loaded page by page and kept for a minute.

import { get, withQuery } from "./api.js";
import { Problem } from "./http.js";
import { plainText } from "./html-text.js";

const PAGE = 100;
const FRESH_MS = 60_000;

let listing = null;

/** All products, in `products` as far as they are loaded. Dispatches "grown" after each page but the first. */
class Listing extends EventTarget {
  products = [];
  complete = false;
  #begun = Date.now();
  #seen = new Set();

  constructor() {
    super();
    this.first = this.#page(1);
    this.all = this.first.then(() => this.#rest());
    this.all.catch(() => { if (listing === this) listing = null; });
  }

  get fresh() {
    return Date.now() - this.#begun < FRESH_MS;
  }

  /** Read a page. A page may be short: products that cannot be sold are left out. */
  async #page(number) {
    const { products, has_more: more } = await get(withQuery("/api/products", { page: number, limit: PAGE }));
    const fresh = products.filter((product) => !this.#seen.has(product.id));
    fresh.forEach((product) => this.#seen.add(product.id));
    this.products = [...this.products, ...fresh];
    this.complete = !(more ?? products.length === PAGE) || (products.length > 0 && fresh.length === 0);
    return this;
  }

  async #rest() {
    for (let number = 2; !this.complete; number += 1) {
      await this.#page(number);
      this.dispatchEvent(new Event("grown"));
    }
    return this;
  }
}

/** The current listing. Await `first` for its first page, or `all`; both throw `Problem`. */
export function products() {
  if (!listing?.fresh) listing = new Listing();
  return listing;
}

/** Read the products again the next time: what is known of them is no longer true. */
export function forget() {
  listing = null;
}

/** A product by its id, or `undefined` if it cannot be bought. Throws `Problem` if that cannot be found out. */
export async function find(id) {
  const known = listing?.fresh && listing.products.find((product) => product.id === id);
  if (known) return known;
  try {
    return await get(`/api/products/${encodeURIComponent(id)}`);
  } catch (error) {
    if (error instanceof Problem && !error.temporary) return undefined;
    throw error;
  }
}

/** The fragment of a product's page. */
export const productLink = (id) => `#/products/${encodeURIComponent(id)}`;

/** Categories of the products, sorted. */
export const categories = (all) => [...new Set(all.map((product) => product.category))].filter(Boolean).sort();

const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

const searched = new WeakMap();

/** What a product can be found by. */
function words(product) {
  if (!searched.has(product)) {
    searched.set(product, plain([
      product.title, product.brand, product.model, product.color, product.category, plainText(product.description),
    ].join(" ")));
  }
  return searched.get(product);
}

/** Products of the category that contain every word of the query. */
export function search(all, { category = "", query = "" }) {
  const wanted = plain(query).split(/\s+/).filter(Boolean);
  return all.filter((product) => (!category || product.category === category)
    && wanted.every((word) => words(product).includes(word)));
}

const ORDERINGS = {
  price: (one, other) => one.price - other.price,
  "-price": (one, other) => other.price - one.price,
  title: (one, other) => one.title.localeCompare(other.title),
};

/** A sorted copy; an unknown `by` keeps the order. */
export const sorted = (some, by) => (ORDERINGS[by] ? [...some].sort(ORDERINGS[by]) : some);
