"""Money: exact between wire and store, and no amount that is not one."""

import json
from decimal import Decimal

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from purveyor.kit.events.message import encode
from purveyor.kit.http.web import decode
from purveyor.kit.money import MAX_MINOR, Amount, from_major, to_major


class Priced(msgspec.Struct):
    price: Amount


@given(st.integers(0, MAX_MINOR))
@example(0)
@example(1)
@example(5998)
@example(MAX_MINOR)
def test_minor_units_come_back_over_the_wire(minor: int) -> None:
    wire = encode(Priced(to_major(minor)))

    assert from_major(decode(wire, Priced).price) == minor
    assert isinstance(json.loads(wire)["price"], int | float), "a JSON number, not a string"


@given(st.integers(0, MAX_MINOR), st.integers(0, 6))
def test_zeros_at_the_end_change_nothing(minor: int, zeros: int) -> None:
    written = f"{minor // 100}.{minor % 100:02}{'0' * zeros}"

    assert from_major(Decimal(written)) == minor


@given(st.integers(-(10**12), 10**12))
def test_major_units_are_exact_and_have_two_decimals_at_most(minor: int) -> None:
    major = to_major(minor)

    assert major * 100 == minor
    assert -2 <= int(major.as_tuple().exponent) <= 0


@pytest.mark.parametrize(
    ("minor", "text"), [(0, "0"), (5, "0.05"), (50, "0.50"), (10_000, "100"), (5998, "59.98"), (-150, "-1.50")]
)
def test_how_it_is_written(minor: int, text: str) -> None:
    assert str(to_major(minor)) == text


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
        from_major(Decimal(text))


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_what_a_float_leaves_behind_is_refused_not_rounded(value: float) -> None:
    major = Decimal(value)  # the float's exact value, with all its digits
    try:
        minor = from_major(major)
    except ValueError:
        return
    assert to_major(minor) == major


@given(st.decimals())
def test_any_decimal_is_an_exact_amount_or_a_value_error(value: Decimal) -> None:
    try:
        minor = from_major(value)
    except ValueError:
        return
    assert 0 <= minor <= MAX_MINOR
    assert to_major(minor) == value
