"""The bytes of a mail, read back by the standard library's parser."""

from datetime import UTC, datetime, timedelta, timezone
from email import policy
from email.header import decode_header, make_header
from email.message import EmailMessage, MIMEPart
from email.parser import BytesParser
from uuid import UUID

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from purveyor.roles.email.mail_models import CONTROLS
from purveyor.roles.email.mime import ascii_address, compose, message_id, text_of
from purveyor.roles.email.rendering import Rendered

EVENT = UUID("0193a5f0-0000-7000-8000-000000000001")
HEADERS = [
    "Date", "From", "To", "Message-ID", "Subject", "Auto-Submitted", "MIME-Version", "Content-Type",
]  # fmt: skip
PLAIN = Rendered("Your order 7", "Hello Zoë,\n\nthank you.\n", "<p>Hello Zoë</p>\n")

printable = st.text(st.characters(exclude_categories=["Cs"]), max_size=300).filter(
    lambda text: not CONTROLS.search(text) and "=?" not in text
)
header_text = st.one_of(printable, st.text("ab,;:<>@()[]\\\". '=?_", max_size=90)).filter(
    lambda text: not CONTROLS.search(text) and "=?" not in text
)


def build(
    *,
    name: str = "Zoë Müller",
    recipient: str = "zoe@example.com",
    sender: str = "Purveyor <orders@purveyor.local>",
    rendered: Rendered = PLAIN,
    ident: str = message_id(EVENT, "purveyor.local"),
    date: datetime = datetime(2026, 11, 22, 17, 48, 9, tzinfo=UTC),
    request_id: str = "",
) -> bytes:
    return compose(
        message_id=ident,
        sender=sender,
        recipient_name=name,
        recipient=recipient,
        date=date,
        rendered=rendered,
        request_id=request_id,
    )


def parse(raw: bytes) -> EmailMessage:
    message = BytesParser(_class=EmailMessage, policy=policy.default).parsebytes(raw)
    assert isinstance(message, EmailMessage)
    return message


def decoded(message: EmailMessage, name: str) -> str:
    """A header's value by the older decoder: the newer one keeps spaces between the words of a name."""
    raw = next(value for key, value in message.raw_items() if key == name)
    return str(make_header(decode_header(raw)))


def lines(part: MIMEPart) -> list[str]:
    content = part.get_content()
    assert isinstance(content, str)
    return content.splitlines()


def test_the_parts_of_a_mail() -> None:
    message = parse(build())
    assert message.keys() == HEADERS
    assert message["Date"].datetime == datetime(2026, 11, 22, 17, 48, 9, tzinfo=UTC)
    assert str(message["From"]) == "Purveyor <orders@purveyor.local>"
    assert str(message["To"]) == "Zoë Müller <zoe@example.com>"
    assert message["Message-ID"] == f"<{EVENT}@purveyor.local>"
    assert message["Subject"] == "Your order 7"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message.get_content_type() == "multipart/alternative"
    text, html = message.iter_parts()
    assert (text.get_content_type(), lines(text)) == ("text/plain", PLAIN.text.splitlines())
    assert (html.get_content_type(), lines(html)) == ("text/html", PLAIN.html.splitlines())
    assert not message.defects
    assert not text.defects
    assert not html.defects


def test_the_bytes_are_the_same_every_time_and_differ_by_message() -> None:
    other = build(ident=message_id(UUID(int=2), "purveyor.local"))
    boundaries = {parse(raw).get_boundary() for raw in (build(), other)}
    assert build() == build()
    assert len(boundaries) == 2


def test_text_stays_readable_in_the_bytes() -> None:
    assert b"\r\n\r\nHello Zo=C3=AB,\r\n\r\nthank you.\r\n" in build()


def test_the_date_keeps_its_offset() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(-timedelta(hours=3, minutes=30)))
    assert b"Date: Fri, 02 Jan 2026 03:04:05 -0330\r\n" in build(date=moment)


def test_a_date_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        build(date=datetime(2026, 1, 2))  # noqa: DTZ001 - the very thing that is refused


@pytest.mark.parametrize("name", ["نیک\u200cپی", "👨\u200d👩\u200d👧 Family", "a\u200db"])
def test_joiners_in_a_name_are_kept_and_stay_inside_their_header(name: str) -> None:
    message = parse(build(name=name, rendered=Rendered(name, f"Hello {name}", f"<p>{name}</p>")))
    assert message.keys() == HEADERS
    assert (message["To"].addresses[0].display_name, str(message["Subject"])) == (name, name)
    assert not message.defects


BAD_IN_HEADERS = [
    "a\r\nBcc: eve@evil.example", "a\nb", "a\rb", "a\0b", "a\tb", "a\x0bb", "a\x0cb", "a\x1cb", "a\x1eb",
    "a\x7fb", "a\x85b", "a\u2028b", "a\u2029b", "a\u202eb", "a\u2066b", "\n", "a\n", "\r\n a",
    "=?utf-8?q?=0D=0ABcc:eve@evil.example?=", "x =?utf-8?b?Cg==?= y", "=?",
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD_IN_HEADERS)
def test_names_subjects_and_senders_that_could_break_a_header_are_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="not fit for a mail header"):
        build(name=bad)
    with pytest.raises(ValueError, match="not fit for a mail header"):
        build(rendered=Rendered(bad, "text", "html"))
    with pytest.raises(ValueError, match="not"):
        build(sender=f"{bad} <orders@purveyor.local>")


@pytest.mark.parametrize(
    "bad",
    [
        *(text + "@example.com" for text in BAD_IN_HEADERS),
        "", "zoe", "@example.com", "zoe@", "a@b@x.example", "zoe@exa mple.com", "zoe@-example.com",
        "a@x.example, b@x.example", "a@x.example b@x.example", "zoe@example.com;eve@example.com",
        "a@x.example\r\nBcc: b@x.example", "a@x.example\n", "zoe@exam\u2028ple.com",
        "zoe@example.com> SIZE=1", "Zoe <zoe@example.com>", "<zoe@example.com>", "group: zoe@example.com;",
        '"a b"@example.com', "a..b@example.com", ".a@example.com", "zoe@[127.0.0.1]", "jörg@example.com",
        "z" * 65 + "@example.com", "z@" + "x." * 130 + "example",
        "zoe\uff20example.com", "zoe@\ud800.example",
    ],
)  # fmt: skip
def test_anything_else_than_one_plain_address_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match=r"address|domain|header"):
        build(recipient=bad)
    with pytest.raises(ValueError, match=r"address|domain|header"):
        build(sender=f"Purveyor <{bad}>")


@pytest.mark.parametrize(
    "bad", ["", "7@purveyor.local", "<7>", "<7@a b>", "<7@a>\r\nBcc: b@x", "<7@a><8@a>", "<ö@a>"]
)
def test_a_bad_message_id_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="not a message id"):
        build(ident=bad)


def test_message_ids_are_made_of_the_event_and_a_domain() -> None:
    assert message_id(EVENT, "shop.example") == f"<{EVENT}@shop.example>"
    for domain in ("", "a b", "shop.example>", "x\r\n", "schöne.example"):
        with pytest.raises(ValueError, match="not a domain"):
            message_id(EVENT, domain)


def test_an_internationalised_domain_becomes_a_labels() -> None:
    assert ascii_address("zoe@straße.de") == "zoe@xn--strae-oqa.de"
    assert parse(build(recipient="zoe@straße.de"))["To"].addresses[0].addr_spec == "zoe@xn--strae-oqa.de"
    assert ascii_address("zoe@straße.test") == "zoe@xn--strae-oqa.test"
    with pytest.raises(ValueError, match="not one ASCII mail address"):
        ascii_address("jörg@straße.de")


@pytest.mark.parametrize(
    ("sender", "name", "address"),
    [
        ("orders@purveyor.local", "", "orders@purveyor.local"),
        (" <orders@purveyor.local> ", "", "orders@purveyor.local"),
        ('"Smith, Daughters" <orders@purveyor.local>', "Smith, Daughters", "orders@purveyor.local"),
        ("Smith, Daughters <orders@purveyor.local>", "Smith, Daughters", "orders@purveyor.local"),
        ("Bäckerei Öz <orders@purveyor.local>", "Bäckerei Öz", "orders@purveyor.local"),
    ],
)
def test_senders(sender: str, name: str, address: str) -> None:
    (found,) = parse(build(sender=sender))["From"].addresses
    assert (found.display_name, found.addr_spec) == (name, address)


@given(name=header_text, subject=header_text)
@example(name="Zoë " * 40, subject="ü" * 200)
@example(name="x" * 2000, subject="x" * 2000)
@example(name='O"Brien \\ <eve@evil.example>, Bcc:', subject="a, b@x")
@example(name="\\", subject=".")
@settings(max_examples=300, deadline=None)
def test_no_name_or_subject_adds_a_header_or_a_recipient(name: str, subject: str) -> None:
    raw = build(name=name, rendered=Rendered(subject, PLAIN.text, PLAIN.html))
    message = parse(raw)
    assert message.keys() == HEADERS
    assert [each.addr_spec for each in message["To"].addresses] == ["zoe@example.com"]
    assert len(list(message.iter_parts())) == 2
    assert decoded(message, "Subject") == subject.strip(" ")
    head = raw.partition(b"\r\n\r\n")[0]
    assert all(len(line) <= 76 for line in head.split(b"\r\n"))


@given(name=header_text)
@example(name="Zoë " * 40)
@settings(max_examples=200, deadline=None)
def test_names_come_back_as_they_were(name: str) -> None:
    assume(name.strip(" "))
    message = parse(build(name=name))
    written = decoded(message, "To").removesuffix("<zoe@example.com>").strip(" ")
    if written.startswith('"') and name.isascii() and len(name.strip(" ")) <= 60:
        written = written[1:-1].replace(r"\"", '"').replace(r"\\", "\\")
    assert written == name.strip(" ")


@given(text=st.text(st.characters(exclude_categories=["Cs"])), html=st.text("ab=_-. \t\r\nü<>\x85\u2028\0\x0c€"))
@example(text="", html="")
@example(text=".\n..\n.", html="x" * 998)
@example(text="a \r\nb\t\rc\n\n", html=" " * 500)
@example(text="a", html="<<<<<<<<<<<=======\x85\x85\x85\x85\u2028\u2028\t")
@example(text="--=_0\nFrom me", html="ü" * 500)
@settings(max_examples=300, deadline=None)
def test_bodies_come_back_as_they_were_with_one_line_end(text: str, html: str) -> None:
    raw = build(rendered=Rendered("Your order 7", text, html))
    parts = [part.get_payload(decode=True) for part in parse(raw).iter_parts()]
    assert parts == [
        (body.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n") + "\n").replace("\n", "\r\n").encode()
        for body in (text, html)
    ]
    assert raw.replace(b"\r\n", b"").isascii()
    assert b"\n" not in raw.replace(b"\r\n", b"")
    assert b"\r" not in raw.replace(b"\r\n", b"")
    assert b"\0" not in raw
    assert all(len(line) <= 76 for line in raw.split(b"\r\n"))


def test_the_text_of_a_mail_can_be_read_back() -> None:
    assert text_of(build()) == PLAIN.text
    assert text_of(b"Subject: no mail of ours\r\n\r\nx") == "x"
    assert text_of(b"") == ""


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(ValueError, match="surrogate"):
        build(name="\ud800")
    with pytest.raises(ValueError, match="surrogate"):
        build(rendered=Rendered("Your order 7", "\ud800", ""))


@pytest.mark.parametrize("request_id", ["r-1", "0193a5f0-0000-7000-8000-000000000001", "a=b/c+d:e@f", "x" * 128])
def test_the_request_that_caused_a_mail_stands_in_it(request_id: str) -> None:
    raw = build(request_id=request_id)
    message = parse(raw)
    assert message["X-Request-ID"] == request_id
    assert sorted(name for name in message if name != "X-Request-ID") == sorted(HEADERS)
    assert raw == build(request_id=request_id)


@pytest.mark.parametrize(
    "request_id", ["", "x" * 129, "two words", "r\r\nBcc: eve@b.test", "r\n", "ünï", "\x7f", "=?utf-8?q?r?="]
)
def test_a_request_id_that_is_not_fit_for_a_header_is_left_out(request_id: str) -> None:
    assert build(request_id=request_id) == build()
