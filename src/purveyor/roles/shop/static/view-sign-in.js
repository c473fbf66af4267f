// Sign-in, registration and password reset.

import { post } from "./api.js";
import { h, say } from "./dom.js";
import { field, form } from "./forms.js";
import { address, send } from "./http.js";
import { signIn, user } from "./session.js";
import { current, LANGUAGES, preferred, t, use } from "./text.js";

/** Choice of the language of emails and of the page. */
export const languageField = () => field({
  label: t("Language"), name: "language", options: Object.entries(LANGUAGES), value: current(), hint: t("For emails and for this page."),
});

export const newPassword = (label, name) => field({
  label, name, type: "password", required: true, minlength: 8, maxlength: 128, autocomplete: "new-password",
  hint: t("At least 8 characters. A phrase of several words works well."),
});

export const emailField = (label = t("Email"), more = {}) => field({
  label, name: "email", type: "email", required: true, maxlength: 254, autocomplete: "username", ...more,
});

/** The current password, where a change needs it. */
export const passwordField = (label, name) => field({ label, name, type: "password", required: true, autocomplete: "current-password" });

/** Where to go after sign-in; only routes of this page are followed. */
const nextOf = (query) => (/^#\/[\w/?=&%.-]*$/.test(query.get("next") ?? "") ? query.get("next") : "#/");

const withNext = (path, query) => (query.has("next") ? `${path}?next=${encodeURIComponent(query.get("next"))}` : path);

export function signInView({ query, config }) {
  const submit = async ({ email, password }) => {
    await signIn(email, password);
    await use(preferred(user()));
    say(t("Welcome back."), { keep: true });
    location.replace(nextOf(query));
  };
  return {
    title: t("Sign in"),
    kind: "slim",
    content: [
      h("h1", {}, t("Sign in")),
      form({ label: t("Sign in"), action: t("Sign in"), submit, extra: [h("a", { href: "#/forgot" }, t("Forgot password?"))] },
        emailField(),
        passwordField(t("Password"), "password")),
      h("p", { class: "below" }, t("New customer?"), " ", h("a", { href: withNext("#/register", query) }, t("Create account"))),
      config.development && h("aside", { class: "tip", lang: "en" },
        h("p", {}, "To use the order desk, give your account the staff role on the command line:"),
        h("pre", { tabindex: 0 }, h("code", {}, "app user role you@example.com staff"))),
    ],
  };
}

export function registerView({ query }) {
  const submit = async (values) => {
    await send("POST", "/register", { body: values });
    await signIn(values.email, values.password);
    await use(preferred(user()));
    say(t("Welcome, {name}.", values), { keep: true });
    location.replace(nextOf(query));
  };
  return {
    title: t("Create account"),
    kind: "slim",
    content: [
      h("h1", {}, t("Create account")),
      form({ label: t("Create account"), action: t("Create account"), submit },
        field({ label: t("Name"), name: "name", required: true, maxlength: 200, autocomplete: "name" }),
        emailField(), newPassword(t("Password"), "password"), languageField()),
      h("p", { class: "below" }, t("Already have an account?"), " ", h("a", { href: withNext("#/sign-in", query) }, t("Sign in"))),
    ],
  };
}

export function forgotView({ config }) {
  const done = h("div", { class: "notice", role: "status", tabindex: "-1", hidden: true },
    h("p", {}, t("If there is an account with this address, we have sent it an email with a link to choose a new password. The link is valid for 30 minutes.")),
    h("p", {}, h("a", { href: "#/reset" }, t("Enter a reset code instead"))),
    config.mailbox && h("p", {}, t("In development, emails arrive in the mailbox."), " ", h("a", { href: address("/mailbox").href }, t("Mailbox"))));
  const submit = async ({ email }) => {
    await post("/password/forgot", { email });
    asking.hidden = true;
    done.hidden = false;
    done.focus();
  };
  const asking = form({ label: t("Forgot password"), action: t("Send reset link"), submit },
    h("p", { class: "muted" }, t("Enter your email address and we will send you a link to choose a new password.")), emailField());
  return {
    title: t("Forgot password"),
    kind: "slim",
    content: [h("h1", {}, t("Forgot your password?")), asking, done, h("p", { class: "below" }, h("a", { href: "#/sign-in" }, t("Back to sign in")))],
  };
}

export function resetView({ query }) {
  const given = query.get("token");
  const submit = async ({ token = given, password }) => {
    await send("POST", "/password/reset", { body: { token: token.trim(), password } });
    say(t("Your password was changed. Sign in with the new password."), { keep: true });
    location.replace("#/sign-in");
  };
  return {
    title: t("Choose a new password"),
    kind: "slim",
    content: [
      h("h1", {}, t("Choose a new password")),
      form({ label: t("New password"), action: t("Change password"), submit },
        !given && field({ label: t("Reset code"), name: "token", required: true, autocomplete: "one-time-code", spellcheck: "false" }),
        newPassword(t("New password"), "password")),
      h("p", { class: "below" }, h("a", { href: "#/forgot" }, t("Request a new link"))),
    ],
  };
}
