"""Deterministic composition of a mail (RFC 5322, RFC 2045 to 2047).

The standard ``email`` package needs over a millisecond per mail, and some of its releases allow header injection
by encoded words (CVE-2024-6923). This module validates all header values and fills a fixed template.
"""

import binascii
import email
import functools
import hashlib
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from email import quoprimime
from email.header import decode_header, make_header
from email.message import Message
from email.utils import format_datetime
from uuid import UUID

from purveyor.roles.email.mail_models import CONTROLS
from purveyor.roles.email.rendering import Rendered

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_ADDRESS = re.compile(rf"(?=.{{3,254}}\Z)(?=[^@]{{1,64}}@){_ATOM}(?:\.{_ATOM})*@{_DOMAIN.pattern}")
_MESSAGE_ID = re.compile(rf"(?=.{{5,250}}\Z)<{_ATOM}(?:\.{_ATOM})*@{_DOMAIN.pattern}>")
_SENDER = re.compile(r' *(?:"(?P<quoted>[^"\\]*)"|(?P<plain>[^"<>]*?)) *<(?P<address>[^<>]+)> *')
_REQUEST_ID = re.compile(r"[!-~]{1,128}")
_PLAIN_PHRASE = re.compile(rf"{_ATOM}(?: {_ATOM})*")

_PLAIN_MAX = 60
"""ASCII text up to this length stays on the header's line; all else becomes encoded words."""
_WORD_BYTES = 39
"""Bytes of UTF-8 in an encoded word of 64 characters, which fits after ``Subject:`` into 76 characters."""

_LONGEST_LINE = 76
_FRAME = (
    "Date: {date}\r\n"
    "From: {sender}\r\n"
    "To: {recipient}\r\n"
    "{reply_to}"
    "Message-ID: {message_id}\r\n"
    "Subject: {subject}\r\n"
    "Auto-Submitted: auto-generated\r\n"
    "{trace}"
    "MIME-Version: 1.0\r\n"
    'Content-Type: multipart/alternative;\r\n boundary="{boundary}"\r\n'
    "\r\n"
    "--{boundary}\r\n"
    "Content-Type: text/plain; charset=utf-8\r\n"
    "Content-Transfer-Encoding: quoted-printable\r\n"
    "\r\n"
    "{text}\r\n"
    "--{boundary}\r\n"
    "Content-Type: text/html; charset=utf-8\r\n"
    "Content-Transfer-Encoding: quoted-printable\r\n"
    "\r\n"
    "{html}\r\n"
    "--{boundary}--\r\n"
)


def message_id(event_id: UUID, domain: str) -> str:
    """Return the ``Message-ID`` of an event's mail. Raises ``ValueError`` for an invalid domain."""
    if not _DOMAIN.fullmatch(domain):
        raise ValueError(f"not a domain: {domain!r}")
    return f"<{event_id}@{domain}>"


def ascii_address(address: str) -> str:
    """Convert an address to ASCII for SMTP, with an internationalized domain as A-labels (RFC 5890).

    Raises ``ValueError`` for an invalid address and for a local part that needs SMTPUTF8 (RFC 6531).
    """
    if not address.isascii():
        # Rare, and slow to import.
        from purveyor.kit.mail_address import EmailNotValidError, parse_mail_address

        with suppress(EmailNotValidError):
            address = parse_mail_address(address).ascii_email or address
    if not _ADDRESS.fullmatch(address) or "=?" in address:
        raise ValueError(f"not one ASCII mail address: {address!r}")
    return address


def sender_parts(sender: str) -> tuple[str, str]:
    """Parse ``Name <address>``, ``"Name" <address>`` or an address into a name and an ASCII address.

    The name may be empty. Raises ``ValueError``, also for a name that is not valid in a header.
    """
    match = _SENDER.fullmatch(sender)
    name, address = (match["quoted"] or match["plain"] or "", match["address"]) if match else ("", sender)
    return _checked(name).strip(" "), ascii_address(address.strip(" "))


def compose(
    *,
    message_id: str,
    sender: str,
    recipient_name: str,
    recipient: str,
    date: datetime,
    rendered: Rendered,
    request_id: str = "",
    reply_to: str = "",
) -> bytes:
    """Compose the mail with CRLF line ends. Equal arguments give equal bytes.

    ``sender`` is ``Name <address>`` or an address, ``recipient`` and ``reply_to`` an address, and ``date`` aware.
    A ``request_id`` that is not 1 to 128 printable ASCII characters without spaces is omitted. Raises
    ``ValueError`` for other values that could end a header or be read as more than one address or name.
    """
    if not _MESSAGE_ID.fullmatch(message_id):
        raise ValueError(f"not a message id: {message_id!r}")
    if date.tzinfo is None:
        raise ValueError("the date of a mail needs a time zone")
    # "=_" cannot occur in quoted-printable text, so no part can contain the boundary.
    boundary = "=_" + hashlib.blake2b(message_id.encode("ascii"), digest_size=16).hexdigest()
    return _FRAME.format(
        date=format_datetime(date),
        sender=_sender(sender),
        recipient=_mailbox(recipient_name, recipient),
        reply_to=f"Reply-To: {ascii_address(reply_to)}\r\n" if reply_to else "",
        message_id=message_id,
        subject=_unstructured(rendered.subject),
        trace=f"X-Request-ID: {request_id}\r\n" if _is_plain_id(request_id) else "",
        boundary=boundary,
        text=_quoted_printable(rendered.text),
        html=_quoted_printable(rendered.html),
    ).encode("ascii")


def text_of(message: bytes) -> str:
    """Return the text of a composed mail with ``\\n`` line ends."""
    return bodies(email.message_from_bytes(message)).get("text/plain", "").replace("\r\n", "\n")


def decoded_headers(message: Message) -> list[tuple[str, str]]:
    """Return the headers of a composed mail as a reader sees them, in their order."""
    return [(name, decoded_header(str(value))) for name, value in message.items()]


def decoded_header(value: str) -> str:
    """Unfold a header value and decode its encoded words (RFC 2047)."""
    return " ".join(str(make_header(decode_header(value))).split())


def read_mail(source: str) -> tuple[list[tuple[str, str]], str]:
    """Return the decoded headers and the text of a composed mail."""
    message = email.message_from_string(source)
    return decoded_headers(message), bodies(message).get("text/plain", "").replace("\r\n", "\n")


def bodies(message: Message) -> dict[str, str]:
    """Return the parts of a composed mail by content type."""
    parts = {part.get_content_type(): part.get_payload(decode=True) for part in message.walk()}
    return {
        kind: payload.decode("utf-8", "replace") for kind, payload in parts.items() if isinstance(payload, bytes)
    }


@functools.lru_cache(maxsize=16)
def _sender(sender: str) -> str:
    return _mailbox(*sender_parts(sender))


def _mailbox(name: str, address: str) -> str:
    """Format a mailbox (RFC 5322 section 3.4)."""
    address = ascii_address(address)
    name = _checked(name).strip(" ")
    if not name:
        return address
    if not name.isascii() or len(name) > _PLAIN_MAX:
        return f"{_encoded_words(name)}\r\n <{address}>"
    if not _PLAIN_PHRASE.fullmatch(name):
        name = '"' + name.replace("\\", r"\\").replace('"', r"\"") + '"'
    return f"{name}\r\n <{address}>" if len(name) + len(address) > _PLAIN_MAX else f"{name} <{address}>"


def _unstructured(text: str) -> str:
    """Format an unstructured header value (RFC 5322 section 3.2.5)."""
    text = _checked(text).strip(" ")
    return text if text.isascii() and len(text) <= _PLAIN_MAX else _encoded_words(text)


def _is_plain_id(text: str) -> bool:
    return bool(_REQUEST_ID.fullmatch(text)) and "=?" not in text


def _checked(text: str) -> str:
    """Return the text, or raise ``ValueError`` if it is not valid in a header."""
    if CONTROLS.search(text) or "=?" in text:
        raise ValueError(f"not fit for a mail header: {text!r}")
    return text


def _encoded_words(text: str) -> str:
    """Format encoded words (RFC 2047 section 2), one per line, without splitting characters."""
    return "\r\n ".join(
        f"=?utf-8?b?{binascii.b2a_base64(chunk, newline=False).decode('ascii')}?=" for chunk in _chunks(text)
    )


def _chunks(text: str) -> Iterator[bytes]:
    chunk = b""
    for character in text:
        encoded = character.encode("utf-8")
        if len(chunk) + len(encoded) > _WORD_BYTES:
            yield chunk
            chunk = b""
        chunk += encoded
    yield chunk


def _quoted_printable(text: str) -> str:
    """Encode a body in quoted-printable (RFC 2045 section 6.7) with lines of at most 76 characters and CRLF."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n").split("\n")
    return "".join(map(_quoted_printable_line, lines))


@functools.lru_cache(maxsize=2048)
def _quoted_printable_line(line: str) -> str:
    """Encode a line with its end. Most lines of a mail are those of its template."""
    # b2a_qp folds with the first line end that it finds, which therefore has to be CRLF.
    raw = f"{line}\r\n".encode()
    encoded = binascii.b2a_qp(raw, istext=True).decode("ascii")
    if max(map(len, encoded.split("\r\n"))) <= _LONGEST_LINE:
        return encoded
    # b2a_qp counts white space at the end of a full line as one character, but writes three.
    return quoprimime.body_encode(raw.decode("latin-1"), _LONGEST_LINE, "\r\n")
