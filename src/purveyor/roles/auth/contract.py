"""What other roles may ask of auth, and the errors that they can meet."""

import base64
import time
from collections import OrderedDict
from contextlib import suppress
from datetime import datetime
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from purveyor.kit.errors import Conflict, TooManyRequests, Unauthorized
from purveyor.kit.message import Ask, Event, Message
from purveyor.kit.role import Port
from purveyor.kit.text import clean_country, clean_line, clean_phone, invalid
from purveyor.kit.transport import Asker

ACCESS_LEVELS = ("customer", "staff", "admin")


class EmailTaken(Conflict):
    """Somebody registered with this e-mail address before: log in instead."""

    code, title = "email-taken", "There is an account with this address"


class InvalidCredentials(Unauthorized):
    """The answer is the same whether or not there is an account with this address."""

    code, title = "invalid-credentials", "The e-mail address or the password is wrong"


class TooManyLogins(TooManyRequests):
    """Attempts are limited per account and per network address. Retry-After says when to try again."""

    code, title = "too-many-logins", "Too many attempts to log in"


class VerifiedToken(Message, frozen=True):
    """The answer to ``POST /verify-token``. Members beyond these are a foreign service's own."""

    active: bool = True
    sub: str | int = ""
    user_id: str | int = ""
    id: str | int = ""
    """Only foreign services answer with this one."""
    email: str = ""
    name: str = ""
    access: str = msgspec.field(default="customer", name="role")
    exp: int = 0


class VerifyToken(Ask[VerifiedToken], frozen=True):
    """Whose token is this? Raises ``TokenInvalid``."""

    reply: ClassVar = VerifiedToken
    route: ClassVar = "POST /verify-token"
    bearer: ClassVar = "token"
    idempotent: ClassVar = True

    token: str


class Address(Message, frozen=True, omit_defaults=True):
    """A postal address; ``country`` is an ISO 3166-1 alpha-2 code."""

    recipient: str
    line1: str
    city: str
    postal_code: str
    country: str
    line2: str = ""
    region: str = ""
    phone: str = ""


class PostalAddress(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A postal address as a client sends it."""

    recipient: Annotated[str, Meta(min_length=1, max_length=200)]
    line1: Annotated[str, Meta(min_length=1, max_length=200)]
    city: Annotated[str, Meta(min_length=1, max_length=200)]
    postal_code: Annotated[str, Meta(min_length=1, max_length=20)]
    country: Annotated[str, Meta(min_length=2, max_length=2, description="ISO 3166-1 alpha-2")]
    line2: Annotated[str, Meta(max_length=200)] | None = None
    region: Annotated[str, Meta(max_length=200)] | None = None
    phone: Annotated[str, Meta(max_length=40)] | None = None

    def checked(self, pointer: str = "") -> Address:
        """The address, cleaned. Raises ``InvalidInput``; ``pointer`` is where it stands in the request."""
        lines = {
            name: clean_line(getattr(self, name) or "", f"{pointer}/{name}")
            for name in ("recipient", "line1", "line2", "city", "region", "postal_code")
        }
        for name in ("recipient", "line1", "city", "postal_code"):
            if not lines[name]:
                raise invalid(f"{pointer}/{name}", "must not be empty")
        country = clean_country(self.country, f"{pointer}/country")
        return Address(**lines, country=country, phone=clean_phone(self.phone or "", f"{pointer}/phone"))


class GetAddress(Ask[Address], frozen=True):
    """One address of the token's holder. Raises ``NotFound``."""

    reply: ClassVar = Address
    route: ClassVar = "GET /user/{user_id}/addresses/{address_id}"
    bearer: ClassVar = "token"
    idempotent: ClassVar = True

    user_id: str
    address_id: str
    token: str


class Account(Message, frozen=True):
    """An account as the console shows it."""

    id: str
    email: str
    name: str
    access: str


class OpenAccount(Ask[Account], frozen=True):
    """From the console: a new account with any level of access. Raises ``EmailTaken``, ``InvalidInput``."""

    reply: ClassVar = Account

    email: str
    name: str
    password: str
    access: str


class SetAccess(Ask[Account], frozen=True):
    """From the console: make somebody customer, staff or admin. Raises ``NotFound``."""

    reply: ClassVar = Account

    email: str
    access: str


class UserRegistered(Event, frozen=True):
    """Somebody has opened an account."""

    type: ClassVar = "user.registered"

    user_id: str
    user_email: str
    user_name: str


class PasswordResetRequested(Event, frozen=True):
    """Somebody has forgotten their password: the token, good for one use, goes out by mail and no other way."""

    type: ClassVar = "user.password_reset_requested"

    user_id: str
    user_email: str
    user_name: str
    token: str
    expires_at: datetime


class UserErased(Event, frozen=True):
    """An account was deleted: every role erases what it holds on the person and says so by an event."""

    type: ClassVar = "user.erased"

    user_id: str
    user_email: str


class UserExportRequested(Event, frozen=True):
    """A person wants all that is held on them: every role answers with events that carry the ``export_id``."""

    type: ClassVar = "user.export_requested"

    export_id: str
    user_id: str
    user_email: str


class Principal(Message, frozen=True):
    """Who makes a request. ``token`` is what they came with, to ask auth on their behalf."""

    user_id: str
    email: str
    name: str
    access: str
    language: str
    expires_at: float
    """Unix time in seconds."""
    token: str

    @property
    def is_staff(self) -> bool:
        """Staff and admins."""
        return self.access in ("staff", "admin")

    @property
    def is_admin(self) -> bool:
        """Admins only."""
        return self.access == "admin"


class Identity(Port):
    """Who is it? What auth offers to the other roles."""

    role = "auth"
    service = "auth_service"
    asks = (VerifyToken, GetAddress)

    CACHE_S: ClassVar = 30.0
    """How long a verified token is trusted without asking again: the longest a revoked one works."""
    _CACHE_SIZE: ClassVar = 10_000

    def __init__(self, asker: Asker) -> None:
        super().__init__(asker)
        self._verified: OrderedDict[str, tuple[float, Principal]] = OrderedDict()

    async def verify(self, token: str) -> Principal:
        """The holder of an access token. Raises ``TokenInvalid``, or ``Unavailable`` when auth is away."""
        now = time.time()
        if (known := self._verified.get(token)) is not None:
            until, principal = known
            if now < until:
                return principal
            del self._verified[token]
        principal = _principal(await self._asker.ask(VerifyToken(token=token)), token)
        self._verified[token] = (min(now + self.CACHE_S, principal.expires_at), principal)
        if len(self._verified) > self._CACHE_SIZE:
            self._verified.popitem(last=False)
        return principal

    async def address(self, principal: Principal, address_id: str) -> Address:
        """One of the principal's own addresses. Raises ``NotFound``."""
        ask = GetAddress(user_id=principal.user_id, address_id=address_id, token=principal.token)
        return await self._asker.ask(ask)


def _language(token: str) -> str:
    """The holder's language: a claim of our tokens, read without checking, for auth has vouched for the token."""
    with suppress(IndexError, ValueError, UnicodeDecodeError, msgspec.MsgspecError):
        claims = token.split(".")[1]
        text = base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4))
        return msgspec.json.decode(text, type=_Claims).language
    return ""


class _Claims(msgspec.Struct):
    language: str = ""


def _principal(verified: VerifiedToken, token: str) -> Principal:
    return Principal(
        user_id=str(verified.user_id or verified.id or verified.sub),
        email=verified.email,
        name=verified.name or verified.email,
        access=verified.access if verified.access in ACCESS_LEVELS else "customer",
        language=_language(token),
        expires_at=float(verified.exp or time.time() + Identity.CACHE_S),
        token=token,
    )
