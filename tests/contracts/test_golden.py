"""Messages on the wire are what their golden files say: contracts only grow."""

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from golden_examples import EXAMPLES, GOLDEN, golden_file, message_types, read, written

from purveyor.kit.events.message import Message, encode
from purveyor.roles.orders.contract import OrderCreated

_each_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: golden_file(example).stem)

ORDER_CREATED = """
{"order_number": 12345, "user_email": "user@example.com", "user_name": "John Doe", "total_amount": 100,
 "items": [{"product_id": 1, "quantity": 2, "price": 50, "total_amt": 100}], "payment_method": "cash_on_delivery"}
"""
"""The body as the first services of the shop wrote it, which foreign consumers rely on."""


def test_every_message_has_one_example_and_one_golden_file() -> None:
    kinds = [kind for _, kind in message_types()]

    assert len(kinds) > 15
    assert sorted(type(example).__name__ for example in EXAMPLES) == sorted(kind.__name__ for kind in kinds)
    assert {path.name for path in GOLDEN.iterdir()} == {golden_file(example).name for example in EXAMPLES}


@_each_example
def test_a_message_is_written_as_its_golden_file(example: Message) -> None:
    assert written(example) == golden_file(example).read_text(encoding="utf-8")


@_each_example
def test_a_golden_file_is_read_as_the_message(example: Message) -> None:
    assert read(golden_file(example).read_text(encoding="utf-8"), type(example)) == example


@_each_example
def test_an_example_leaves_no_member_out(example: Message) -> None:
    names = {field.encode_name for field in msgspec.structs.fields(example)}

    assert set(json.loads(encode(example))) == names


def grown(value: Any) -> Any:
    """The JSON value with an unknown member in every object, as a newer version might write it."""
    if isinstance(value, dict):
        return {"a new member": {"of": ["any", "type"]}} | {name: grown(part) for name, part in value.items()}
    return [grown(part) for part in value] if isinstance(value, list) else value


@_each_example
def test_members_that_are_not_known_are_ignored(example: Message) -> None:
    assert read(json.dumps(grown(json.loads(encode(example)))), type(example)) == example


def test_order_created_begins_with_the_members_of_the_contract() -> None:
    event = read(ORDER_CREATED, OrderCreated)

    assert json.loads(encode(event)).items() >= json.loads(ORDER_CREATED).items()
    first = ORDER_CREATED.replace("\n", "").replace(": ", ":").replace(", ", ",").rstrip("}")
    assert encode(event).startswith(first.encode())


@pytest.mark.parametrize(
    ("amount", "text"),
    [("0", "0"), ("0.01", "0.01"), ("59.9", "59.9"), ("90071992547409.92", "90071992547409.92"), ("100", "100")],
)
def test_amounts_are_json_numbers_to_the_cent(amount: str, text: str) -> None:
    event = msgspec.structs.replace(read(ORDER_CREATED, OrderCreated), total_amount=Decimal(amount))

    assert f'"total_amount":{text},"items"'.encode() in encode(event)
    assert read(encode(event).decode(), OrderCreated).total_amount == Decimal(amount)


@pytest.mark.parametrize("member", ["order_number", "user_email", "user_name", "total_amount", "items"])
def test_an_event_without_what_it_must_have_is_refused(member: str) -> None:
    body = json.loads(ORDER_CREATED)
    del body[member]

    with pytest.raises(msgspec.ValidationError, match=member):
        read(json.dumps(body), OrderCreated)
