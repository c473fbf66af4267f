"""The language files: the same texts in each, and money and dates as usual in the language."""

import string
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import msgspec
import pytest

from purveyor.roles.email.language import best
from purveyor.roles.email.mail_models import KINDS
from purveyor.roles.email.template_files import load_languages

CODES = ("de", "en", "es", "fr")
LANGUAGES = load_languages()


@pytest.mark.parametrize(
    ("code", "amount", "currency", "written"),
    [
        ("en", "0", "USD", "$0.00"),
        ("en", "999.5", "GBP", "£999.50"),
        ("en", "12.5", "CHF", "12.50\xa0CHF"),
        ("en", "12.5", "", "12.50"),
        ("en", "1000", "JPY", "¥1,000"),
        ("de", "1000", "JPY", "1.000\xa0¥"),
        ("en", "1000.5", "JPY", "¥1,000.50"),
        ("fr", "1000.5", "KWD", "1\xa0000,500\xa0KWD"),
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
    assert LANGUAGES[code].money.format(Decimal(amount), currency) == written


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "1e18", "1e999999"])
def test_what_is_no_money_is_refused(amount: str) -> None:
    with pytest.raises(ValueError, match="not an amount of money"):
        LANGUAGES["en"].money.format(Decimal(amount), "EUR")


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
    assert LANGUAGES[code].date.format(moment) == written


@pytest.mark.parametrize(
    ("wanted", "code"),
    [("de-AT", "de"), (" DE", "de"), ("fr_CA", "fr"), ("", "en"), ("tlh", "en"), ("../de", "en")],
)
def test_the_best_language_is_the_nearest_one_that_there_is(wanted: str, code: str) -> None:
    assert best(wanted, LANGUAGES) == code


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
    english, other = (dict(texts(msgspec.to_builtins(LANGUAGES[each]))) for each in ("en", code))
    assert set(LANGUAGES) == set(CODES)
    assert set(LANGUAGES[code].mail) == set(KINDS)
    assert {path: placeholders(text) for path, text in other.items()} == {
        path: placeholders(text) for path, text in english.items()
    }
    assert all(text.strip() or path == "/money/group" for path, text in other.items())
