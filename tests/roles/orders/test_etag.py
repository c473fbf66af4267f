"""Conditional requests: what an If-Match may say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purveyor.kit.errors import BadRequest
from purveyor.roles.orders.contract import PreconditionFailed
from purveyor.roles.orders.etag import IfMatch, etag, none_matches


def holds(header: str, version: int) -> bool:
    condition = IfMatch.read(header)
    assert condition is not None
    try:
        condition.require(version)
    except PreconditionFailed:
        return False
    return True


@given(st.integers(1, 10**9), st.integers(1, 10**9))
def test_a_condition_holds_for_its_own_version(version: int, other: int) -> None:
    assert holds(etag(version), version)
    assert holds(f" {etag(other)} ,\t{etag(version)}", version)
    assert holds(etag(other), version) == (other == version)
    assert holds("*", version)
    assert holds(str(other), version) == (other == version)
    assert holds(f"W/{etag(version)}", version), "a proxy that compresses weakens the tag"
    assert holds(f'"{other}", W/"{version}"', version)
    assert holds(f'W/"{other}"', version) == (other == version)
    assert holds(f'"{version}-gzip"', version), "Apache appends the coding"


def test_a_refusal_tells_the_version_that_there_is() -> None:
    condition = IfMatch.read('"1"')
    assert condition is not None
    with pytest.raises(PreconditionFailed, match="is now at version 3") as refusal:
        condition.require(3)
    assert refusal.value.headers == {"ETag": '"3"'}


def test_without_a_header_there_is_no_condition() -> None:
    assert IfMatch.read(None) is None


@pytest.mark.parametrize(
    "header",
    ["", " ", ",", "-1", "1 2", '"1', '1"', '"1""2"', '"1" "2"', "W/1", 'w/"1"', "*,*", '*, "1"', '"\x7f"'],
)
def test_what_is_no_list_of_tags_is_refused(header: str) -> None:
    with pytest.raises(BadRequest, match="If-Match"):
        IfMatch.read(header)


@given(st.text(st.characters(max_codepoint=255), max_size=60))
def test_any_header_is_read_or_refused(header: str) -> None:
    try:
        condition = IfMatch.read(header)
    except BadRequest:
        return
    assert condition is not None


def test_a_long_header_is_read_at_once() -> None:
    assert holds(", ".join(etag(number) for number in range(2000)), 1999)
    with pytest.raises(BadRequest):
        IfMatch.read('"' * 20_000 + "x")


@pytest.mark.parametrize(
    ("condition", "matches"),
    [
        ('W/"3"', True),
        ('"3"', True),
        ("*", True),
        ('"1", W/"3"', True),
        ('"3--gzip"', True),
        ('"1"', False),
        ("", False),
        ('"3', False),
        (None, False),
    ],
)
def test_if_none_match_compares_weakly(condition: str | None, *, matches: bool) -> None:
    assert none_matches(condition, 3) == matches
