// Sign-in, registration and password reset.

import { post } from "./api.js";
import { h, say } from "./dom.js";
import { field, form } from "./forms.js";
import { send } from "./http.js";
import { signIn } from "./session.js";

const LANGUAGES = { en: "English", de: "Deutsch", es: "Español", fr: "Français" };

/** Choice of the language for emails. */
export function languageField(value) {
  const own = navigator.language.slice(0, 2);
  return field({
    label: "Email language", name: "language", options: Object.entries(LANGUAGES), value: value ?? (LANGUAGES[own] ? own : "en"),
  });
}

export const newPassword = (label, name) => field({
  label, name, type: "password", required: true, minlength: 8, maxlength: 128, autocomplete: "new-password",
  hint: "At least 8 characters. A phrase of several words works well.",
});

const emailField = () => field({
  label: "Email", name: "email", type: "email", required: true, maxlength: 254, autocomplete: "username",
});

/** Where to go after sign-in; only routes of this page are followed. */
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
      form({ label: "Sign in", action: "Sign in", submit, extra: [h("a", { href: "#/forgot" }, "Forgot password?")] },
        emailField(),
        field({ label: "Password", name: "password", type: "password", required: true, autocomplete: "current-password" })),
      h("p", { class: "below" }, "New customer? ", h("a", { href: withNext("#/register", query) }, "Create account")),
      config.development && h("aside", { class: "tip" },
        h("p", {}, "To use the order desk, give your account the staff role on the command line:"),
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
    title: "Create account",
    kind: "slim",
    content: [
      h("h1", {}, "Create account"),
      form({ label: "Create account", action: "Create account", submit },
        field({ label: "Name", name: "name", required: true, maxlength: 200, autocomplete: "name" }),
        emailField(), newPassword("Password", "password"), languageField()),
      h("p", { class: "below" }, "Already have an account? ", h("a", { href: withNext("#/sign-in", query) }, "Sign in")),
    ],
  };
}

export function forgotView({ config }) {
  const done = h("div", { class: "notice", role: "status", tabindex: "-1", hidden: true },
    h("p", {}, "If there is an account with this address, we have sent it an email with a reset code. The code is valid for 30 minutes."),
    h("p", {}, h("a", { href: "#/reset" }, "Enter the code")),
    config.mailbox && h("p", {}, "In development, emails arrive in the ", h("a", { href: "/mailbox" }, "mailbox"), "."));
  const submit = async ({ email }) => {
    await post("/password/forgot", { email });
    asking.hidden = true;
    done.hidden = false;
    done.focus();
  };
  const asking = form({ label: "Forgot password", action: "Send reset code", submit },
    h("p", { class: "muted" }, "Enter your email address and we will send you a code to choose a new password."), emailField());
  return {
    title: "Forgot password",
    kind: "slim",
    content: [h("h1", {}, "Forgot your password?"), asking, done, h("p", { class: "below" }, h("a", { href: "#/sign-in" }, "Back to sign in"))],
  };
}

export function resetView({ query }) {
  const given = query.get("token");
  const submit = async ({ token = given, password }) => {
    await send("POST", "/password/reset", { body: { token: token.trim(), password } });
    say("Your password was changed. Sign in with the new password.");
    location.replace("#/sign-in");
  };
  return {
    title: "Choose a new password",
    kind: "slim",
    content: [
      h("h1", {}, "Choose a new password"),
      form({ label: "New password", action: "Change password", submit },
        !given && field({ label: "Reset code", name: "token", required: true, autocomplete: "one-time-code", spellcheck: "false" }),
        newPassword("New password", "password")),
      h("p", { class: "below" }, h("a", { href: "#/forgot" }, "Request a new code")),
    ],
  };
}
