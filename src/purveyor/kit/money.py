"""Money as an integer of minor units, and as a decimal number of major units on the wire. Never a float."""

from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from typing import Annotated

from msgspec import Meta

Amount = Annotated[Decimal, Meta(extra_json_schema={"extra": {"type": "number"}})]
"""Money in major units, documented as a JSON number (Litestar would document a decimal as a string)."""

AMOUNT_SCHEMA = {
    "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": r"^[0-9]{1,16}(\.[0-9]{1,4})?$"}]
}
"""JSON Schema of an amount in a request."""
MAX_MINOR = 2**53
"""The largest integer that every JSON parser keeps exact (RFC 8259 section 6)."""
_MAX_EXPONENT = 18
SIGNS = {"EUR": "€", "GBP": "£", "JPY": "¥", "USD": "$"}
"""Signs of currencies that are understood in every language."""
_TWO_DECIMALS = """
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW CNY
    COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS
    INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR
    MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP
    STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW ZWG
"""
_OTHER_DECIMALS = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
_DECIMALS = dict.fromkeys(_TWO_DECIMALS.split(), 2) | {
    code: count for count, codes in _OTHER_DECIMALS.items() for code in codes.split()
}
"""Decimals by currency: list one of ISO 4217, published 2026-01-01, without metals and test codes, which have no
minor unit. CLDR is no source for this: it has the decimals that are customary in shops, such as 0 for IQD."""


def is_currency(code: str) -> bool:
    """Return whether this is the code of a currency with a minor unit in ISO 4217."""
    return code in _DECIMALS


def decimals(currency: str) -> int:
    """Return the number of decimals of a currency; 2 for codes that ISO 4217 does not list or no longer lists."""
    return _DECIMALS.get(currency, 2)


@lru_cache(maxsize=4096)
def to_major(minor: int, currency: str) -> Decimal:
    """Convert minor to major units: 5998 EUR cents to ``59.98``, 10000 to ``100``."""
    digits = decimals(currency)
    whole, rest = divmod(minor, 10**digits)
    return Decimal(whole) if rest == 0 else Decimal(minor).scaleb(-digits)


def to_fixed(minor: int, currency: str) -> Decimal:
    """Like ``to_major``, always with all decimals of the currency: ``100.00``."""
    return Decimal(minor).scaleb(-decimals(currency))


def from_major(major: Decimal, currency: str) -> int:
    """Convert major to minor units. Raises ``ValueError`` for negative amounts and for too many decimals."""
    if not major.is_finite() or major < 0 or major.adjusted() > _MAX_EXPONENT:
        raise ValueError(f"not an amount of money: {major}")
    minor = int(major.scaleb(decimals(currency)))
    if minor > MAX_MINOR or to_major(minor, currency) != major:  # scaleb and int round; the way back shows it
        raise ValueError(f"not an amount of money: {major}")
    return minor


def is_amount(major: Decimal) -> bool:
    """Return whether this is an amount of some currency: not negative, finite and of a reasonable length."""
    exponent = major.as_tuple().exponent
    return isinstance(exponent, int) and abs(exponent) <= _MAX_EXPONENT >= major.adjusted() and major >= 0


def rounded(major: Decimal, currency: str) -> int:
    """Convert a valid amount to minor units, rounding half up to the decimals of the currency."""
    return int(major.scaleb(decimals(currency)).to_integral_value(ROUND_HALF_UP))
