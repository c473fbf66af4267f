// Form fields of a postal address.

import { h } from "./dom.js";
import { field } from "./forms.js";

// ISO 3166-1 alpha-2.
const CODES =
  "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC " +
  "CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD " +
  "GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH " +
  "KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW " +
  "MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC " +
  "SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY " +
  "UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW";

const names = new Intl.DisplayNames(undefined, { type: "region" });

/** `[code, name]` of every country, sorted by its name in the browser's language. */
const countries = () => CODES.split(" ").map((code) => [code, names.of(code)]).sort((one, other) => one[1].localeCompare(other[1]));

/** Country of the browser's locale, or an empty string. */
function likelyCountry() {
  const region = new Intl.Locale(navigator.language).region ?? "";
  return CODES.split(" ").includes(region) ? region : "";
}

const ADDRESS = ["recipient", "line1", "line2", "postal_code", "city", "region", "country", "phone"];

/** Address fields, with the values of `known` filled in. */
export function addressFields(known = {}) {
  return h("div", { class: "fields" },
    field({ label: "Full name", name: "recipient", required: true, maxlength: 200, autocomplete: "name", value: known.recipient }),
    field({ label: "Address", name: "line1", required: true, maxlength: 200, autocomplete: "address-line1" }),
    field({ label: "Apartment, suite, etc.", name: "line2", maxlength: 200, autocomplete: "address-line2" }),
    h("div", { class: "pair" },
      field({ label: "Postal code", name: "postal_code", required: true, maxlength: 20, autocomplete: "postal-code" }),
      field({ label: "City", name: "city", required: true, maxlength: 200, autocomplete: "address-level2" })),
    field({ label: "State or region", name: "region", maxlength: 200, autocomplete: "address-level1" }),
    field({
      label: "Country", name: "country", required: true, autocomplete: "country",
      options: [["", "Select a country"], ...countries()], value: likelyCountry(),
    }),
    field({ label: "Phone", name: "phone", type: "tel", maxlength: 40, autocomplete: "tel", hint: "In case we have questions about the delivery. Include the country code, such as +1." }));
}

/** The address members of the form values, without empty ones. */
export const addressOf = (values) => Object.fromEntries(ADDRESS.filter((name) => values[name]).map((name) => [name, values[name]]));
