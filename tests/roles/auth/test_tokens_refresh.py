"""Refresh tokens: how one follows from another, and what is no token."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purveyor.kit.ids import new_id
from purveyor.roles.auth.tokens import RefreshChain, RefreshToken

CHAIN = RefreshChain("a secret of at least thirty-two bytes")


def generations(count: int) -> list[RefreshToken]:
    tokens = [RefreshToken.first(new_id())]
    while len(tokens) < count:
        tokens.append(CHAIN.successor(tokens[-1]))
    return tokens


def test_a_token_is_read_as_it_was_written() -> None:
    for token in generations(3):
        assert RefreshToken.parse(str(token)) == token
        assert len(str(token)) == 70


def test_first_tokens_are_random_and_no_token_shows_its_secret() -> None:
    one, other = RefreshToken.first(new_id()), RefreshToken.first(new_id())

    assert len({one.secret, other.secret, one.hash, other.hash}) == 4
    assert len(one.secret) == 32
    assert one.secret.hex() not in repr(one)
    assert str(one) not in repr(one)


def test_a_successor_is_always_the_same_and_needs_the_servers_secret() -> None:
    token = RefreshToken.first(new_id())
    foreign = RefreshChain("another secret of thirty-two bytes").successor(token)

    assert CHAIN.successor(token) == CHAIN.successor(token)
    assert CHAIN.successor(token).secret not in (token.secret, token.hash, foreign.secret)


def test_an_old_token_proves_that_it_was_one_of_the_session() -> None:
    tokens = generations(20)
    newest = tokens[-1]

    for old in tokens[:-1]:
        assert CHAIN.leads_to(old, newest.generation, newest.hash)
        assert not CHAIN.leads_to(old, newest.generation - 1, newest.hash)
        assert not CHAIN.leads_to(old, newest.generation, tokens[-2].hash)
    assert not CHAIN.leads_to(newest, newest.generation, newest.hash)
    assert not CHAIN.leads_to(newest, tokens[0].generation, tokens[0].hash)


def test_a_forged_generation_proves_nothing_and_costs_little() -> None:
    newest = generations(5)[-1]
    forged = RefreshToken(newest.session_id, 0, newest.secret)

    assert not CHAIN.leads_to(forged, newest.generation, newest.hash)
    assert not CHAIN.leads_to(forged, 2**31 - 1, newest.hash)


@given(
    st.one_of(
        st.text(max_size=100), st.binary(max_size=60).map(lambda raw: base64.urlsafe_b64encode(raw).decode())
    )
)
def test_nothing_else_is_a_token(text: str) -> None:
    found = RefreshToken.parse(text)

    assert found is None or str(found) == text.rstrip("=")


@pytest.mark.parametrize(
    "text",
    ["", "=", "a" * 69, "a" * 71, "é" * 70, "\ud800" * 70, "A" * 21 + "_____w" + "A" * 43, " " + "A" * 69],
)
def test_what_is_too_short_too_long_or_too_large_is_no_token(text: str) -> None:
    assert RefreshToken.parse(text) is None
