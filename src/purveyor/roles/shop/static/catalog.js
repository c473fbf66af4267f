// All products of the shop, loaded page by page and cached for a minute.

import { get, withQuery } from "./api.js";

const PAGE = 100;
const MOST_PAGES = 20;
const FRESH_MS = 60_000;

let known = null;
let readAt = 0;

async function readAll() {
  const found = [];
  for (let page = 1; page <= MOST_PAGES; page += 1) {
    const { products } = await get(withQuery("/api/products", { page, limit: PAGE }));
    found.push(...products);
    if (products.length < PAGE) break;
  }
  return found;
}

/** All products. Throws `Problem`. */
export function products() {
  if (!known || Date.now() - readAt > FRESH_MS) {
    readAt = Date.now();
    known = readAll();
    known.catch(() => { known = null; });
  }
  return known;
}

/** Categories of the products, sorted. */
export const categories = (all) => [...new Set(all.map((product) => product.category))].sort();

const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

/** Products of the category that contain every word of the query. */
export function search(all, { category = "", query = "" }) {
  const words = plain(query).split(/\s+/).filter(Boolean);
  return all.filter((product) => {
    if (category && product.category !== category) return false;
    const text = plain([product.title, product.brand, product.model, product.color, product.category, product.description].join(" "));
    return words.every((word) => text.includes(word));
  });
}

const ORDERINGS = {
  price: (one, other) => one.price - other.price,
  "-price": (one, other) => other.price - one.price,
  title: (one, other) => one.title.localeCompare(other.title),
};

/** A sorted copy; an unknown `by` keeps the order. */
export const sorted = (some, by) => (ORDERINGS[by] ? [...some].sort(ORDERINGS[by]) : some);
