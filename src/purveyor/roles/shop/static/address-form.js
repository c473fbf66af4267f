// Form fields of a postal address.

import { h } from "./dom.js";
import { field } from "./forms.js";
import { country } from "./format.js";
import { locale, t } from "./text.js";

// ISO 3166-1 alpha-2.
const CODES =
  "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC " +
  "CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD " +
  "GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH " +
  "KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW " +
  "MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC " +
  "SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY " +
  "UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW";

/** `[code, name]` of every country, sorted by its name in the page's language. */
const countries = () => CODES.split(" ").map((code) => [code, country(code)]).sort((one, other) => one[1].localeCompare(other[1], locale()));

/** Country of the browser's locale, or an empty string. */
function likelyCountry() {
  const region = new Intl.Locale(navigator.language).region ?? "";
  return CODES.split(" ").includes(region) ? region : "";
}

const ADDRESS = ["recipient", "line1", "line2", "postal_code", "city", "region", "country", "phone"];

/** Address fields, with the values of `known` filled in. */
export function addressFields(known = {}) {
  const line = (label, name, autocomplete, more = {}) => field({ label, name, maxlength: 200, autocomplete, value: known[name], ...more });
  return h("div", { class: "fields" },
    line(t("Full name"), "recipient", "name", { required: true }),
    line(t("Address"), "line1", "address-line1", { required: true }),
    line(t("Apartment, suite, etc."), "line2", "address-line2"),
    h("div", { class: "pair" },
      line(t("Postal code"), "postal_code", "postal-code", { required: true, maxlength: 20 }),
      line(t("City"), "city", "address-level2", { required: true })),
    line(t("State or region"), "region", "address-level1"),
    field({
      label: t("Country"), name: "country", required: true, autocomplete: "country",
      options: [["", t("Select a country")], ...countries()], value: known.country ?? likelyCountry(),
    }),
    line(t("Phone"), "phone", "tel", {
      type: "tel", maxlength: 40, hint: t("In case we have questions about the delivery. Include the country code, such as +1."),
    }));
}

/** The address members of the form values, without empty ones. */
export const addressOf = (values) => Object.fromEntries(ADDRESS.filter((name) => values[name]).map((name) => [name, values[name]]));
