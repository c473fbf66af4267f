"""What a language needs for mails: its texts, and how it writes money and dates. One TOML file each."""

import functools
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import msgspec

FALLBACK = "en"
_MESSAGES = Path(__file__).parent / "templates" / "messages"
_SYMBOLS = {"EUR": "€", "USD": "$", "GBP": "£"}
_MAX_DIGITS = 18


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of a language file; a missing or misspelt entry is an error when the file is read."""


class MoneyFormat(_Section, frozen=True):
    """How amounts are written."""

    symbol: str
    code: str
    decimal: str
    group: str
    group_from: int

    def format(self, amount: Decimal, currency: str) -> str:
        """Write an amount of major units with two decimals and its currency (ISO 4217, or nothing).

        Raises ``ValueError`` for what is not an amount: NaN, infinity, more than 18 digits.
        """
        if not amount.is_finite() or amount.adjusted() >= _MAX_DIGITS:
            raise ValueError(f"not an amount of money: {amount}")
        sign = "-" if amount < 0 else ""
        whole, _, cents = f"{abs(amount):,.2f}".partition(".")
        digits = whole.replace(",", "")
        group = self.group if len(digits) >= self.group_from else ""
        number = whole.replace(",", group) + self.decimal + cents
        if not currency:
            return sign + number
        if symbol := _SYMBOLS.get(currency):
            return sign + self.symbol.format(amount=number, symbol=symbol)
        return sign + self.code.format(amount=number, code=currency)


class DateFormat(_Section, frozen=True):
    """How moments are written: always in UTC, and saying so."""

    pattern: str
    first_day: str
    months: Annotated[tuple[str, ...], msgspec.Meta(min_length=12, max_length=12)]

    def format(self, moment: datetime) -> str:
        """Write an aware moment to the minute."""
        utc = moment.astimezone(UTC)
        day = self.first_day if utc.day == 1 else str(utc.day)
        month = self.months[utc.month - 1]
        return self.pattern.format(day=day, month=month, year=utc.year, time=f"{utc:%H:%M}")


class Labels(_Section, frozen=True):
    """The words that mails of every kind share."""

    colon: str
    greeting: str
    greeting_nameless: str
    order: str
    placed: str
    payment: str
    item: str
    amount: str
    total: str
    product: str
    automatic: str


class MailTexts(_Section, frozen=True):
    """The sentences of one kind of mail."""

    subject: str
    heading: str
    intro: str


class Language(_Section, frozen=True):
    """One language file."""

    money: MoneyFormat
    date: DateFormat
    labels: Labels
    payment: dict[str, str]
    """Payment methods by their names in the contract."""
    mail: dict[str, MailTexts]
    """The sentences by the kind of mail."""


@functools.cache
def languages() -> Mapping[str, Language]:
    """Every language that there is a file for, by its code (ISO 639-1).

    Raises ``ValueError`` with the file's name and the place in it for a file that cannot be used.
    """
    found = {}
    for path in sorted(_MESSAGES.glob("*.toml")):
        try:
            found[path.stem] = msgspec.toml.decode(path.read_bytes(), type=Language)
        except msgspec.MsgspecError as error:
            raise ValueError(f"{path.name}: {error}") from error
    return found


def best(wanted: str) -> str:
    """The language to use for a language tag (BCP 47): ``de-AT`` is ``de``; unknown or empty is English."""
    code = wanted.replace("_", "-").partition("-")[0].strip().lower()
    return code if code in languages() else FALLBACK
