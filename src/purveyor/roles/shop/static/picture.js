// Product pictures.

import { h } from "./dom.js";
import { address } from "./http.js";

const NONE = "/static/shop/no-picture.svg";

let origins = [];
/** Allow pictures from other origins, as the page's Content-Security-Policy does. */
export const allow = (more) => { origins = more; };

/** The URL of a product's picture, or `null` if there is none or it is on an origin that is not allowed. */
function source({ image }) {
  if (!image) return null;
  try {
    const url = /^\/(?!\/)/.test(image) ? address(image) : new URL(image, document.baseURI);
    return [location.origin, ...origins].some((origin) => origin === "*" || origin === url.origin) ? url.href : null;
  } catch {
    return null; // not a URL
  }
}

/** A product's picture, or a neutral one where it cannot be had. */
export function picture(product, { eager = false } = {}) {
  const found = source(product);
  const none = address(NONE).href;
  return h("img", {
    class: "picture", src: found ?? none, alt: "", width: 480, height: 320, loading: eager ? "eager" : "lazy",
    onerror: ({ target }) => { if (target.src !== none) target.src = none; },
  });
}
