// The user's account.

import { get, patch, post } from "./api.js";
import { h, say } from "./dom.js";
import { field, form } from "./forms.js";
import { word } from "./format.js";
import { rename, signOut, user } from "./session.js";
import { languageField, newPassword } from "./view-sign-in.js";

export async function accountView({ again }) {
  const own = `/user/${user().user_id}`;
  const profile = await get(own);

  const save = async ({ name = "", phone, language }) => {
    const changed = await patch(own, { name, phone: phone ?? null, language });
    rename(changed.name);
    say("Your profile was saved.");
  };
  const change = async ({ current_password, new_password }) => {
    await post("/password", { current_password, new_password });
    say("Your password was changed. Other devices were signed out.");
    again();
  };
  const leave = async () => {
    await signOut();
    location.hash = "#/";
  };

  return {
    title: "Account",
    kind: "slim",
    content: [
      h("h1", {}, "Account"),
      h("p", { class: "muted" }, profile.email, profile.role !== "customer" && h("span", { class: "pill" }, word(profile.role))),
      h("section", { class: "panel", "aria-labelledby": "profile" },
        h("h2", { id: "profile" }, "Profile"),
        form({ label: "Profile", action: "Save", submit: save, kind: "" },
          field({ label: "Name", name: "name", required: true, maxlength: 200, autocomplete: "name", value: profile.name }),
          field({ label: "Phone", name: "phone", type: "tel", maxlength: 40, autocomplete: "tel", value: profile.phone }),
          languageField(profile.language))),
      h("section", { class: "panel", "aria-labelledby": "password" },
        h("h2", { id: "password" }, "Password"),
        form({ label: "Password", action: "Change password", submit: change, kind: "" },
          field({ label: "Current password", name: "current_password", type: "password", required: true, autocomplete: "current-password" }),
          newPassword("New password", "new_password"))),
      h("p", { class: "actions" }, h("button", { type: "button", class: "button", onclick: leave }, "Sign out")),
    ],
  };
}
