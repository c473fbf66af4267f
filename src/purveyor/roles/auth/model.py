"""The rules of accounts and the values that they work on. Pure: nothing here waits."""

import re
import unicodedata
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Literal
from uuid import UUID

import msgspec

from purveyor.kit.errors import InvalidInput, NotFound
from purveyor.kit.events.message import Cause, Envelope, Event
from purveyor.kit.ids import parse_id
from purveyor.kit.mail_address import EmailNotValidError, parse_mail_address
from purveyor.kit.text import invalid, require_line, strip_invisible
from purveyor.roles.auth.contract import Address, Principal
from purveyor.roles.auth.names import find_bait

PASSWORD_MIN_LENGTH, PASSWORD_MAX_LENGTH = 8, 128
NO_ACCOUNT = "There is no such account."
LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")


class User(msgspec.Struct, frozen=True, kw_only=True):
    """An account, without its password."""

    id: UUID
    email: str
    name: str
    phone: str
    language: str
    access: str
    created_at: datetime
    email_confirmed: bool = False
    blocked: bool = False


class UserFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Filter for lists of accounts; empty matches any."""

    email: str = ""
    """The start of the address."""
    text: str = ""
    """A part of the address or of the name, ignoring case."""
    access: str = ""


class Credentials(msgspec.Struct, frozen=True):
    """An account with its password's hash."""

    user: User
    password_hash: str


class Holder(msgspec.Struct, frozen=True):
    """An account with the version that its access tokens carry now."""

    user: User
    token_version: int


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One login: the family of refresh tokens that came from it."""

    id: UUID
    created_at: datetime
    refreshed_at: datetime
    expires_at: datetime
    device: str = ""


class NewestToken(msgspec.Struct, frozen=True):
    """A session's current refresh token and its holder; ``recent``: issued within the last 10 s."""

    holder: Holder
    generation: int
    refresh_hash: bytes
    recent: bool


class StoredAddress(Address, frozen=True, kw_only=True, omit_defaults=False):
    """One postal address of an account. At most one is the default."""

    id: UUID
    is_default: bool
    created_at: datetime


def normal_email(text: str, pointer: str = "/email") -> str:
    """The form of an email address in which it is stored. Raises ``InvalidInput``.

    The whole address is folded to lower case, as all large mail providers do.
    """
    if "=?" in text:  # allowed in a local part, but mail clients would decode it (RFC 2047)
        raise invalid(pointer, "must not contain '=?'")
    try:
        found = parse_mail_address(strip_invisible(text).strip())
    except EmailNotValidError as error:
        raise invalid(pointer, str(error)) from error
    return found.normalized.lower()


def clean_name(text: str, pointer: str = "/name") -> str:
    """Normalize a name to one line.

    Raises ``InvalidInput`` for text that could break a mail header or a log, or that is bait for strangers.
    """
    name = require_line(text, pointer)
    if bait := find_bait(name):
        raise invalid(pointer, f"must be a name and must not contain {bait}")
    return name


def clean_language(text: str, pointer: str = "/language") -> str:
    """Check a language tag (RFC 5646). Mails fall back to English. Raises ``InvalidInput``."""
    if not LANGUAGE.fullmatch(text):
        raise invalid(pointer, "must be a language tag, such as en or de-AT")
    return text


def normal_password(text: str) -> str:
    """The form of a password that is hashed: NFKC, the same from every keyboard (NIST SP 800-63B-4)."""
    return unicodedata.normalize("NFKC", text)


def check_password(text: str, minimum: int, pointer: str = "/password") -> None:
    """Check length and common passwords, but no composition rules (NIST SP 800-63B-4, section 3.1.1.2).

    The length is that of the typed text in code points; the hashed form may be shorter or longer.
    """
    if not minimum <= len(text) <= PASSWORD_MAX_LENGTH:
        raise invalid(pointer, f"must have {minimum} to {PASSWORD_MAX_LENGTH} characters")
    if normal_password(text).lower() in _common_passwords():
        raise invalid(pointer, "is one of the most common passwords; choose another one")


def account_name(email: str) -> str:
    """The name of the account with this address. An invalid address is a name without account."""
    try:
        return normal_email(email)
    except InvalidInput:
        return email.lower()


@cache
def _common_passwords() -> frozenset[str]:
    text = files(__package__).joinpath("common_passwords.txt").read_text(encoding="utf-8")
    return frozenset(line for line in text.splitlines() if not line.startswith("#"))


def about(user: User, event: Event, caused_by: Cause | None = None) -> Envelope:
    """The envelope of an event about an account, in the account's language."""
    return Envelope.about(event, subject=str(user.id), language=user.language, caused_by=caused_by)


def visible(caller: Principal, user_id: str, *, to: Literal["", "staff", "admin"] = "") -> UUID:
    """Check access to an account and return its id: users reach their own, the level ``to`` reaches any.

    Raises ``NotFound`` otherwise, because foreign and missing accounts must look the same.
    """
    allowed = {"": False, "staff": caller.is_staff, "admin": caller.is_admin}[to]
    if caller.user_id != user_id.lower() and not allowed:
        raise NotFound(NO_ACCOUNT)
    return parsed_id(user_id, NO_ACCOUNT)


def parsed_id(text: str, otherwise: str) -> UUID:
    """The id in a path. Raises ``NotFound``, with the text ``otherwise``, for anything that is no id."""
    found = parse_id(text)
    if found is None:
        raise NotFound(otherwise)
    return found
