// The cart: product ids and quantities in this browser, the same in all tabs; prices come from the catalogue.

const KEY = "purveyor.cart";
export const MAX_QUANTITY = 1000;
export const MAX_LINES = 100;

/** Says "change" when the cart does, here or in another tab. */
export const changes = new EventTarget();

/** `[{id, quantity}]`, in the order in which they were added. */
export const lines = () => JSON.parse(localStorage.getItem(KEY) ?? "[]");

/** How many things are in the cart. */
export const count = () => lines().reduce((total, line) => total + line.quantity, 0);

function write(next) {
  localStorage.setItem(KEY, JSON.stringify(next));
  changes.dispatchEvent(new Event("change"));
}

/** Set how many of a product there are; 0 takes it out. Returns `false` where the cart is full. */
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

/** Add some of a product. Returns `false` where the cart is full. */
export const add = (id, quantity = 1) => set(id, quantity + (lines().find((line) => line.id === id)?.quantity ?? 0));

/** Take out what was ordered; what was added meanwhile stays. */
export function takeOut(ordered) {
  const gone = new Map(ordered.map((item) => [item.product_id, item.quantity]));
  write(lines()
    .map((line) => ({ ...line, quantity: line.quantity - (gone.get(line.id) ?? 0) }))
    .filter((line) => line.quantity > 0));
}

addEventListener("storage", (event) => {
  if (event.key === KEY) changes.dispatchEvent(new Event("change"));
});
