"""Money as an integer of minor units, and as a decimal number of major units on the wire. Never a float."""

from decimal import Decimal
from typing import Annotated

from msgspec import Meta

Amount = Annotated[Decimal, Meta(extra_json_schema={"extra": {"type": "number"}})]
"""Money in major units, documented as a JSON number (Litestar would document a decimal as a string)."""

MINOR_DIGITS = 2
MAX_MINOR = 2**53
"""The largest integer that every JSON parser keeps exact (RFC 8259 section 6)."""


def to_major(minor: int) -> Decimal:
    """Convert minor to major units: 5998 to ``59.98``, 10000 to ``100``."""
    whole, rest = divmod(minor, 10**MINOR_DIGITS)
    return Decimal(whole) if rest == 0 else Decimal(minor).scaleb(-MINOR_DIGITS)


def from_major(major: Decimal) -> int:
    """Convert major to minor units. Raises ``ValueError`` for negative amounts and for more than two decimals."""
    if not major.is_finite() or major < 0 or major.adjusted() > 18:  # noqa: PLR2004 - more digits than MAX_MINOR
        raise ValueError(f"not an amount of money: {major}")
    minor = int(major.scaleb(MINOR_DIGITS))
    if minor > MAX_MINOR or to_major(minor) != major:  # scaleb and int round; the way back shows it
        raise ValueError(f"not an amount of money: {major}")
    return minor
