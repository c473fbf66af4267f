"""The schema of a language file (TOML): the texts of mails, and the formats of money and dates."""

from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from typing import Annotated

import msgspec

from purveyor.kit.money import SIGNS, decimals

FALLBACK = "en"
_MAX_DIGITS = 18


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of a language file. Missing and unknown entries are errors."""


class MoneyFormat(_Section, frozen=True):
    """The format of amounts."""

    symbol: str
    code: str
    decimal: str
    group: str
    group_from: int

    def format(self, amount: Decimal, currency: str) -> str:
        """Format an amount in major units of a currency (ISO 4217, or empty) with its usual decimals.

        Raises ``ValueError`` for NaN, infinity and more than 18 digits.
        """
        if not amount.is_finite() or amount.adjusted() >= _MAX_DIGITS:
            raise ValueError(f"not an amount of money: {amount}")
        sign = "-" if amount < 0 else ""
        whole, _, cents = f"{abs(amount):,.{_decimals(amount, currency)}f}".partition(".")
        digits = whole.replace(",", "")
        group = self.group if len(digits) >= self.group_from else ""
        number = whole.replace(",", group) + (self.decimal + cents if cents else "")
        if not currency:
            return sign + number
        if symbol := SIGNS.get(currency):
            return sign + self.symbol.format(amount=number, symbol=symbol)
        return sign + self.code.format(amount=number, code=currency)


def _decimals(amount: Decimal, currency: str) -> int:
    # A fraction that the currency does not have looks odd, but rounding it would be wrong.
    return decimals(currency) or (0 if amount == amount.to_integral_value() else 2)


class DateFormat(_Section, frozen=True):
    """The format of moments."""

    pattern: str
    first_day: str
    months: Annotated[tuple[str, ...], msgspec.Meta(min_length=12, max_length=12)]

    def format(self, moment: datetime, zone: tzinfo = UTC) -> str:
        """Format an aware moment in a time zone to the minute."""
        local = moment.astimezone(zone)
        day = self.first_day if local.day == 1 else str(local.day)
        month = self.months[local.month - 1]
        name = local.tzname() or ""
        name = name if name[:1].isalpha() else f"UTC{name}"  # many zones have no abbreviation but +03
        return self.pattern.format(day=day, month=month, year=local.year, time=f"{local:%H:%M}", zone=name)


class Labels(_Section, frozen=True):
    """The words in all mails."""

    colon: str
    greeting: str
    greeting_nameless: str
    questions: str
    """Before the shop's contact address."""
    legal: str


class OrderWords(_Section, frozen=True):
    """The words in mails about an order."""

    order: str
    payment: str
    reason: str
    item: str
    amount: str
    total: str
    product: str
    view: str
    payment_status: str
    how_to_pay: str
    transfer: str
    on_delivery: str
    address: str
    note: str
    desk: str
    automatic: str
    automatic_notice: str


class AccountWords(_Section, frozen=True):
    """The words in mails about an account."""

    address: str
    visit: str
    confirm: str
    confirm_code: str
    choose: str
    code: str
    code_too: str
    expires: str
    forgot: str
    automatic: str
    automatic_erased: str


class MailTexts(_Section, frozen=True):
    """The sentences of one kind of mail."""

    subject: str
    heading: str
    intro: str
    when: str
    """The label of the event's time."""
    outro: str


class Language(_Section, frozen=True):
    """A language file."""

    money: MoneyFormat
    date: DateFormat
    labels: Labels
    order: OrderWords
    account: AccountWords
    payment: dict[str, str]
    """By the payment method's name in the contract."""
    payment_status: dict[str, str]
    """By the payment status's name in the contract."""
    mail: dict[str, MailTexts]
    """By kind of mail."""
    code: str = FALLBACK
    """ISO 639 code, which is the name of the file."""


def best(wanted: str, among: Mapping[str, Language]) -> str:
    """Choose the language of a BCP 47 tag, such as ``de`` for ``de-AT``; English for an unknown or empty tag."""
    code = wanted.replace("_", "-").partition("-")[0].strip().lower()
    return code if code in among else FALLBACK
