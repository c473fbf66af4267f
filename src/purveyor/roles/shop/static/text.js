// Texts in the user's language. A text is named by its English form; one without a translation stays English.

import * as store from "./store.js";

const KEY = "purveyor.language";
export const LANGUAGES = { en: "English", de: "Deutsch", es: "Español", fr: "Français" };

let language = "en";
let texts = {};

/** The language of the page. */
export const current = () => language;

const supported = (tag) => {
  const code = (tag ?? "").toLowerCase().split("-")[0];
  return LANGUAGES[code] ? code : null;
};

/** The language of the user's profile, else the one chosen in this browser, else the browser's own. */
export const preferred = (user) => supported(user?.language)
  ?? supported(store.read(KEY, (value) => typeof value === "string"))
  ?? navigator.languages.map(supported).find(Boolean) ?? "en";

/** Remember a choice in this browser. */
export const choose = (code) => store.write(KEY, code);

/** Load the texts of a language and make it the language of the page. */
export async function use(code) {
  if (code === language) return;
  const { default: found } = code === "en" ? { default: {} } : await import(`./text-${code}.js`);
  texts = found;
  language = code;
  document.documentElement.lang = code;
}

/** Tag for `Intl`: the browser's own regional form of the page's language, if it has one. */
export const locale = () => navigator.languages.find((tag) => supported(tag) === language) ?? language;

const filled = (text, values) => text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);

/** A text with `{name}` replaced by the values. */
export const t = (text, values = {}) => filled(texts[text] ?? text, values);

/** A text for a number: `one` for 1 and `many` otherwise, both with `{n}`. Translations have a form per plural category. */
export function plural(number, one, many) {
  const forms = texts[many] ?? { one, other: many };
  const form = forms[new Intl.PluralRules(language).select(number)] ?? forms.other;
  return filled(form, { n: new Intl.NumberFormat(locale()).format(number) });
}

/** A text of the API, which answers in English. `lang` marks it where there is no translation. */
export const foreign = (text) => ({ text: t(text), lang: language !== "en" && !(text in texts) ? "en" : null });
