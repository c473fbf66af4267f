// The cart: product ids and quantities, shared by all tabs. Prices come from the catalog.

import * as store from "./store.js";

const KEY = "purveyor.cart";
export const MAX_QUANTITY = 1000;
export const MAX_LINES = 100;

/** Dispatches "change" when the cart changes in any tab. */
export const changes = new EventTarget();

const isLine = (line) => ["number", "string"].includes(typeof line?.id)
  && Number.isInteger(line.quantity) && line.quantity > 0 && line.quantity <= MAX_QUANTITY;

const isCart = (value) => Array.isArray(value) && value.length <= MAX_LINES && value.every(isLine);

/** `[{id, quantity}]` in the order of adding. A product id is a number or a string. */
export const lines = () => store.read(KEY, isCart) ?? [];

/** Total quantity of all lines. */
export const count = () => lines().reduce((total, line) => total + line.quantity, 0);

function write(next) {
  store.write(KEY, next);
  changes.dispatchEvent(new Event("change"));
}

/** Set the quantity of a product; 0 removes it. Returns `false` if the cart is full. */
export function set(id, quantity) {
  const present = lines();
  const wanted = Math.min(Math.max(Math.trunc(quantity) || 0, 0), MAX_QUANTITY);
  const line = present.find((one) => one.id === id);
  if (!line && present.length >= MAX_LINES) return false;
  if (line) line.quantity = wanted;
  else present.push({ id, quantity: wanted });
  write(present.filter((one) => one.quantity > 0));
  return true;
}

/** Add a product. Returns `false` if the cart is full. */
export const add = (id, quantity = 1) => set(id, quantity + (lines().find((line) => line.id === id)?.quantity ?? 0));

/** Remove the ordered quantities; products added in the meantime stay. */
export function removeOrdered(ordered) {
  const gone = new Map(ordered.map((item) => [item.product_id, item.quantity]));
  write(lines()
    .map((line) => ({ ...line, quantity: line.quantity - (gone.get(line.id) ?? 0) }))
    .filter((line) => line.quantity > 0));
}

store.watch(KEY, () => changes.dispatchEvent(new Event("change")));
