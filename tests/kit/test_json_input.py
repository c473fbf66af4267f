"""JSON as other programs write it, in requests and in messages."""

from decimal import Decimal

import msgspec
import pytest

from purveyor.kit.events.message import Event
from purveyor.kit.events.transport import Undeliverable, decoded
from purveyor.kit.json_input import UNREADABLE, decode_json


class Line(msgspec.Struct, forbid_unknown_fields=True):
    count: int
    id: int | str = 0
    price: Decimal = Decimal(0)
    weight: float = 0.0
    share: bool | None = None


class Sold(Event, frozen=True):
    type = "sold.in_test"  # type: ignore[misc]
    number: int
    parts: tuple[Line, ...] = ()


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ('{"count": 2}', Line(2)),
        ('{"count": 2.0}', Line(2)),
        ('{"count": -0.0}', Line(0)),
        ('{"count": 2e2}', Line(200)),
        ('{"count": 9007199254740992.0}', Line(2**53)),
        ('{"count": 9007199254740993}', Line(2**53 + 1)),
        ('{"count": 2.0, "id": 3.0, "price": 19.99, "weight": 1.0}', Line(2, 3, Decimal("19.99"), 1.0)),
        ('{"count": 2, "price": 2.50}', Line(2, price=Decimal("2.50"))),
        ('{"count": 2, "id": "3.0"}', Line(2, "3.0")),
    ],
)
def test_a_whole_number_is_read_however_it_is_written(text: str, read: Line) -> None:
    for body in (text.encode(), b"\xef\xbb\xbf" + text.encode()):
        assert decode_json(body, Line) == read


@pytest.mark.parametrize(
    "text",
    [
        '{"count": 2.5}',
        '{"count": "2"}',
        '{"count": 1e400}',
        '{"count": 1, "share": 1.0}',
        '{"count": 1e30}',
        '{"count": 2.0, "other": 1}',
    ],
)
def test_anything_else_is_wrong(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_json(text.encode(), Line)


@pytest.mark.parametrize("body", [b"\xef\xbb\xbf" * 2 + b"{}", b"\xef\xbb", b"", b"\xff\xfe{\x00}\x00"])
def test_other_marks_are_unreadable(body: bytes) -> None:
    with pytest.raises(UNREADABLE):
        decode_json(body, Line)


def test_messages_are_read_in_the_same_way() -> None:
    body = b'\xef\xbb\xbf{"number": 7.0, "parts": [{"count": 2.0}], "unknown": 1.0}'
    assert decoded(body, Sold) == Sold(number=7, parts=(Line(2),))
    for wrong in (b"", b'{"number": 7.5}', b"[" * 100_000):
        with pytest.raises(Undeliverable, match="cannot be read"):
            decoded(wrong, Sold)
