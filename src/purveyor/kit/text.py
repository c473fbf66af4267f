"""Validation of user input: lines, phone numbers and countries that are safe for mail headers, pages and logs."""

import re
import unicodedata
from typing import Annotated

from msgspec import Meta

from purveyor.kit.errors import FieldError, InvalidInput

_PHONE = re.compile(r"\+?\(?[0-9][0-9 ()./-]{2,30}")
_COUNTRIES = """
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW
    BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI
    FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN
    IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME
    MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF
    PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV
    SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE
    YT ZA ZM ZW
"""
"""The officially assigned codes of ISO 3166-1 alpha-2."""

_JOINERS = "\u200c\u200d"
"""Zero width non-joiner and joiner, which Persian and Indic spelling and many emoji need."""

# The same rules as JSON Schema for the API document. Characters outside the basic multilingual plane are left out,
# since not every regular expression engine supports them.
_IGNORED = (
    r"\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\u3164"
    r"\ufeff\uffa0\ufff9-\ufffb"
)
"""Invisible characters, which come with pasted text and are removed."""
_FORBIDDEN = r"\u0000-\u001f\u007f-\u009f\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\u2028\u2029"
_BLANK = rf"[\s{_IGNORED}]*"
_LINE = rf"{_BLANK}[^{_FORBIDDEN}]*[^\s{_IGNORED}{_FORBIDDEN}][^{_FORBIDDEN}]*{_BLANK}"
_OPTIONAL_LINE = rf"{_BLANK}[^{_FORBIDDEN}]*{_BLANK}"
_ENCODED_WORD = {"pattern": rf"=[{_IGNORED}]*\?"}
LINE_SCHEMA = {"pattern": f"^{_LINE}$", "not": _ENCODED_WORD}
OPTIONAL_LINE_SCHEMA = {"pattern": f"^{_OPTIONAL_LINE}$", "not": _ENCODED_WORD}
TEXT_SCHEMA = {"pattern": rf"^{_OPTIONAL_LINE}(\n{_OPTIONAL_LINE})*$", "not": _ENCODED_WORD}
_SPACES = "\u00a0\u2002-\u200a\u202f\u3000"
_DASHES = "\u2010-\u2015\u2212\uff0d"
"""Spaces and dashes that web pages and word processors put into phone numbers."""
_PHONE_SCHEMA = {
    "pattern": rf"^{_BLANK}((\+[{_IGNORED}]*)?(\([{_IGNORED}]*)?[0-9]"
    rf"([{_IGNORED}]*[0-9 ()./{_SPACES}{_DASHES}-]){{2,30}})?{_BLANK}$"
}
_IGNORED_SET = re.compile(f"[{_IGNORED}\\U000e0000-\\U000e0fff]")
_NO_JOINERS = re.compile(r"[\s!-\u058f\u1e00-\u1fff]")
"""Scripts that need no joiners, such as Latin, Greek and Cyrillic."""

Line = Annotated[str, Meta(min_length=1, max_length=200, extra_json_schema=LINE_SCHEMA)]
OptionalLine = Annotated[str, Meta(max_length=200, extra_json_schema=OPTIONAL_LINE_SCHEMA)]
Phone = Annotated[str, Meta(max_length=40, extra_json_schema=_PHONE_SCHEMA)]
Country = Annotated[
    str,
    Meta(
        min_length=2,
        max_length=2,
        description="ISO 3166-1 alpha-2, in upper or lower case",
        extra_json_schema={"enum": _COUNTRIES.split()},
    ),
]


def strip_invisible(text: str) -> str:
    """Remove invisible characters that were pasted along, such as soft hyphens and direction marks.

    Joiners stay between two characters of a script or an emoji that can need them.
    """
    marked = _IGNORED_SET.sub(lambda found: found[0] if found[0] in _JOINERS else "", text)
    return re.sub(f"[{_JOINERS}]+", lambda found: found[0][0] if _joins(found) else "", marked)


def _joins(joiners: re.Match[str]) -> bool:
    text, start, end = joiners.string, joiners.start(), joiners.end()
    neighbors = text[max(start - 1, 0) : start] + text[end : end + 1]
    return len(neighbors) == 2 and not _NO_JOINERS.search(neighbors)  # noqa: PLR2004


def clean_line(text: str, pointer: str) -> str:
    """Normalize one line of text (NFC, single spaces, nothing invisible). Raises ``InvalidInput`` at ``pointer``.

    Rejects line breaks, control characters and encoded words (RFC 2047).
    """
    line = unicodedata.normalize("NFC", strip_invisible(unicodedata.normalize("NFC", text))).strip()
    for character in line:
        if character not in _JOINERS and unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            raise invalid(pointer, "must not contain control characters, formatting characters or line breaks")
    if "=?" in line:
        raise invalid(pointer, "must not contain '=?'")
    return " ".join(line.split())


def require_line(text: str, pointer: str) -> str:
    """Apply ``clean_line`` to a text that must not be empty. Raises ``InvalidInput``."""
    line = clean_line(text, pointer)
    if not line:
        raise invalid(pointer, "must not be empty")
    return line


def clean_text(text: str, pointer: str) -> str:
    """Apply ``clean_line`` to each line, and strip blank lines at the ends. Raises ``InvalidInput``."""
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join(clean_line(line, pointer) for line in lines).strip("\n")


def clean_phone(text: str, pointer: str = "/phone") -> str:
    """Validate a phone number in free format; it may be empty. Spaces and dashes become those of ASCII."""
    phone = re.sub(f"[{_DASHES}]", "-", re.sub(f"[{_SPACES}]", " ", strip_invisible(text))).strip()
    if phone and not _PHONE.fullmatch(phone):
        raise invalid(pointer, "must be a phone number, such as +1 555 0100")
    return phone


def clean_country(text: str, pointer: str = "/country") -> str:
    """Validate an ISO 3166-1 alpha-2 code and return it in upper case."""
    code = text.upper()
    if code not in _COUNTRIES.split() or not text.isascii():  # "ß".upper() is "SS"
        raise invalid(pointer, "must be a two-letter country code (ISO 3166-1), such as US")
    return code


def invalid(pointer: str, detail: str) -> InvalidInput:
    """Return an ``InvalidInput`` with one field error."""
    return InvalidInput("The input is not valid.", errors=[FieldError(pointer, detail)])
