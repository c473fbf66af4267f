"""The rules of accounts: names, e-mail addresses, language tags, passwords."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purveyor.kit.errors import InvalidInput
from purveyor.roles.auth.model import check_password, clean_language, clean_name, normal_email

_BREAKERS = {
    "CR": "\r",
    "LF": "\n",
    "CRLF and a header": "\r\nBcc: eve@example.com",
    "NUL": "\0",
    "escape": "\x1b",
    "VT": "\x0b",
    "FF": "\x0c",
    "FS": "\x1c",
    "GS": "\x1d",
    "RS": "\x1e",
    "NEL": "\x85",
    "line separator": "\u2028",
    "paragraph separator": "\u2029",
    "lone surrogate": "\ud800",
    "encoded word": "=?utf-8?q?=0D=0ABcc:x?=",
}


def pointers(error: pytest.ExceptionInfo[InvalidInput]) -> list[str]:
    return [field.pointer for field in error.value.errors]


@pytest.mark.parametrize("breaker", _BREAKERS.values(), ids=_BREAKERS)
def test_a_name_that_could_break_a_mail_header_is_refused(breaker: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        clean_name(f"Ada{breaker}Lovelace")

    assert pointers(refusal) == ["/name"]


@pytest.mark.parametrize("empty", ["", " ", "\t\n ", "\u3000"])
def test_a_name_is_not_empty(empty: str) -> None:
    with pytest.raises(InvalidInput):
        clean_name(empty)


@pytest.mark.parametrize(
    "name",
    [
        "Ada Lovelace",
        "O'Brien, Seán",
        "李雷",
        "Ἀριάδνη",
        "محمد",
        "<script>alert(1)</script>",
        "{{7*7}} %s",
        "X",
        "نیک\u200cپی",
    ],
)
def test_a_name_stays_as_it_was_typed(name: str) -> None:
    assert clean_name(f"  {name} ") == name


def test_a_name_is_composed() -> None:
    assert clean_name("Rene\u0301") == "Ren\u00e9"


@given(st.text(alphabet=st.characters(), max_size=40))
def test_a_name_that_passes_is_one_harmless_line(text: str) -> None:
    try:
        name = clean_name(text)
    except InvalidInput:
        return

    assert name.splitlines() == [name]
    assert unicodedata.is_normalized("NFC", name)
    assert name == name.strip()
    assert "=?" not in name
    seen = set(name) - {"\u200c", "\u200d"} | {name[0], name[-1]}
    assert not {unicodedata.category(character) for character in seen} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("ada@example.com", "ada@example.com"),
        ("Ada.Lovelace+Shop@EXAMPLE.Com", "ada.lovelace+shop@example.com"),
        ("a@shop.local-brand.example", "a@shop.local-brand.example"),
        ("x" * 64 + "@example.com", "x" * 64 + "@example.com"),
        ("ada@b\u00fccher.example", "ada@b\u00fccher.example"),
        ("ada@BU\u0308CHER.example", "ada@b\u00fccher.example"),
        ("ada@xn--bcher-kva.example", "ada@b\u00fccher.example"),
        ("ada@shop.test", "ada@shop.test"),
        ("ada@printer.local", "ada@printer.local"),
        ("Ada@LocalHost", "ada@localhost"),
        ("ada@nobody.invalid", "ada@nobody.invalid"),
        ("ada@b\u00fccher.test", "ada@b\u00fccher.test"),
    ],
)
def test_one_mailbox_has_one_spelling(typed: str, stored: str) -> None:
    assert normal_email(typed) == stored
    assert normal_email(stored) == stored


@pytest.mark.parametrize(
    "address",
    [
        "",
        "ada",
        "@example.com",
        "ada@",
        "ada@@example.com",
        "ada@example..com",
        "ada@-example.com",
        ".ada@example.com",
        "ada.@example.com",
        "a@example.com, b@example.com",
        "a@example.com b@example.com",
        "Ada <ada@example.com>",
        "ada@example.com> SIZE=1",
        "ada@example.com\r\nBcc: eve@example.com",
        "ada\0@example.com",
        "ada@exam\u2028ple.com",
        '"ada lovelace"@example.com',
        '"ada\r\n"@example.com',
        "ada@[127.0.0.1]",
        "ada(comment)@example.com",
        "=?utf-8?q?ada?=@example.com",
        "\u00e4da@example.com",
        "\ud800@example.com",
        "x" * 65 + "@example.com",
        "ada@" + "x" * 64 + ".com",
        "ada@" + ".".join(["x" * 60] * 5) + ".com",
        "x" * 2000 + "@example.com",
    ],
)
def test_what_is_no_plain_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        normal_email(address)

    assert pointers(refusal) == ["/email"]


@pytest.mark.parametrize("tag", ["en", "de-AT", "zh-Hant-TW", "gsw"])
def test_language_tags(tag: str) -> None:
    assert clean_language(tag) == tag


@pytest.mark.parametrize("tag", ["", "e", "english", "de_AT", "de-", "de\r\nX: y", "../en", "d\u00e9"])
def test_what_is_no_language_tag_is_refused(tag: str) -> None:
    with pytest.raises(InvalidInput):
        clean_language(tag)


@pytest.mark.parametrize(
    "password",
    [
        "\u00bd" * 100,
        "\ufdfa" * 128,
        "e\u0301" * 4,
        "\u212b" * 8,
        "tr0ub4d&",
        "q" * 7 + "7",
        "z" * 127 + "Q",
        "Zeichenä",
        "        ",
        "correct horse",
        "\u6b63\u78ba" * 4,
    ],
)
def test_any_characters_may_form_a_password(password: str) -> None:
    check_password(password, 8)


@pytest.mark.parametrize("password", ["", "x7&fQ1!", "y" * 129, "\u00bd" * 7, "e\u0301" * 65, "\u6b63" * 7])
def test_a_password_has_8_to_128_characters(password: str) -> None:
    with pytest.raises(InvalidInput, match="not valid") as refusal:
        check_password(password, 8)

    assert refusal.value.errors[0].detail == "must have 8 to 128 characters"


def test_the_shortest_password_is_a_setting() -> None:
    check_password("fourteen chars", 14)
    with pytest.raises(InvalidInput):
        check_password("fourteen chars", 15)


@pytest.mark.parametrize("password", ["password", "PassWord", "12345678", "iloveyou", "qwertyuiop", "password123"])
def test_common_passwords_are_refused_in_any_case(password: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        check_password(password, 8, "/new_password")

    assert pointers(refusal) == ["/new_password"]
    assert "common" in refusal.value.errors[0].detail


@pytest.mark.parametrize("mark", ["\u202e", "\u2066", "\u200b", "\u00ad", "\ufeff"])
def test_invisible_marks_that_were_pasted_along_are_removed(mark: str) -> None:
    assert clean_name(f"{mark}Ada {mark}Lovelace{mark}") == "Ada Lovelace"
    assert normal_email(f" a{mark}da@example.com{mark}\n") == "ada@example.com"
