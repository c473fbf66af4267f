"""Every fault of a body at once, each with its place, in words that need no knowledge of the program."""

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

import msgspec
import pytest
from msgspec import Meta

from purveyor.kit.errors import FieldError, InvalidInput
from purveyor.kit.http.input_errors import MOST, find_faults, in_plain_words


def refuse_shouting(text: str, pointer: str) -> None:
    if text.isupper():
        raise InvalidInput(errors=[FieldError(pointer, "must not shout")])


class Item(msgspec.Struct, forbid_unknown_fields=True):
    product_id: Annotated[int, Meta(ge=1, le=9)]
    quantity: Annotated[int, Meta(ge=1)] = 1


class Period(msgspec.Struct):
    first: int
    last: int

    def __post_init__(self) -> None:
        if self.last < self.first:
            raise ValueError("must end after it begins")


class Body(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    items: Annotated[tuple[Item, ...], Meta(min_length=1, max_length=3)]
    note: Annotated[str, Meta(max_length=5)] | None = None
    name: Annotated[str, Meta(min_length=1)] = "x"
    method: Literal["card", "cash"] = "card"
    gift: bool = False
    at: datetime | None = None
    key: UUID | None = None
    labels: dict[str, int] = {}
    period: Period | None = None
    either: int | str = 0


def faults(value: Any, target: Any = Body) -> dict[str, str]:
    return {fault.pointer: fault.detail for fault in find_faults(value, target)}


GOOD = {"items": [{"product_id": 1}]}


def test_every_fault_of_a_body_is_reported_at_once() -> None:
    body = {
        "items": [{"product_id": "1", "quantity": 0}, {"quantity": 2.5, "colour": "red"}, 7],
        "note": "too long",
        "name": "",
        "method": "barter",
        "gift": "yes",
        "at": "yesterday",
        "key": "1",
        "labels": {"a/b": "x"},
        "period": {"first": 2, "last": 1},
        "either": [],
        "surprise": 1,
    }

    assert faults(body) == {
        "/items/0/product_id": "must be a whole number",
        "/items/0/quantity": "must be at least 1",
        "/items/1/product_id": "is missing",
        "/items/1/quantity": "must be a whole number",
        "/items/1/colour": "is not a known member",
        "/items/2": "must be an object",
        "/note": "must have at most 5 characters",
        "/name": "must not be empty",
        "/method": "must be one of card, cash",
        "/gift": "must be true or false",
        "/at": "must be a time such as 2026-01-31T12:00:00Z (RFC 3339)",
        "/key": "must be a UUID",
        "/labels/a~1b": "must be a whole number",
        "/period": "must end after it begins",
        "/either": "must be a whole number or a string",
        "/surprise": "is not a known member",
    }


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        ([], "must be an object"),
        ({"items": []}, "must not be empty"),
        ({"items": {}}, "must be an array"),
        ({"items": [{"product_id": 10}]}, "must be a whole number from 1 to 9"),
        ({"items": [{"product_id": True}]}, "must be a whole number"),
        ({"items": [{"product_id": None}]}, "must be a whole number"),
        ({"items": [{"product_id": 1}] * 4}, "must have 1 to 3 items"),
        ({**GOOD, "note": 1}, "must be a string"),
        ({**GOOD, "labels": []}, "must be an object"),
        ({}, "is missing"),
    ],
)
def test_each_kind_of_fault_has_its_words(value: Any, detail: str) -> None:
    assert list(faults(value).values()) == [detail]


def test_right_values_have_no_faults() -> None:
    full = {"note": None, "at": "2026-01-31T12:00:00Z", "labels": {"a": 1}, "period": {"first": 1, "last": 2}}
    assert faults({**GOOD, **full, "either": "text"}) == {}


def test_number_of_faults_is_bounded() -> None:
    assert len(find_faults({"items": ["x"] * 10_000}, Body)) == MOST


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("Expected `int`, got `str` - at `$.limit`", "must be a whole number"),
        ("Expected `int | null`, got `str`", "must be a whole number or null"),
        ("Expected `int` <= 100", "must be at most 100"),
        ("Expected `str` of length >= 1", "must have a length of at least 1"),
        ("Invalid enum value 'x'", "is not an allowed value: 'x'"),
        ("Something `else`", "Something 'else'"),
    ],
)
def test_messages_of_msgspec_are_put_in_plain_words(message: str, words: str) -> None:
    assert in_plain_words(message) == words


class Contact(msgspec.Struct):
    mail: Annotated[str, Meta(max_length=20)]
    phone: str | None = None
    checks: ClassVar = {"mail": refuse_shouting, "phone": refuse_shouting}


def test_checks_of_the_domain_are_reported_beside_faults_of_form() -> None:
    assert faults({"mail": "LOUD", "phone": 7}, Contact) == {
        "/mail": "must not shout",
        "/phone": "must be a string",
    }
    assert faults({"mail": "L" * 21}, Contact) == {"/mail": "must have at most 20 characters"}
    assert faults({"mail": "calm", "phone": None}, Contact) == {}
