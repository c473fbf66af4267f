// Application shell: router, header and focus management.

import { patch, readProfile } from "./api.js";
import * as cart from "./cart.js";
import { listLink } from "./desk-tabs.js";
import { at, fill, h, leaveStatus, placeStatus, say } from "./dom.js";
import { alertBox } from "./forms.js";
import { counted } from "./format.js";
import { address, Problem } from "./http.js";
import { allow } from "./picture.js";
import * as session from "./session.js";
import * as store from "./store.js";
import * as text from "./text.js";
import { t } from "./text.js";
import { accountView } from "./view-account.js";
import { cartView } from "./view-cart.js";
import { catalogView } from "./view-catalog.js";
import { checkoutView } from "./view-checkout.js";
import { confirmView } from "./view-confirm.js";
import { customerView } from "./view-desk-customer.js";
import { mailsView } from "./view-desk-mails.js";
import { systemView } from "./view-desk-system.js";
import { usersView } from "./view-desk-users.js";
import { deskView } from "./view-desk.js";
import { figuresView } from "./view-figures.js";
import { jobView } from "./view-job.js";
import { orderView } from "./view-order.js";
import { ordersView } from "./view-orders.js";
import { productView } from "./view-product.js";
import { slipsView } from "./view-slips.js";
import { forgotView, registerView, resetView, signInView } from "./view-sign-in.js";

// Path, view and who may open it: "all", "customer" (any signed-in user) or "staff".
const VIEWS = [
  [/^\/$/, catalogView, "all"],
  [/^\/products\/([^/]+)$/, productView, "all"],
  [/^\/cart$/, cartView, "all"],
  [/^\/checkout$/, checkoutView, "customer"],
  [/^\/orders$/, ordersView, "customer"],
  [/^\/orders\/([\w-]+)$/, orderView, "customer"],
  [/^\/account$/, accountView, "customer"],
  [/^\/sign-in$/, signInView, "all"],
  [/^\/register$/, registerView, "all"],
  [/^\/forgot$/, forgotView, "all"],
  [/^\/reset$/, resetView, "all"],
  [/^\/confirm$/, confirmView, "all"],
  [/^\/desk$/, deskView, "staff"],
  [/^\/desk\/mails$/, mailsView, "staff"],
  [/^\/desk\/users$/, usersView, "staff"],
  [/^\/desk\/customers\/([\w-]+)$/, customerView, "staff"],
  [/^\/desk\/figures$/, figuresView, "staff"],
  [/^\/desk\/system$/, systemView, "staff"],
  [/^\/desk\/jobs\/([\w-]+)$/, jobView, "staff"],
  [/^\/desk\/slips$/, slipsView, "staff"],
  [/^\/desk\/orders\/([\w-]+)$/, orderView, "staff"],
];

const QUIET_MS = 200; // faster answers show no loading state
const config = fetch(address("/static/shop/config.json")).then((answer) => answer.json()).then((settings) => {
  allow(settings.image_origins);
  return settings;
});
const main = at("main");

let shown = new AbortController(); // cancels the work of the current view
let first = true;
let arrived = false; // whether the view of the current history entry is drawn, so that its scroll position counts

/** `{path, query}` of the URL fragment. */
function here() {
  const [path, query = ""] = (location.hash.slice(1) || "/").split("?");
  return { path: path.replace(/(.)\/$/, "$1"), query: new URLSearchParams(query) };
}

function decoded(parameter = "") {
  try {
    return decodeURIComponent(parameter);
  } catch {
    return parameter; // a lone percent sign
  }
}

function find(path) {
  for (const [pattern, view, access] of VIEWS) {
    const match = pattern.exec(path);
    if (match) return { view, access, parameter: decoded(match[1]) };
  }
  return { view: notFoundView, access: "all" };
}

const home = () => h("a", { class: "button primary", href: "#/" }, t("Continue shopping"));

const notFoundView = () => ({
  title: t("Page not found"),
  content: [h("h1", {}, t("Page not found")), h("p", {}, t("The link may be broken, or the page may have moved.")), h("p", { class: "actions" }, home())],
});

function failure(error, path) {
  const missing = error instanceof Problem && error.status === 404;
  const desk = path.startsWith("/desk");
  const retry = h("button", { type: "button", class: "button", onclick: () => show() }, t("Try again"));
  return {
    title: missing ? t("Not found") : t("Error"),
    content: [
      h("h1", {}, missing ? t("Not found") : t("This page could not be loaded")),
      missing ? h("p", {}, desk ? error.detail : t("The link may be broken, or the page may have moved.")) : alertBox(error),
      h("p", { class: "actions" }, !missing && retry, desk ? h("a", { class: "button primary", href: listLink() }, "Back to the orders") : home()),
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
  const scrolled = history.state?.y; // set when the user came back by Back or Forward, or reloads
  arrived = false;
  shown.abort();
  shown = new AbortController();
  if (!keepFocus) leaveStatus();
  const { signal } = shown;
  const waiting = setTimeout(() => main.setAttribute("aria-busy", "true"), QUIET_MS);
  let drawn;
  try {
    // The order desk is written in English, so all of it is shown in English.
    await text.use(path.startsWith("/desk") ? "en" : text.preferred(session.user()));
    drawn = await view({ parameter, query, path, signal, config: await config, again: () => show({ keepFocus: true }) });
  } catch (error) {
    if (!signal.aborted && error instanceof Problem && error.status === 401 && access !== "all") {
      session.forget();
      return;
    }
    drawn = failure(error, path);
  } finally {
    clearTimeout(waiting);
  }
  if (signal.aborted) return;
  main.removeAttribute("aria-busy");
  main.dataset.view = path;
  document.title = `${drawn.title} · ${(await config).name}`;
  fill(main, h("div", { class: `view ${drawn.kind ?? ""}` }, drawn.content));
  drawFrame();
  markNavigation(path);
  if (!keepFocus && !first) arrive(scrolled);
  else if (!keepFocus && scrolled) scrollTo(0, scrolled);
  first = false;
  arrived = true;
  drawn.mounted?.();
  placeStatus();
}

/** Scroll to the top or where the user was before, and move the focus to the heading, where screen readers start. */
function arrive(scrolled = 0) {
  scrollTo(0, scrolled);
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
  at("nav-account").textContent = user ? user.name : t("Sign in");
  at("nav-account").href = user ? "#/account" : "#/sign-in";
  at("nav-account").classList.toggle("name", Boolean(user));
  const count = cart.count();
  at("cart-count").dataset.count = count; // the label says it
  at("cart-count").hidden = count === 0;
  at("nav-cart").setAttribute("aria-label", `${t("Cart")}, ${counted(count, "item")}`);
}

const WARNINGS = {
  denied: "Your browser does not let this shop store data. Your cart and your sign-in last until you close this page.",
  unreadable: "The cart or sign-in that this browser had stored was damaged and has been removed.",
};
let warned = false;

/** Say once, until it is dismissed, that the user's data are not kept or were lost. */
function drawWarning() {
  const reason = store.trouble();
  if (!reason || warned) return;
  const dismiss = () => { warned = true; at("warning").hidden = true; };
  fill(at("warning"), h("p", {}, t(WARNINGS[reason])), h("button", { type: "button", class: "button small", onclick: dismiss }, t("OK")));
  at("warning").hidden = false;
}

/** Header and footer in the language of the page. */
function drawFrame() {
  for (const shown of document.querySelectorAll("[data-text]")) shown.textContent = t(shown.dataset.text);
  for (const shown of document.querySelectorAll("[data-label]")) shown.setAttribute("aria-label", t(shown.dataset.label));
  at("language").value = text.current();
  at("foot-language").hidden = here().path.startsWith("/desk");
  drawBar();
  drawWarning();
  config.then(drawFoot);
}

function drawFoot({ contact, legal_url: legal, development, mailbox }) {
  const links = [
    legal && [legal, t("Legal notice")],
    contact && [`mailto:${contact}`, t("Contact")],
    ...(development ? [["docs", "API"], ["problems", "Problem types"]] : []),
    mailbox && ["mailbox", "Mailbox"],
  ];
  fill(at("foot-links"), links.filter(Boolean).map(([href, label]) => h("a", { href }, label)));
}

/** The user chose a language: for this browser, and for the profile if there is one. */
async function chooseLanguage(code) {
  text.choose(code);
  const user = session.user();
  if (user) {
    session.update({ ...user, language: code });
    patch(`/user/${user.user_id}`, { language: code }).catch(() => null); // it still holds in this browser
  }
  await show({ keepFocus: true });
}

fill(at("language"), Object.entries(text.LANGUAGES).map(([code, name]) => h("option", { value: code, lang: code }, name)));
at("language").addEventListener("change", (event) => chooseLanguage(event.target.value));
at("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the fragment is the route
  main.focus();
});
history.scrollRestoration = "manual"; // the browser would scroll before the view is drawn
addEventListener("scroll", () => {
  if (arrived) history.replaceState({ ...history.state, y: scrollY }, "");
}, { passive: true });
addEventListener("popstate", () => { arrived = false; }); // comes before a scroll that the view before it still reports
addEventListener("hashchange", () => show());
addEventListener("pagehide", () => shown.abort()); // lets another tab have the live stream
addEventListener("pageshow", (event) => event.persisted && show({ keepFocus: true }));
cart.changes.addEventListener("change", () => { drawBar(); drawWarning(); });
session.changes.addEventListener("change", () => {
  drawBar();
  const { access } = find(here().path);
  if (!session.user() && access !== "all") {
    say(t("You have been signed out."), { keep: true });
    show();
  }
});
readProfile().catch(() => null); // what is remembered of it still holds
show();
