"""Tokens in links: bound to an id, a value and a purpose, with one spelling each."""

from uuid import UUID

import pytest

from purveyor.kit.link_tokens import LinkTokens, id_in

SECRET, OTHER = "a secret of this installation", "another secret"
ABOUT = UUID("01a224f5-e4e5-7060-bf36-78ca4ca75064")
LINKS = LinkTokens("order link", SECRET)
TOKEN = LINKS.sign(ABOUT, "ann@b.test")


def test_a_token_names_its_id_and_is_verified() -> None:
    assert id_in(TOKEN) == ABOUT
    assert LINKS.verify(TOKEN, ABOUT, "ann@b.test")
    assert LinkTokens("order link", OTHER, SECRET).verify(TOKEN, ABOUT, "ann@b.test")


@pytest.mark.parametrize(
    ("links", "token", "bound_to"),
    [
        (LINKS, TOKEN, "bob@b.test"),
        (LINKS, TOKEN, ""),
        (LINKS, TOKEN + "=", "ann@b.test"),
        (LINKS, TOKEN[:-1], "ann@b.test"),
        (LINKS, "é" + TOKEN[1:], "ann@b.test"),
        (LinkTokens("order link", OTHER), TOKEN, "ann@b.test"),
        (LinkTokens("other link", SECRET), TOKEN, "ann@b.test"),
        (LinkTokens("order link"), TOKEN, "ann@b.test"),
    ],
)
def test_any_other_token_or_value_is_refused(links: LinkTokens, token: str, bound_to: str) -> None:
    assert not links.verify(token, ABOUT, bound_to)


@pytest.mark.parametrize("place", [0, 21, 22, 42])
def test_a_changed_character_is_refused(place: int) -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for character in set(alphabet) - {TOKEN[place]}:
        changed = TOKEN[:place] + character + TOKEN[place + 1 :]
        about = id_in(changed)
        assert about is not None
        assert not LINKS.verify(changed, about, "ann@b.test")


def test_without_a_secret_there_is_no_token() -> None:
    assert LinkTokens("order link", "", "").sign(ABOUT, "ann@b.test") == ""


@pytest.mark.parametrize("text", ["", "x", "a b", TOKEN[:-3], TOKEN + "AAAA", "é" * 43, "MQ=="])
def test_what_is_no_token_names_no_id(text: str) -> None:
    assert id_in(text) is None
