"""Money: integers of minor units inside, decimal numbers of major units on the wire, never a float."""

from decimal import Decimal
from typing import Annotated

from msgspec import Meta

Amount = Annotated[Decimal, Meta(extra_json_schema={"extra": {"type": "number"}})]
"""Money in major units on the wire: a JSON number (Litestar would document a decimal as a string)."""

MINOR_DIGITS = 2
MAX_MINOR = 2**53
"""The largest amount, in minor units, that every JSON reader keeps exact (RFC 8259 section 6)."""


def to_major(minor: int) -> Decimal:
    """Minor units as a number of major units for the wire: 5998 is ``59.98``, 10000 is ``100``."""
    whole, rest = divmod(minor, 10**MINOR_DIGITS)
    return Decimal(whole) if rest == 0 else Decimal(minor).scaleb(-MINOR_DIGITS)


def from_major(major: Decimal) -> int:
    """A number of major units as minor units.

    Raises ``ValueError`` for what is not an exact, non-negative amount with at most two decimals.
    """
    if not major.is_finite() or major < 0 or major.adjusted() > 18:  # noqa: PLR2004 - more digits than MAX_MINOR
        raise ValueError(f"not an amount of money: {major}")
    minor = int(major.scaleb(MINOR_DIGITS))
    if minor > MAX_MINOR or to_major(minor) != major:  # scaleb rounds: only the way back shows what was lost
        raise ValueError(f"not an amount of money: {major}")
    return minor
