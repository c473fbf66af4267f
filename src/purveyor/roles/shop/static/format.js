// Amounts, times and API values as text.

import { locale, plural, t } from "./text.js";

// Decimals in ISO 4217 where they are not 2. Intl rounds some currencies more than that, such as HUF.
const DECIMALS = {
  BIF: 0, CLP: 0, DJF: 0, GNF: 0, ISK: 0, JPY: 0, KMF: 0, KRW: 0, PYG: 0, RWF: 0, UGX: 0, UYI: 0, VND: 0, VUV: 0, XAF: 0,
  XOF: 0, XPF: 0, BHD: 3, IQD: 3, JOD: 3, KWD: 3, LYD: 3, OMR: 3, TND: 3, CLF: 4, UYW: 4,
};
const decimals = (currency) => DECIMALS[currency] ?? 2;

const formats = new Map();

/** The `Intl` format of this kind for the page's language. */
function format(kind, options) {
  const key = `${kind.name} ${locale()} ${JSON.stringify(options)}`;
  if (!formats.has(key)) formats.set(key, new kind(locale(), options));
  return formats.get(key);
}

// Their signs are understood in every language; Spanish, for one, would write GBP.
const SIGNED = new Set(["EUR", "GBP", "JPY", "USD"]);

/** An amount in major units of an ISO 4217 currency. */
export function money(amount, currency) {
  const digits = decimals(currency);
  const currencyDisplay = SIGNED.has(currency) ? "narrowSymbol" : "symbol";
  const options = { style: "currency", currency, currencyDisplay, minimumFractionDigits: digits, maximumFractionDigits: digits };
  return format(Intl.NumberFormat, options).format(amount);
}

/** Sum of `[price, quantity]` in major units, added as integers of minor units to avoid rounding errors. */
export function total(priced, currency) {
  const scale = 10 ** decimals(currency);
  return priced.reduce((minor, [price, quantity]) => minor + Math.round(price * scale) * quantity, 0) / scale;
}

export const moment = (text) => format(Intl.DateTimeFormat, { dateStyle: "medium", timeStyle: "short" }).format(new Date(text));
export const date = (text) => format(Intl.DateTimeFormat, { dateStyle: "medium" }).format(new Date(text));

/** The name of a country in the page's language. */
export const country = (code) => format(Intl.DisplayNames, { type: "region", fallback: "code" }).of(code);

/** The name of a language in the page's language. */
export const languageName = (code) => format(Intl.DisplayNames, { type: "language", fallback: "code" }).of(code);

const CATEGORIES = { tv: "TV", smarthome: "Smart home", mobile: "Phones", laptop: "Laptops", camera: "Cameras", wearable: "Wearables" };

const capitalized = (text) => text.charAt(0).toUpperCase() + text.slice(1).replaceAll("_", " ");

/** A status, access level or other API value, capitalized. */
export const word = (text) => t(capitalized(text));

export const category = (name) => t(CATEGORIES[name] ?? capitalized(name));
export const payment = (name) => word(name);

/** "1 product", "2 products". */
export const counted = (number, one, many = `${one}s`) => plural(number, `{n} ${one}`, `{n} ${many}`);

// Countries that write the city before the postal code.
const CITY_FIRST = new Set(["AU", "BR", "CA", "GB", "IE", "IN", "KR", "NZ", "SG", "TW", "US", "ZA"]);

const joined = (parts, by) => parts.filter(Boolean).join(by);

/** The lines of a postal address, in the order that emails write them. */
export function addressLines({ recipient, line1, line2, city, postal_code: code, region, country: to, phone }) {
  const place = CITY_FIRST.has(to) ? joined([city, joined([region, code], " ")], ", ") : joined([joined([code, city], " "), region], ", ");
  return [recipient, line1, line2, place, country(to), phone].filter(Boolean);
}
