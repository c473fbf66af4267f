"""What people type: one clean line, a telephone number, a country; or an error that points at the member."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purveyor.kit.errors import InvalidInput
from purveyor.kit.text import (
    _PHONE_SCHEMA,
    LINE_SCHEMA,
    TEXT_SCHEMA,
    clean_country,
    clean_line,
    clean_phone,
    clean_text,
)

PATTERN, ENCODED_WORD = str(LINE_SCHEMA["pattern"]), str(LINE_SCHEMA["not"]["pattern"])  # type: ignore[index]
HARMFUL = ["Cc", "Cf", "Cs", "Zl", "Zp"]


@pytest.mark.parametrize(
    "text",
    [
        "Jane\r\nBcc: all@example.com",
        "a\nb",
        "a\x00b",
        "a\x0bb",
        "a\x0cb",
        "a\x1cb",
        "a\x1db",
        "a\x1eb",
        "a\x7fb",
        "a\x85b",
        "a\x9bb",
        "a\u2028b",
        "a\u2029b",
        "a\x1b[2Jb",
        "=?utf-8?q?=0D=0ABcc:x?=",
        "Jane =?",
        "a\ud800b",
    ],
)
def test_what_could_forge_a_header_a_line_or_a_direction_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        clean_line(text, "/address/city")

    assert [error.pointer for error in refused.value.errors] == ["/address/city"]


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("  Jane Doe \t", "Jane Doe"),
        ("José", "José"),
        ("Jose\u0301", "José"),
        ("محمد", "محمد"),
        ("王小明", "王小明"),
        ("O'Neil & Sons <x> {{7*7}} %s", "O'Neil & Sons <x> {{7*7}} %s"),
        ("Łódź 🙂", "Łódź 🙂"),
        ("نیک\u200cپی", "نیک\u200cپی"),
        ("ශ්\u200dරී", "ශ්\u200dරී"),
        ("👩\u200d❤\ufe0f\u200d👩 & 👨\u200d👩\u200d👧", "👩\u200d❤\ufe0f\u200d👩 & 👨\u200d👩\u200d👧"),
        ("Zo\u00adë \u200eMüller\u200f", "Zoë Müller"),
        ("\ufeffAda\u200b Love\u2060lace\u202e", "Ada Lovelace"),
        ("Jose\u200b\u0301", "José"),
        ("Ad\u200da\u200c", "Ada"),
        ("\u200dक्\u200dष\u200c", "क्\u200dष"),
        ("نیک\u200c\u200cپی", "نیک\u200cپی"),
        ("\u2067دبی\u2069", "دبی"),
        ("\u3164\u200b", ""),
        ("", ""),
    ],
)
def test_a_name_loses_what_is_invisible_and_nothing_else(text: str, clean: str) -> None:
    assert clean_line(text, "/name") == clean


@given(st.text(st.sampled_from("ab \t\u0301\u200b\u200c\u200d\u202e\u2060\ufeff=?é"), min_size=1, max_size=8))
def test_the_api_document_tells_the_same(text: str) -> None:
    try:
        told = bool(clean_line(text, "/name"))
    except InvalidInput:
        told = False
    said = re.search(PATTERN, text) and not re.search(ENCODED_WORD, text)
    assert bool(said) == told


@given(st.text(st.characters() | st.sampled_from("\r\n\x00\u200c\u200d\u2028\u202e=?\u0301 ")))
def test_whatever_passes_is_one_harmless_line_and_stays_so(text: str) -> None:
    try:
        line = clean_line(text, "/name")
    except InvalidInput:
        assert "=?" in text or any(unicodedata.category(character) in HARMFUL for character in text)
        return
    inner = line[1:-1].replace("\u200c", "").replace("\u200d", "")
    assert not any(unicodedata.category(character) in HARMFUL for character in line[:1] + inner + line[-1:])
    assert "=?" not in line
    assert line == line.strip() == clean_line(line, "/name")
    assert len(line.splitlines()) <= 1


@pytest.mark.parametrize("text", ["+49 30 123456", "030/123-456", "(030) 123.456", "112", " 112 ", ""])
def test_a_telephone_number(text: str) -> None:
    assert clean_phone(text) == text.strip()


@pytest.mark.parametrize("text", ["\u202a+49 30 123456\u202c", "\ufeff112", "1\u00ad1\u200b2"])
def test_a_pasted_telephone_number_loses_what_is_invisible(text: str) -> None:
    assert clean_phone(text) in ("+49 30 123456", "112")


@pytest.mark.parametrize(
    ("text", "phone"),
    [
        ("+49\u00a030\u00a0123456", "+49 30 123456"),
        ("+33\u202f1\u200923\u202f45", "+33 1 23 45"),
        ("030\u2011123\u2013456", "030-123-456"),
        ("(030)\u2212123\uff0d456", "(030)-123-456"),
    ],
)
def test_typeset_spaces_and_dashes_of_a_telephone_number_become_plain(text: str, phone: str) -> None:
    assert clean_phone(text) == phone
    assert re.search(_PHONE_SCHEMA["pattern"], text)


@pytest.mark.parametrize(
    "text", ["abc", "+", "11", "1" * 33, "+49\n30 1", "1;drop", "\u0661\u0662\u0663\u0664", "112\x00"]
)
def test_no_telephone_number(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        clean_phone(text)

    assert refused.value.errors[0].pointer == "/phone"


@pytest.mark.parametrize(("text", "code"), [("DE", "DE"), ("us", "US"), ("Gb", "GB")])
def test_a_country(text: str, code: str) -> None:
    assert clean_country(text) == code


@pytest.mark.parametrize("text", ["", "D", "DEU", "UK", "XX", "ZZ", "EU", " DE", "49", "ß", "\ufb01", "\u0131t"])
def test_no_country(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        clean_country(text)

    assert refused.value.errors[0].pointer == "/country"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("ring twice", "ring twice"),
        ("ring twice,\nthen  wait", "ring twice,\nthen wait"),
        ("\r\n Back door. \r\n\r\nThanks! \n", "Back door.\n\nThanks!"),
        ("\n\n", ""),
        ("", ""),
    ],
)
def test_text_keeps_its_lines(text: str, clean: str) -> None:
    assert clean_text(text, "/note") == clean
    assert re.search(str(TEXT_SCHEMA["pattern"]), text)


@pytest.mark.parametrize("text", ["a\rb", "a\tb", "a\n\x1b[2Jb", "a\u2028b", "a\n=?utf-8?q?x?=", "a\x00"])
def test_text_holds_nothing_else_that_could_forge(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        clean_text(text, "/note")
    assert [error.pointer for error in refused.value.errors] == ["/note"]
