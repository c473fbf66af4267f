"""Money: exact between wire and store, and no amount that is not one."""

import json
from decimal import Decimal

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from purveyor.kit.events.message import encode
from purveyor.kit.http.web import decode
from purveyor.kit.money import MAX_MINOR, Amount, decimals, from_major, is_currency, rounded, to_fixed, to_major

currencies = st.sampled_from(["EUR", "JPY", "KWD", "CLF"])


class Priced(msgspec.Struct):
    price: Amount


@pytest.mark.parametrize(
    ("currency", "digits"),
    [("EUR", 2), ("USD", 2), ("JPY", 0), ("KRW", 0), ("ISK", 0), ("KWD", 3), ("IQD", 3), ("TND", 3), ("CLF", 4)],
)
def test_decimals_are_those_of_iso_4217(currency: str, digits: int) -> None:
    assert is_currency(currency)
    assert decimals(currency) == digits


@pytest.mark.parametrize("code", ["", "XYZ", "eur", "EURO", "EU", "XXX", "XTS", "XAU", "HRK", "€"])
def test_code_outside_iso_4217_is_refused(code: str) -> None:
    assert not is_currency(code)


@given(st.integers(0, MAX_MINOR), currencies)
@example(0, "EUR")
@example(1, "KWD")
@example(5998, "EUR")
@example(MAX_MINOR, "JPY")
def test_minor_units_come_back_over_the_wire(minor: int, currency: str) -> None:
    wire = encode(Priced(to_major(minor, currency)))

    assert from_major(decode(wire, Priced).price, currency) == minor
    assert isinstance(json.loads(wire)["price"], int | float), "a JSON number, not a string"


@given(st.integers(0, MAX_MINOR), st.integers(0, 6))
def test_zeros_at_the_end_change_nothing(minor: int, zeros: int) -> None:
    written = f"{minor // 100}.{minor % 100:02}{'0' * zeros}"

    assert from_major(Decimal(written), "EUR") == minor


@given(st.integers(-(10**12), 10**12), currencies)
def test_major_units_are_exact_and_have_the_decimals_of_the_currency(minor: int, currency: str) -> None:
    digits = decimals(currency)
    major, fixed = to_major(minor, currency), to_fixed(minor, currency)

    assert major * 10**digits == minor
    assert fixed == major
    assert -digits <= int(major.as_tuple().exponent) <= 0
    assert int(fixed.as_tuple().exponent) == -digits


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [
        (0, "EUR", "0"),
        (5, "EUR", "0.05"),
        (50, "EUR", "0.50"),
        (10_000, "EUR", "100"),
        (5998, "EUR", "59.98"),
        (-150, "EUR", "-1.50"),
        (1255, "KWD", "1.255"),
        (3765, "KWD", "3.765"),
        (1980, "JPY", "1980"),
        (1, "CLF", "0.0001"),
    ],
)
def test_major_units_are_written_with_all_decimals_or_none(minor: int, currency: str, text: str) -> None:
    assert str(to_major(minor, currency)) == text


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [("59.955", "EUR", 5996), ("59.95", "JPY", 60), ("59.95", "KWD", 59_950), ("0", "JPY", 0)],
)
def test_amount_is_rounded_to_the_decimals_of_the_currency(text: str, currency: str, minor: int) -> None:
    assert rounded(Decimal(text), currency) == minor


@pytest.mark.parametrize(
    ("text", "currency"), [("1.5", "JPY"), ("0.1", "JPY"), ("1.2555", "KWD"), ("1.255", "EUR")]
)
def test_more_decimals_than_the_currency_has_are_refused(text: str, currency: str) -> None:
    with pytest.raises(ValueError, match="not an amount of money"):
        from_major(Decimal(text), currency)


@pytest.mark.parametrize(
    "text",
    [
        "NaN",
        "sNaN",
        "-NaN",
        "Infinity",
        "-Infinity",
        "-0.01",
        "-1",
        "0.001",
        "1.005",
        "59.980000000000004",
        "1e-3",
        "90071992547409.93",
        "1e15",
        "1e18",
        "1e19",
        "1e400",
        "1e999999",
        "0e999999",
        "1e-999999",
        "1.0000000000000000000000000000000000001",
        "99999999999999999999999999999999",
    ],
)
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an amount of money"):
        from_major(Decimal(text), "EUR")


@given(st.floats(allow_nan=True, allow_infinity=True), currencies)
def test_what_a_float_leaves_behind_is_refused_not_rounded(value: float, currency: str) -> None:
    major = Decimal(value)  # the float's exact value, with all its digits
    try:
        minor = from_major(major, currency)
    except ValueError:
        return
    assert to_major(minor, currency) == major


@given(st.decimals(), currencies)
def test_any_decimal_is_an_exact_amount_or_a_value_error(value: Decimal, currency: str) -> None:
    try:
        minor = from_major(value, currency)
    except ValueError:
        return
    assert 0 <= minor <= MAX_MINOR
    assert to_major(minor, currency) == value
