// Confirms an email address with the token of the link in an email.

import { readProfile } from "./api.js";
import { h } from "./dom.js";
import { alertBox } from "./forms.js";
import { send } from "./http.js";
import { t } from "./text.js";

export async function confirmView({ query }) {
  const problem = await send("POST", "/email/confirm", { body: { token: query.get("token") ?? "" } }).then(() => null, (error) => error);
  await readProfile().catch(() => null); // the address may be a new one
  const title = problem ? t("This link does not work") : t("Your email address is confirmed");
  return {
    title,
    kind: "slim",
    content: [
      h("h1", {}, title),
      problem
        ? [alertBox(problem), h("p", { class: "muted" }, t("The link may have been used already, or it is too old. You can ask for a new one in your account."))]
        : h("p", {}, t("Thank you. You can close this page or go on shopping.")),
      h("p", { class: "actions" },
        h("a", { class: "button primary", href: "#/" }, t("Continue shopping")), h("a", { class: "button", href: "#/account" }, t("Account"))),
    ],
  };
}
