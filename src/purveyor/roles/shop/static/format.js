// Amounts, times and API values as text.

const currencies = new Map();

/** An amount in major units of an ISO 4217 currency. */
export function money(amount, currency) {
  if (!currencies.has(currency)) {
    currencies.set(currency, new Intl.NumberFormat(undefined, { style: "currency", currency }));
  }
  return currencies.get(currency).format(amount);
}

/** Sum of amounts in major units, added as integers of minor units to avoid rounding errors. */
export const sum = (amounts) => amounts.reduce((total, amount) => total + Math.round(amount * 100), 0) / 100;

const dayTime = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });

export const moment = (text) => dayTime.format(new Date(text));
export const date = (text) => day.format(new Date(text));

const CATEGORIES = { tv: "TV", smarthome: "Smart home", mobile: "Phones", laptop: "Laptops", camera: "Cameras", wearable: "Wearables" };
const PAYMENTS = { cash_on_delivery: "Cash on delivery", card: "Card", bank_transfer: "Bank transfer" };

/** A status, access level or other API value, capitalized. */
export const word = (text) => text.charAt(0).toUpperCase() + text.slice(1).replaceAll("_", " ");

export const category = (name) => CATEGORIES[name] ?? word(name);
export const payment = (name) => PAYMENTS[name] ?? word(name);

/** "1 product", "2 products". */
export const counted = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;

/** The lines of a postal address. */
export function addressLines(address) {
  const place = [address.postal_code, address.city].filter(Boolean).join(" ");
  const country = new Intl.DisplayNames(undefined, { type: "region", fallback: "code" }).of(address.country);
  return [address.recipient, address.line1, address.line2, place, address.region, country, address.phone].filter(Boolean);
}
