// The development mailbox: shows GET /mailbox/messages or GET /mailbox/previews. The URL fragment holds the selection,
// a message id or the kind and language of a preview.
// Mail data is inserted as text only. The HTML of a mail is shown in a sandboxed frame without scripts.
"use strict";

const base = new URL("..", document.currentScript.src);
const REFRESH_MS = 2000;
const TIMEOUT_MS = 5000;
const PAGE = 50;
const MOST = 1000; // of GET /mailbox/messages
const LIST = "mailbox/messages";

const at = (id) => document.getElementById(id);
const narrow = matchMedia("(max-width: 48rem)");
const PREVIEWS = "#preview/";
const items = new Map(); // list items by fragment, so that a refresh keeps focus and scroll position
let mails = null; // newest first; null until the first answer
let previews = null; // all kinds in all languages; loaded on first use
let language = navigator.language.split("-")[0]; // of the previews
let shown = null;
let frame = at("html");
let wanted = PAGE; // how many emails are listed
let total = 0; // how many there are, or match the search

const seen = new Set(); // fragments that were listed before, also by another search

const isPreviewing = () => location.hash.startsWith(PREVIEWS);

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

function listItem(entry, className, parts) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...parts, element("span", "subject", entry.subject || "(no subject)"));
  button.addEventListener("click", () => choose(entry.fragment));
  const item = element("li", className, "");
  item.append(button);
  return item;
}

function mailItem(mail, isNew) {
  const time = element("time", "", shortTime(new Date(mail.sent_at)));
  time.dateTime = mail.sent_at;
  return listItem(mail, isNew ? "new" : "", [element("span", "to", mail.to), time]);
}

function choose(fragment) {
  if (narrow.matches) {
    location.hash = fragment; // a history entry, so that Back leads to the list
  } else {
    location.replace(fragment);
  }
}

async function showView() {
  const view = document.querySelector("input[name=view]:checked").value;
  const asText = view !== "html" || !shown.html;
  frame.hidden = asText;
  at("text").hidden = !asText;
  const mail = shown;
  const text = await textOf(mail, view).catch((error) => `This view could not be loaded (${error.message}).`);
  if (shown === mail) at("text").textContent = text;
}

/** The text of a view. The headers and the source are loaded when they are looked at. */
async function textOf(mail, view) {
  if (isPreviewing() || !["headers", "source"].includes(view)) return mail.text;
  const path = `${LIST}/${encodeURIComponent(mail.id)}`;
  if (view === "source") return (await load(`${path}/source`)).text();
  const { headers } = await (await load(path)).json();
  return headers.map(([name, value]) => `${name}: ${value}`).join("\n");
}

/** The mail's HTML with links that open in a new tab, because the frame blocks them. */
function framed(html) {
  const parsed = new DOMParser().parseFromString(html, "text/html");
  const base = parsed.createElement("base");
  base.target = "_blank";
  parsed.head.prepend(base);
  return `<!doctype html>${parsed.documentElement.outerHTML}`;
}

function fillMail(mail) {
  at("subject").textContent = mail.subject || "(no subject)";
  at("facts").hidden = isPreviewing();
  at("languages").hidden = !isPreviewing();
  if (!isPreviewing()) {
    const sent = new Date(mail.sent_at);
    at("to").textContent = mail.to;
    at("sent").textContent = sent.toLocaleString(undefined, { dateStyle: "long", timeStyle: "medium" });
    at("sent").dateTime = mail.sent_at;
  }
  at("text").textContent = mail.text;
  at("views").hidden = isPreviewing() && !mail.html;
  at("delete").hidden = isPreviewing();
  for (const label of document.querySelectorAll(".stored")) label.hidden = isPreviewing();
  const fresh = frame.cloneNode(); // a frame that navigates would add to the browser's history
  fresh.srcdoc = framed(mail.html ?? "");
  frame.replaceWith(fresh);
  frame = fresh;
}

/** The entry of the fragment. On wide screens the first entry is selected if there is none. */
function chosen(list) {
  const named = list.find((entry) => entry.fragment === location.hash);
  if (named || narrow.matches || list.length === 0) return named ?? null;
  const first = list.find((entry) => entry.language === language) ?? list[0];
  choose(first.fragment);
  return first;
}

/** Update the page from the mails, the previews and the fragment. */
function show() {
  const list = isPreviewing() ? previews : mails;
  if (list === null) return; // still loading
  const before = shown;
  shown = chosen(list);
  arrange(list);
  for (const [fragment, item] of items) {
    item.firstChild.setAttribute("aria-current", String(fragment === shown?.fragment));
  }
  if (shown?.fragment === before?.fragment) return;
  if (shown === null) {
    items.get(before.fragment)?.firstChild.focus();
    return;
  }
  items.get(shown.fragment).classList.remove("new");
  fillMail(shown);
  showView();
  if (narrow.matches) at("mail").focus();
}

/** Show and hide the parts of the page. */
function arrange(list) {
  at("main").classList.toggle("reading", shown !== null);
  at("main").classList.toggle("empty", list.length === 0);
  at("blank").hidden = list.length > 0 || at("query").value !== "";
  at("mail").hidden = shown === null;
  at("lists").hidden = false;
  at("mails").hidden = isPreviewing();
  at("find").hidden = isPreviewing();
  at("more").hidden = isPreviewing() || mails.length >= total || wanted >= MOST;
  at("delete-all").hidden = isPreviewing() || mails.length === 0;
  at("previews").hidden = !isPreviewing();
  at(isPreviewing() ? "as-previews" : "as-inbox").checked = true;
  if (isPreviewing()) {
    language = shown?.language ?? language;
    for (const preview of previews) items.get(preview.fragment).hidden = preview.language !== language;
    for (const option of at("languages").querySelectorAll("input")) option.checked = option.value === language;
    say("With sample data");
  } else {
    say(counted());
  }
}

function counted() {
  if (at("query").value && total === 0) return "No emails match";
  const all = total === 1 ? "1 email" : `${total} emails`;
  return mails.length < total ? `${mails.length} of ${all}` : all;
}

function take(answer, count) {
  const first = mails === null;
  total = count;
  mails = answer.map((mail) => ({ ...mail, fragment: `#${encodeURIComponent(mail.id)}` }));
  const present = new Set(mails.map((mail) => mail.fragment));
  for (const [fragment, item] of items) {
    if (!present.has(fragment) && item.parentNode === at("mails")) {
      item.remove();
      items.delete(fragment);
    }
  }
  let next = null; // the list is newest first, so an item belongs before the one that was placed last
  for (const mail of mails.toReversed()) {
    if (!items.has(mail.fragment)) {
      const isNew = !first && !seen.has(mail.fragment);
      items.set(mail.fragment, mailItem(mail, isNew));
      at("mails").insertBefore(items.get(mail.fragment), next);
    }
    seen.add(mail.fragment);
    next = items.get(mail.fragment);
  }
  show();
}

function takePreviews(answer) {
  if (previews !== null) return; // requested twice
  previews = answer.map((preview) => ({ ...preview, fragment: `${PREVIEWS}${preview.kind}/${preview.language}` }));
  for (const preview of previews) {
    items.set(preview.fragment, listItem(preview, "", [element("span", "to", preview.kind)]));
    at("previews").append(items.get(preview.fragment));
  }
  const languages = [...new Set(previews.map((preview) => preview.language))];
  if (!languages.includes(language)) language = "en";
  at("languages").append(...languages.map(languageOption));
  show();
}

function languageOption(code) {
  const option = document.createElement("input");
  option.type = "radio";
  option.name = "language";
  option.value = code;
  option.className = "visually-hidden";
  option.addEventListener("change", () => location.replace(`${PREVIEWS}${shown.kind}/${code}`));
  const name = new Intl.DisplayNames([code], { type: "language" }).of(code);
  const label = element("label", "", "");
  label.append(option, name[0].toLocaleUpperCase(code) + name.slice(1));
  return label;
}

function say(text) {
  if (at("status").textContent !== text) at("status").textContent = text; // do not announce the same text twice
}

async function load(path) {
  const response = await fetch(new URL(path, base), { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (!response.ok) throw new Error(`status ${response.status}`);
  return response;
}

async function refresh() {
  const query = at("query").value;
  try {
    const response = await load(`${LIST}?${new URLSearchParams({ limit: wanted, q: query })}`);
    const found = await response.json();
    if (query !== at("query").value) return; // an answer to an earlier search
    take(found, Number(response.headers.get("X-Total-Count") ?? found.length));
  } catch (error) {
    console.warn("Could not load the emails:", error);
    say("Could not load the emails. Retrying…");
  }
}

/** Show what the fragment names; load the previews on first use. */
async function follow() {
  if (!isPreviewing() || previews !== null) {
    show();
    return;
  }
  try {
    takePreviews(await (await load("mailbox/previews")).json());
  } catch (error) {
    console.warn("Could not load the previews:", error);
    say("Could not load the previews");
  }
}

async function remove(path) {
  try {
    const response = await fetch(new URL(path, base), { method: "DELETE", signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (!response.ok && response.status !== 404) throw new Error(`status ${response.status}`);
  } catch (error) {
    console.warn("Could not delete:", error);
    say("Could not delete");
    return;
  }
  if (narrow.matches) location.hash = "";
  await refresh();
}

function search() {
  wanted = PAGE;
  refresh();
}

async function keepFresh() {
  if (!document.hidden) await refresh();
  setTimeout(keepFresh, REFRESH_MS);
}

function moveInList(event) {
  const buttons = [...event.currentTarget.querySelectorAll("li:not([hidden]) button")];
  const here = buttons.indexOf(document.activeElement);
  const goals = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: buttons.length - 1 };
  const goal = buttons[goals[event.key]];
  if (goal === undefined) return;
  event.preventDefault();
  goal.focus();
  if (!narrow.matches) goal.click();
}

addEventListener("hashchange", follow);
document.addEventListener("visibilitychange", () => document.hidden || refresh());
for (const list of ["mails", "previews"]) at(list).addEventListener("keydown", moveInList);
at("as-inbox").addEventListener("change", () => { location.hash = ""; });
at("as-previews").addEventListener("change", () => { location.hash = PREVIEWS; });
for (const view of document.querySelectorAll("input[name=view]")) view.addEventListener("change", showView);
at("query").addEventListener("input", search);
at("more").addEventListener("click", () => { wanted = Math.min(wanted + PAGE, MOST); refresh(); });
at("delete").addEventListener("click", () => remove(`${LIST}/${encodeURIComponent(shown.id)}`));
at("delete-all").addEventListener("click", () => confirm("Delete all emails in this mailbox?") && remove(LIST));
at("back").addEventListener("click", () => { location.hash = isPreviewing() ? PREVIEWS : ""; });
follow();
keepFresh();
