"""UUIDv7: the layout of RFC 9562, the order of making under threads and bad clocks, and what is read back."""

import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purveyor.kit.ids import first_id_of, new_id, parse_id, stable_id


def milliseconds(made: uuid.UUID) -> int:
    return made.int >> 80


def test_the_layout_is_that_of_rfc_9562_section_5_7() -> None:
    before = time.time_ns() // 1_000_000
    made = new_id()
    after = time.time_ns() // 1_000_000

    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert before <= milliseconds(made) <= after + 1


def test_ids_grow_and_never_repeat_however_many_are_made_in_a_millisecond() -> None:
    made = [new_id() for _ in range(20_000)]  # far more than the 4096 of the counter

    assert made == sorted(set(made))


def test_the_text_and_the_bytes_sort_as_the_ids_do() -> None:
    made = [new_id() for _ in range(1000)]

    assert sorted(map(str, made)) == [str(one) for one in made]
    assert sorted(one.bytes for one in made) == [one.bytes for one in made]


def test_the_last_62_bits_cannot_be_guessed_from_the_id_before() -> None:
    tails = [new_id().int & ((1 << 62) - 1) for _ in range(200)]

    assert len(set(tails)) == 200
    assert all(sum(tail >> bit & 1 for tail in tails) not in (0, 200) for bit in range(62))


def test_threads_together_make_no_id_twice_and_each_sees_its_own_grow(request: pytest.FixtureRequest) -> None:
    request.addfinalizer(partial(sys.setswitchinterval, sys.getswitchinterval()))
    sys.setswitchinterval(1e-6)
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda _: [new_id() for _ in range(2000)], range(8)))

    assert all(row == sorted(row) for row in rows)
    assert len({one for row in rows for one in row}) == 16_000
    assert len({one.int >> 64 for row in rows for one in row}) == 16_000, "the time and counter alone are unique"


def test_a_clock_that_is_set_back_neither_repeats_nor_reorders(monkeypatch: pytest.MonkeyPatch) -> None:
    first = new_id()
    hour_ago = time.time_ns() - 3600 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: hour_ago)
    made = [new_id() for _ in range(10_000)]
    monkeypatch.undo()

    row = [first, *made, new_id()]
    assert row == sorted(set(row))


@given(st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(2200, 1, 1)))  # noqa: DTZ001 - made aware below
def test_the_first_id_of_a_moment_divides_before_from_after(naive: datetime) -> None:
    moment = naive.replace(tzinfo=UTC)
    divider = first_id_of(moment)

    assert divider.version == 7
    assert divider.variant == uuid.RFC_4122
    assert milliseconds(divider) == int(moment.timestamp() * 1000)
    assert first_id_of(moment + timedelta(milliseconds=2)) > divider


def test_ids_lie_between_the_dividers_of_before_and_after() -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)

    assert first_id_of(before) < new_id() < first_id_of(before + timedelta(seconds=10))


@given(st.uuids())
def test_the_canonical_text_is_read_back_in_either_case(value: uuid.UUID) -> None:
    assert parse_id(str(value)) == value
    assert parse_id(str(value).upper()) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "0123456789abcdef0123456789abcdef",
        "{01234567-89ab-7def-8123-456789abcdef}",
        "urn:uuid:01234567-89ab-7def-8123-456789abcdef",
        "0123456789abcdef0123456789abcdef----",
        "0123-4567-89ab-7def-8123456789abcdef",
        "{0123456789abcdef0123456789abcdef}--",
        "0_234567-89ab-7def-8123-456789abcdef",
        "+1234567-89ab-7def-8123-456789abcdef",
        " 1234567-89ab-7def-8123-456789abcdef",
        "01234567-89ab-7def-8123-456789abcde\uff11",
        "01234567-89ab-7def-8123-456789abcdeg",
        "01234567-89ab-7def-8123-456789abcde\x00",
    ],
)
def test_any_other_form_is_no_id(text: str) -> None:
    assert parse_id(text) is None


PARENT = uuid.UUID("01890a5d-ac96-774b-bcce-b302099a8057")


def test_stable_ids_are_the_same_for_ever() -> None:
    """Changed ids would have events that are delivered twice across an update be taken for two."""
    order = stable_id("order.created", PARENT, dated=True)

    assert str(order) == "01890a5d-ac96-7634-94b9-3d198bef532d"
    assert str(stable_id("purveyor:order.created:12345")) == "09d1e2cd-00d8-5660-9bc5-22e0f703d6bd"
    assert str(stable_id("mail_data.erased:", PARENT)) == "7235c269-c375-5362-9326-268c349006a1"


def test_dated_stable_id_sorts_with_its_parent() -> None:
    made = stable_id("order.created", PARENT, dated=True)

    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert milliseconds(made) == milliseconds(PARENT)
    assert made != stable_id("order.shipped", PARENT, dated=True)
