"""Checks of personal names. Emails repeat a name, so it must not contain a link, an address or the like.

In doubt a rule accepts: initials, titles, generations and names in any script are names.
"""

import re
import unicodedata
from functools import cache
from importlib.resources import files

_TITLES = """
    dr prof st ste mr mrs ms mx sr sra srta jr ph fr hr hl ing dipl mag lic don dna dott avv geom arq
    hon rev gen col capt cap maj sgt lt sir mme mlle me pr bp msgr fra br co
"""
_COUNTRY_CODE = 2
_DOT = ".\u3002\uff0e\uff61"
_DOTTED = re.compile(rf"([^\W_][\w-]*)[{_DOT}](?=([^\W_][\w-]*))")
_LINK = re.compile(
    r"[a-z][a-z0-9+.-]*://\S*|\b(?:https?|ftp|mailto|tel|javascript):\S*|\bwww\.\S*|"
    r"\w+\s*[(\[{]\s*(?:dot|punkt|punto|point)\s*[)\]}]\s*\w+",
    re.IGNORECASE,
)
_IP = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.])")
_MAIL = re.compile(r"\S*@\S*")
_GAP = r"[ ().\-/\u2010-\u2015]*"
_PHONE = re.compile(rf"(?:\+{_GAP}\d(?:{_GAP}\d){{4,}}|(?<!\w)\d(?:{_GAP}\d){{6,}})(?!\w)")
_NUMBER = (
    r"\d[\d.,'\u2019 \u00a0\u202f]*(?:[-\u2013\u2014]{1,2}|(?i:k|mn?|mio\.?|tsd\.?|mil|mille|thousand)(?!\w))?"
)
"""Also ``500,-``, as prices are written in German, and ``10k``."""
_CODES = """
    EUR USD GBP CHF JPY CNY INR BRL MXN PLN SEK NOK DKK CZK CAD AUD NZD HUF RON BGN ISK RUB UAH TRY ILS AED SAR KWD
    BHD QAR EGP MAD ZAR NGN KES GHS KRW TWD HKD SGD THB IDR MYR PHP VND ARS CLP COP PEN UYU BTC ETH USDT
"""
_AMBIGUOUS = ("TRY", "COP", "PEN", "MAD", "ETH", "ILS", "CAD", "RON")
"""Codes that are also words or names: only upper case means money."""
_WORDS = (
    r"euros?|dollars?|pounds?|bucks|quid|francs?|franken|yen|yuan|rupees?|rupien|pesos?|reais|rubel|rubles?|roubles?|"
    r"z\u0142|z\u0142otych|kronen|kroner|kr|rs|bitcoins?|million(?:s|en|es)?|millones|milliards?|milliarden|mio|"
    r"\u0435\u0432\u0440\u043e|\u03b5\u03c5\u03c1\u03ce|\u064a\u0648\u0631\u0648|\u062f\u0648\u0644\u0627\u0631|"
    r"\u0440\u0443\u0431(?:\u043b\u0435\u0439)?|\u5143|\u5186|\uc6d0"
)
_UNIT = "|".join(
    (
        rf"(?i:{_WORDS})",
        *(code if code in _AMBIGUOUS else f"(?i:{code})" for code in _CODES.split()),
    )
)
_SYMBOL = "$\u00a2-\u00a5\u058f\u060b\u09f2\u09f3\u0af1\u0bf9\u0e3f\u17db\u20a0-\u20cf\ufdfc"
"""The currency symbols of Unicode, after NFKC."""
_MONEY = re.compile(
    rf"[{_SYMBOL}]\s*{_NUMBER}|{_NUMBER}\s*[{_SYMBOL}]|{_NUMBER}\s*(?:{_UNIT})(?!\w)|(?<!\w)(?:{_UNIT})\.?\s*{_NUMBER}"
)


def find_bait(name: str) -> str:
    """Say which web address, mail address, phone number or sum of money a name contains; empty without any."""
    text = unicodedata.normalize("NFKC", re.sub("[\u200c\u200d]", "", name))
    for what, pattern in (
        ("a web address", _LINK),
        ("an email address", _MAIL),
        ("an amount of money", _MONEY),
        ("a web address", _IP),
        ("a phone number", _PHONE),
    ):
        if found := pattern.search(text):
            return f"{what} ({found[0].strip()[:60]})"
    for found in _DOTTED.finditer(text):
        if _is_domain(found[1], found[2]):
            return f"a web address ({found[1]}.{found[2]})"
    return ""


def _is_domain(before: str, after: str) -> bool:
    """Return whether two words joined by a dot are a domain rather than an initial or a title."""
    is_known = after.lower() in _top_level_domains()
    if not after.isascii() or len(before) == 1:
        return is_known
    if not after.isalpha() or len(after) == 1:
        return after.lower().startswith("xn--")
    is_capitalized = after[0].isupper() and after[1:].islower()
    if before.lower() in _TITLES.split():
        return is_known and not is_capitalized
    if before[0].isupper() and is_capitalized:
        return is_known or len(after) == _COUNTRY_CODE
    return True


@cache
def _top_level_domains() -> frozenset[str]:
    text = files(__package__).joinpath("top_level_domains.txt").read_text(encoding="utf-8")
    return frozenset(word for line in text.splitlines() if not line.startswith("#") for word in line.split())
