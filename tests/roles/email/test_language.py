"""The language files: the same texts in each, and money and dates as usual in the language."""

import string
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import msgspec
import pytest

from purveyor.roles.email.language import languages
from purveyor.roles.email.rendering import KINDS

CODES = ("de", "en", "es", "fr")


@pytest.mark.parametrize(
    ("code", "amount", "currency", "written"),
    [
        ("en", "0", "USD", "$0.00"),
        ("en", "999.5", "GBP", "£999.50"),
        ("en", "12.5", "CHF", "12.50\xa0CHF"),
        ("en", "12.5", "", "12.50"),
        ("en", "-5", "EUR", "-€5.00"),
        ("en", "90071992547409.92", "EUR", "€90,071,992,547,409.92"),
        ("de", "1234567.89", "USD", "1.234.567,89\xa0$"),
        ("de", "12.5", "CHF", "12,50\xa0CHF"),
        ("es", "1234.5", "EUR", "1234,50\xa0€"),
        ("es", "12345", "EUR", "12.345,00\xa0€"),
        ("fr", "12345", "GBP", "12\xa0345,00\xa0£"),
    ],
)
def test_money_is_written_as_usual_in_the_language(code: str, amount: str, currency: str, written: str) -> None:
    assert languages()[code].money.format(Decimal(amount), currency) == written


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "1e18", "1e999999"])
def test_what_is_no_money_is_refused(amount: str) -> None:
    with pytest.raises(ValueError, match="not an amount of money"):
        languages()["en"].money.format(Decimal(amount), "EUR")


@pytest.mark.parametrize(
    ("code", "written"),
    [
        ("en", "1 March 2026, 23:30 UTC"),
        ("de", "1. März 2026, 23:30 UTC"),
        ("es", "1 de marzo de 2026, 23:30 UTC"),
        ("fr", "1er mars 2026, 23:30 UTC"),
    ],
)
def test_dates_are_written_in_utc(code: str, written: str) -> None:
    moment = datetime(2026, 3, 2, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    assert languages()[code].date.format(moment) == written


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def texts(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, member in value.items():
            yield from texts(member, f"{path}/{key}")
    elif isinstance(value, str):
        yield path, value


@pytest.mark.parametrize("code", CODES)
def test_every_language_says_the_same_things_with_the_same_placeholders(code: str) -> None:
    english, other = (dict(texts(msgspec.to_builtins(languages()[each]))) for each in ("en", code))
    assert set(languages()) == set(CODES)
    assert set(languages()[code].mail) == set(KINDS)
    assert {path: placeholders(text) for path, text in other.items()} == {
        path: placeholders(text) for path, text in english.items()
    }
    assert all(text.strip() or path == "/money/group" for path, text in other.items())
