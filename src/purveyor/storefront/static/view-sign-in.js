// Signing in, opening an account, and a forgotten password.

import { post } from "./api.js";
import { h, say } from "./dom.js";
import { field, form } from "./forms.js";
import { send } from "./http.js";
import { signIn } from "./session.js";

const LANGUAGES = { en: "English", de: "Deutsch", es: "Español", fr: "Français" };

/** A choice of the languages that mails are written in. */
export function languageField(value) {
  const own = navigator.language.slice(0, 2);
  return field({
    label: "Language of mails", name: "language", options: Object.entries(LANGUAGES), value: value ?? (LANGUAGES[own] ? own : "en"),
  });
}

export const newPassword = (label, name) => field({
  label, name, type: "password", required: true, minlength: 8, maxlength: 128, autocomplete: "new-password",
  hint: "At least 8 characters. A few words in a row are good; any characters are fine.",
});

const emailField = () => field({
  label: "E-mail", name: "email", type: "email", required: true, maxlength: 254, autocomplete: "username",
});

/** Only an address of this page is followed after signing in. */
const nextOf = (query) => (/^#\/[\w/?=&%.-]*$/.test(query.get("next") ?? "") ? query.get("next") : "#/");

const withNext = (path, query) => (query.has("next") ? `${path}?next=${encodeURIComponent(query.get("next"))}` : path);

export function signInView({ query, config }) {
  const submit = async ({ email, password }) => {
    await signIn(email, password);
    say("Welcome back.");
    location.replace(nextOf(query));
  };
  return {
    title: "Sign in",
    kind: "slim",
    content: [
      h("h1", {}, "Sign in"),
      form({ label: "Sign in", action: "Sign in", submit, extra: [h("a", { href: "#/forgot" }, "Password forgotten?")] },
        emailField(),
        field({ label: "Password", name: "password", type: "password", required: true, autocomplete: "current-password" })),
      h("p", { class: "below" }, "New here? ", h("a", { href: withNext("#/register", query) }, "Open an account")),
      config.development && h("aside", { class: "tip" },
        h("p", {}, "For the order desk, make somebody staff from the console:"),
        h("pre", { tabindex: 0 }, h("code", {}, "app user role you@example.com staff"))),
    ],
  };
}

export function registerView({ query }) {
  const submit = async (values) => {
    await send("POST", "/register", { body: values });
    await signIn(values.email, values.password);
    say(`Welcome, ${values.name}.`);
    location.replace(nextOf(query));
  };
  return {
    title: "Open an account",
    kind: "slim",
    content: [
      h("h1", {}, "Open an account"),
      form({ label: "Open an account", action: "Open the account", submit },
        field({ label: "Name", name: "name", required: true, maxlength: 200, autocomplete: "name" }),
        emailField(), newPassword("Password", "password"), languageField()),
      h("p", { class: "below" }, "You have one? ", h("a", { href: withNext("#/sign-in", query) }, "Sign in")),
    ],
  };
}

export function forgotView({ config }) {
  const done = h("div", { class: "notice", role: "status", tabindex: "-1", hidden: true },
    h("p", {}, "If there is an account with this address, a mail is on its way. For 30 minutes it is good for a new password."),
    h("p", {}, h("a", { href: "#/reset" }, "Use the code from the mail")),
    config.mailbox && h("p", {}, "In development it lands in the ", h("a", { href: "/mailbox" }, "mailbox"), "."));
  const submit = async ({ email }) => {
    await post("/password/forgot", { email });
    asking.hidden = true;
    done.hidden = false;
    done.focus();
  };
  const asking = form({ label: "Forgotten password", action: "Send the mail", submit },
    h("p", { class: "muted" }, "We send a mail with which you can choose a new one."), emailField());
  return {
    title: "Forgotten password",
    kind: "slim",
    content: [h("h1", {}, "Forgotten password"), asking, done, h("p", { class: "below" }, h("a", { href: "#/sign-in" }, "Back to signing in"))],
  };
}

export function resetView({ query }) {
  const given = query.get("token");
  const submit = async ({ token = given, password }) => {
    await send("POST", "/password/reset", { body: { token: token.trim(), password } });
    say("The new password is set. Sign in with it.");
    location.replace("#/sign-in");
  };
  return {
    title: "New password",
    kind: "slim",
    content: [
      h("h1", {}, "Choose a new password"),
      form({ label: "New password", action: "Set the password", submit },
        !given && field({ label: "Code from the mail", name: "token", required: true, autocomplete: "one-time-code", spellcheck: "false" }),
        newPassword("New password", "password")),
      h("p", { class: "below" }, h("a", { href: "#/forgot" }, "Ask for another link")),
    ],
  };
}
