// Application shell: router, header and focus management.

import * as cart from "./cart.js";
import { at, fill, h, say } from "./dom.js";
import { alertBox } from "./forms.js";
import { Problem } from "./http.js";
import * as session from "./session.js";
import { accountView } from "./view-account.js";
import { cartView } from "./view-cart.js";
import { catalogView } from "./view-catalog.js";
import { checkoutView } from "./view-checkout.js";
import { deadLettersView, mailsView } from "./view-desk-mails.js";
import { deskView } from "./view-desk.js";
import { orderView } from "./view-order.js";
import { ordersView } from "./view-orders.js";
import { productView } from "./view-product.js";
import { forgotView, registerView, resetView, signInView } from "./view-sign-in.js";

// Path, view and who may open it: "all", "customer" (any signed-in user) or "staff".
const VIEWS = [
  [/^\/$/, catalogView, "all"],
  [/^\/products\/(\d+)$/, productView, "all"],
  [/^\/cart$/, cartView, "all"],
  [/^\/checkout$/, checkoutView, "customer"],
  [/^\/orders$/, ordersView, "customer"],
  [/^\/orders\/([\w-]+)$/, orderView, "customer"],
  [/^\/account$/, accountView, "customer"],
  [/^\/sign-in$/, signInView, "all"],
  [/^\/register$/, registerView, "all"],
  [/^\/forgot$/, forgotView, "all"],
  [/^\/reset$/, resetView, "all"],
  [/^\/desk$/, deskView, "staff"],
  [/^\/desk\/mails$/, mailsView, "staff"],
  [/^\/desk\/dead-letters$/, deadLettersView, "staff"],
  [/^\/desk\/orders\/([\w-]+)$/, orderView, "staff"],
];

const QUIET_MS = 200; // faster answers show no loading state
const config = fetch("/static/shop/config.json").then((answer) => answer.json());
const main = at("main");

let shown = new AbortController(); // cancels the work of the current view
let first = true;

/** `{path, query}` of the URL fragment. */
function here() {
  const [path, query = ""] = (location.hash.slice(1) || "/").split("?");
  return { path: path.replace(/(.)\/$/, "$1"), query: new URLSearchParams(query) };
}

function find(path) {
  for (const [pattern, view, access] of VIEWS) {
    const match = pattern.exec(path);
    if (match) return { view, access, parameter: match[1] };
  }
  return { view: notFoundView, access: "all" };
}

const home = () => h("a", { class: "button primary", href: "#/" }, "Continue shopping");

const notFoundView = () => ({
  title: "Page not found",
  content: [h("h1", {}, "Page not found"), h("p", {}, "The link may be broken, or the page may have moved."), h("p", { class: "actions" }, home())],
});

function failure(error) {
  const missing = error instanceof Problem && error.status === 404;
  const retry = h("button", { type: "button", class: "button", onclick: () => show() }, "Try again");
  return {
    title: missing ? "Not found" : "Error",
    content: [
      h("h1", {}, missing ? "Not found" : "This page could not be loaded"),
      alertBox(error),
      h("p", { class: "actions" }, !missing && retry, home()),
    ],
  };
}

function guard(access, hash) {
  if (access === "all" || (access === "customer" && session.user()) || session.isStaff()) return null;
  if (!session.user()) return `#/sign-in?next=${encodeURIComponent(hash)}`;
  return "#/";
}

/** Render the view of the current URL. With `keepFocus` the current view is only refreshed. */
async function show({ keepFocus = false } = {}) {
  const { path, query } = here();
  const { view, access, parameter } = find(path);
  const redirect = guard(access, location.hash);
  if (redirect) {
    location.replace(redirect);
    return;
  }
  shown.abort();
  shown = new AbortController();
  const { signal } = shown;
  const waiting = setTimeout(() => main.setAttribute("aria-busy", "true"), QUIET_MS);
  let drawn;
  try {
    drawn = await view({ parameter, query, path, signal, config: await config, again: () => show({ keepFocus: true }) });
  } catch (error) {
    if (!signal.aborted && error instanceof Problem && error.status === 401 && access !== "all") {
      session.forget();
      return;
    }
    drawn = failure(error);
  } finally {
    clearTimeout(waiting);
  }
  if (signal.aborted) return;
  main.removeAttribute("aria-busy");
  main.dataset.view = path;
  document.title = `${drawn.title} · Purveyor`;
  fill(main, h("div", { class: `view ${drawn.kind ?? ""}` }, drawn.content));
  markNavigation(path);
  if (!keepFocus && !first) arrive();
  first = false;
  drawn.mounted?.();
}

/** Scroll to the top and move the focus to the heading, where screen readers start to read. */
function arrive() {
  scrollTo(0, 0);
  const heading = main.querySelector("h1");
  heading?.setAttribute("tabindex", "-1");
  heading?.focus({ preventScroll: true });
}

function markNavigation(path) {
  for (const link of document.querySelectorAll(".bar nav a")) {
    const target = link.getAttribute("href").slice(1);
    const current = target === "/" ? path === "/" || path.startsWith("/products") : path.startsWith(target);
    if (current) link.setAttribute("aria-current", target === path ? "page" : "true");
    else link.removeAttribute("aria-current");
  }
}

function drawBar() {
  const user = session.user();
  at("nav-orders").hidden = !user;
  at("nav-desk").hidden = !session.isStaff();
  at("nav-account").textContent = user ? user.name : "Sign in";
  at("nav-account").href = user ? "#/account" : "#/sign-in";
  at("nav-account").classList.toggle("name", Boolean(user));
  const count = cart.count();
  at("cart-count").textContent = count;
  at("cart-count").hidden = count === 0;
  at("nav-cart").setAttribute("aria-label", count === 1 ? "Cart, 1 item" : `Cart, ${count} items`);
}

at("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the fragment is the route
  main.focus();
});
addEventListener("hashchange", () => show());
cart.changes.addEventListener("change", drawBar);
session.changes.addEventListener("change", () => {
  drawBar();
  const { access } = find(here().path);
  if (!session.user() && access !== "all") {
    say("You have been signed out.");
    show();
  }
});
config.then((settings) => { at("foot-mailbox").hidden = !settings.mailbox; });
drawBar();
show();
