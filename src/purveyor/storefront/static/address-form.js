// A postal address, as fields.

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

/** `[code, name]` of every country, by name in the reader's language. */
const countries = () => CODES.split(" ").map((code) => [code, names.of(code)]).sort((one, other) => one[1].localeCompare(other[1]));

/** The country that the browser's language hints at, or none. */
function likelyCountry() {
  const region = new Intl.Locale(navigator.language).region ?? "";
  return CODES.split(" ").includes(region) ? region : "";
}

export const ADDRESS = ["recipient", "line1", "line2", "postal_code", "city", "region", "country", "phone"];

/** The fields of an address, filled with what is known of it. */
export function addressFields(known = {}) {
  return h("div", { class: "fields" },
    field({ label: "Name", name: "recipient", required: true, maxlength: 200, autocomplete: "name", value: known.recipient }),
    field({ label: "Street and number", name: "line1", required: true, maxlength: 200, autocomplete: "address-line1" }),
    field({ label: "More on the address", name: "line2", maxlength: 200, autocomplete: "address-line2" }),
    h("div", { class: "pair" },
      field({ label: "Postal code", name: "postal_code", required: true, maxlength: 20, autocomplete: "postal-code" }),
      field({ label: "City", name: "city", required: true, maxlength: 200, autocomplete: "address-level2" })),
    field({ label: "Region", name: "region", maxlength: 200, autocomplete: "address-level1" }),
    field({
      label: "Country", name: "country", required: true, autocomplete: "country",
      options: [["", "Choose …"], ...countries()], value: likelyCountry(),
    }),
    field({ label: "Phone", name: "phone", type: "tel", maxlength: 40, autocomplete: "tel", hint: "For the carrier, with its country code: +49 …" }));
}

/** Those of the values that belong to the address. */
export const addressOf = (values) => Object.fromEntries(ADDRESS.filter((name) => values[name]).map((name) => [name, values[name]]));
