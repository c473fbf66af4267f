// The development mailbox: shows what GET /mailbox/messages answers. The chosen mail's id is in the URL's fragment.
// Mail data reaches the page as text only; a mail's HTML lives in a frame without scripts and without our origin.
"use strict";

const REFRESH_MS = 2000;
const TIMEOUT_MS = 5000;

const at = (id) => document.getElementById(id);
const narrow = matchMedia("(max-width: 48rem)");
const items = new Map(); // mail id to its list item, so that a refresh keeps focus and scroll position
let mails = null; // newest first; null until the first answer
let shown = null;
let frame = at("html");

const fragmentFor = (id) => `#${encodeURIComponent(id)}`;
const chosenMail = () => mails.find((mail) => fragmentFor(mail.id) === location.hash) ?? null;

function element(tag, className, text) {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

function shortTime(moment) {
  const today = moment.toDateString() === new Date().toDateString();
  const form = today ? { hour: "2-digit", minute: "2-digit" } : { day: "numeric", month: "short" };
  return moment.toLocaleString(undefined, form);
}

function listItem(mail, isNew) {
  const time = element("time", "", shortTime(new Date(mail.sent_at)));
  time.dateTime = mail.sent_at;
  const button = document.createElement("button");
  button.type = "button";
  button.append(element("span", "to", mail.to), time, element("span", "subject", mail.subject || "(no subject)"));
  button.addEventListener("click", () => choose(mail.id));
  const item = element("li", isNew ? "new" : "", "");
  item.append(button);
  return item;
}

function choose(id) {
  if (narrow.matches) {
    location.hash = fragmentFor(id); // a step of its own, so that the browser's Back leads to the list
  } else {
    location.replace(fragmentFor(id));
  }
}

function showView() {
  const asText = at("as-text").checked || !shown.html;
  frame.hidden = asText;
  at("text").hidden = !asText;
}

/** The mail's HTML with links that open in a tab of their own: inside the frame they would be blocked. */
function framed(html) {
  const parsed = new DOMParser().parseFromString(html, "text/html");
  const base = parsed.createElement("base");
  base.target = "_blank";
  parsed.head.prepend(base);
  return `<!doctype html>${parsed.documentElement.outerHTML}`;
}

function fillMail(mail) {
  const sent = new Date(mail.sent_at);
  at("subject").textContent = mail.subject || "(no subject)";
  at("to").textContent = mail.to;
  at("sent").textContent = sent.toLocaleString(undefined, { dateStyle: "long", timeStyle: "medium" });
  at("sent").dateTime = mail.sent_at;
  at("text").textContent = mail.text;
  at("views").hidden = !mail.html;
  const fresh = frame.cloneNode(); // a frame that navigates would add to the browser's history
  fresh.srcdoc = framed(mail.html ?? "");
  frame.replaceWith(fresh);
  frame = fresh;
}

/** Bring the page in line with the mails and the fragment. */
function show() {
  const mail = chosenMail();
  const changed = mail?.id !== shown?.id;
  const before = shown;
  shown = mail;
  at("main").classList.toggle("reading", mail !== null);
  at("main").classList.toggle("empty", mails.length === 0);
  at("blank").hidden = mails.length > 0;
  at("mail").hidden = mail === null;
  for (const [id, item] of items) {
    item.firstChild.setAttribute("aria-current", String(id === mail?.id));
  }
  if (!changed) return;
  if (mail === null) {
    items.get(before.id)?.firstChild.focus();
    return;
  }
  items.get(mail.id).classList.remove("new");
  fillMail(mail);
  showView();
  if (narrow.matches) at("mail").focus();
}

function take(answer) {
  const first = mails === null;
  mails = answer;
  const present = new Set(mails.map((mail) => mail.id));
  for (const [id, item] of items) {
    if (!present.has(id)) {
      item.remove();
      items.delete(id);
    }
  }
  for (const mail of mails.toReversed()) {
    if (!items.has(mail.id)) {
      items.set(mail.id, listItem(mail, !first));
      at("mails").prepend(items.get(mail.id));
    }
  }
  if (mails.length > 0 && !narrow.matches && chosenMail() === null) choose(mails[0].id);
  show();
}

function say(text) {
  if (at("status").textContent !== text) at("status").textContent = text; // the same text is not announced again
}

async function refresh() {
  try {
    const response = await fetch("/mailbox/messages?limit=100", { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (!response.ok) throw new Error(`status ${response.status}`);
    take(await response.json());
    say(mails.length === 1 ? "1 mail" : `${mails.length} mails`);
  } catch (error) {
    console.warn("The mails cannot be loaded:", error);
    say("The mails cannot be loaded; trying again");
  }
}

async function keepFresh() {
  if (!document.hidden) await refresh();
  setTimeout(keepFresh, REFRESH_MS);
}

function moveInList(event) {
  const buttons = [...at("mails").querySelectorAll("button")];
  const here = buttons.indexOf(document.activeElement);
  const goals = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: buttons.length - 1 };
  const goal = buttons[goals[event.key]];
  if (goal === undefined) return;
  event.preventDefault();
  goal.focus();
  if (!narrow.matches) goal.click();
}

addEventListener("hashchange", () => mails !== null && show());
document.addEventListener("visibilitychange", () => document.hidden || refresh());
at("mails").addEventListener("keydown", moveInList);
at("as-html").addEventListener("change", showView);
at("as-text").addEventListener("change", showView);
at("back").addEventListener("click", () => { location.hash = ""; });
keepFresh();
