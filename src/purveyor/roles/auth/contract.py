"""What other roles may ask of auth, and the errors that they can meet."""

import base64
import time
from collections import OrderedDict
from contextlib import suppress
from datetime import datetime
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from purveyor.kit import text
from purveyor.kit.errors import (
    Conflict,
    FieldError,
    InvalidInput,
    NotFound,
    RemoteFailure,
    TokenInvalid,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)
from purveyor.kit.events.message import Ask, Event, Message
from purveyor.kit.events.transport import Asker
from purveyor.kit.role import Port


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

    recipient: text.Line
    line1: text.Line
    city: text.Line
    postal_code: Annotated[str, Meta(min_length=1, max_length=20, extra_json_schema=text.LINE_SCHEMA)]
    country: text.Country
    line2: text.OptionalLine | None = None
    region: text.OptionalLine | None = None
    phone: text.Phone | None = None

    def checked(self, pointer: str = "") -> Address:
        """The address, cleaned. Raises ``InvalidInput``; ``pointer`` is where it stands in the request."""
        lines = {
            name: text.clean_line(getattr(self, name) or "", f"{pointer}/{name}")
            for name in ("recipient", "line1", "line2", "city", "region", "postal_code")
        }
        for name in ("recipient", "line1", "city", "postal_code"):
            if not lines[name]:
                raise text.invalid(f"{pointer}/{name}", "must not be empty")
        country = text.clean_country(self.country, f"{pointer}/country")
        return Address(**lines, country=country, phone=text.clean_phone(self.phone or "", f"{pointer}/phone"))


class GetAddress(Ask[Address], frozen=True):
    """One address of the token's holder. Raises ``NotFound``."""

    reply: ClassVar = Address
    route: ClassVar = "GET /user/{user_id}/addresses/{address_id}"
    bearer: ClassVar = "token"
    idempotent: ClassVar = True
    refusals: ClassVar = {401: TokenInvalid, 403: NotFound, 404: NotFound}

    user_id: str
    address_id: str
    token: str


ACCESS_LEVELS = ("customer", "staff", "admin")
_CLOCKS_DIFFER_S = 30
_LONGEST = 320  # an address of mail: 64 + 1 + 255 characters (RFC 3696)


class EmailTaken(Conflict):
    """An account with this email address already exists. Sign in instead."""

    code, title = "email-taken", "An account with this email address already exists"


class VerifiedToken(Message, frozen=True):
    """The answer to ``POST /verify-token``. Ours has every member but ``id``, and never ``null``; members beyond
    these are a foreign service's own.
    """

    active: bool = True
    sub: str | int | None = ""
    user_id: str | int | None = ""
    id: str | int | None = ""
    email: str | None = ""
    name: str | None = ""
    access: str | None = msgspec.field(default="customer", name="role")
    exp: int | float | None = 0


class VerifyToken(Ask[VerifiedToken], frozen=True):
    """Whose token is this? Raises ``TokenInvalid``."""

    reply: ClassVar = VerifiedToken
    route: ClassVar = "POST /verify-token"
    bearer: ClassVar = "token"
    idempotent: ClassVar = True
    refusals: ClassVar = dict.fromkeys((400, 401, 403, 404, 422), TokenInvalid)

    token: str


class Profile(Message, frozen=True):
    """Who somebody is. Members beyond these are a foreign service's own."""

    email: str | None = ""
    name: str | None = ""


class GetProfile(Ask[Profile], frozen=True):
    """The profile of the token's holder, where the answer to ``VerifyToken`` has none. Raises ``NotFound``."""

    reply: ClassVar = Profile
    route: ClassVar = "GET /user/{user_id}"
    bearer: ClassVar = "token"
    idempotent: ClassVar = True
    refusals: ClassVar = {401: TokenInvalid, 403: NotFound, 404: NotFound}

    user_id: str
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


class Erasure(Message, frozen=True):
    """An account that was deleted, and when each other role said that it has erased its part."""

    user_id: str
    requested_at: datetime
    orders_erased_at: datetime | None
    mails_erased_at: datetime | None


class Erasures(Message, frozen=True):
    """Several erasures."""

    erasures: tuple[Erasure, ...]


class ListErasures(Ask[Erasures], frozen=True):
    """From the console: the newest erasures, or only those that a role has not completed yet."""

    reply: ClassVar = Erasures
    idempotent: ClassVar = True

    unfinished: bool = False
    limit: int = 50


class UserRegistered(Event, frozen=True):
    """An account was created."""

    type: ClassVar = "user.registered"

    user_id: str
    user_email: str
    user_name: str


class PasswordResetRequested(Event, frozen=True):
    """A password reset was requested. The one-time token is only ever sent by email."""

    type: ClassVar = "user.password_reset_requested"

    user_id: str
    user_email: str
    user_name: str
    token: str
    expires_at: datetime


class UserErased(Event, frozen=True):
    """An account was deleted. Every role erases its personal data and confirms that with an event."""

    type: ClassVar = "user.erased"

    user_id: str
    user_email: str


class UserExportRequested(Event, frozen=True):
    """A user requested their personal data. Every role answers with events of the same export_id."""

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
    setting = "AUTH_SERVICE"
    asks = (VerifyToken, GetProfile, GetAddress)

    FRESH_S: ClassVar = 3.0
    """How long an answer counts; auth itself hears of a revocation within a second, which makes less than 5 s."""
    STALE_S: ClassVar = 30.0
    """How long an answer still counts while auth is away."""
    _RETRY_S: ClassVar = 1.0
    _CACHE_SIZE: ClassVar = 10_000

    def __init__(self, asker: Asker) -> None:
        super().__init__(asker)
        self._verified: OrderedDict[str, _Verified] = OrderedDict()

    async def verify(self, token: str) -> Principal:
        """The holder of an access token. Raises as ``principal_of``, and ``Unavailable`` while auth is away."""
        now, known = time.time(), self._verified.get(token)
        if known is None or now >= known.stale_until:
            return await self._ask(token, now)
        if now < known.fresh_until:
            return known.principal
        try:
            return await self._ask(token, now)
        except Unavailable:  # a moment's peace for whoever is down, and for callers, who would wait each time
            self._verified[token] = msgspec.structs.replace(known, fresh_until=time.time() + self._RETRY_S)
            return known.principal
        except TokenInvalid:
            self._verified.pop(token, None)
            raise

    async def _ask(self, token: str, now: float) -> Principal:
        """``now`` is when the question began: what is answered may have been true only then."""
        verified = await self._asker.ask(VerifyToken(token=token))
        who = principal_of(verified, token)
        if not who.email:
            who = await self._introduced(who)
        self._verified[token] = _Verified(now + self.FRESH_S, min(now + self.STALE_S, who.expires_at), who)
        if len(self._verified) > self._CACHE_SIZE:
            self._verified.popitem(last=False)
        return who

    async def _introduced(self, who: Principal) -> Principal:
        """Somebody of whom a foreign service said no more than the id when it was shown the token."""
        try:
            profile = await self._asker.ask(GetProfile(user_id=who.user_id, token=who.token))
        except NotFound:
            profile = Profile()
        if not profile.email:
            raise RemoteFailure(
                "The auth service returned no email address for the token's user. Check AUTH_SERVICE."
            )
        name = _foreign(profile.name or who.name or profile.email)
        return msgspec.structs.replace(who, email=_foreign(profile.email), name=name)

    async def address(self, principal: Principal, address_id: str) -> Address:
        """One of the principal's own addresses. Raises ``NotFound``."""
        ask = GetAddress(user_id=principal.user_id, address_id=address_id, token=principal.token)
        return await self._asker.ask(ask)


def _language(token: str) -> str:
    """The holder's language: a claim of our tokens, read without checking, for auth has vouched for the token."""
    with suppress(IndexError, ValueError, UnicodeDecodeError, msgspec.MsgspecError):
        claims = base64.urlsafe_b64decode(token.split(".")[1] + "==")  # padding in excess does no harm
        return msgspec.json.decode(claims, type=_Claims).language
    return ""


class _Claims(msgspec.Struct):
    language: str = ""


class _Verified(msgspec.Struct, frozen=True):
    fresh_until: float
    stale_until: float
    principal: Principal


def principal_of(verified: VerifiedToken, token: str) -> Principal:
    """Whom auth vouches for. Raises ``TokenInvalid`` for nobody, ``RemoteFailure`` if it does not say for whom."""
    if not verified.active or (verified.exp and verified.exp + _CLOCKS_DIFFER_S <= time.time()):
        raise TokenInvalid
    if not (identity := verified.user_id or verified.id or verified.sub):
        raise RemoteFailure("The auth service returned no user ID for the token. Check AUTH_SERVICE.")
    email = _foreign(verified.email or "")
    return Principal(
        user_id=_foreign(str(identity)),
        email=email,
        name=_foreign(verified.name or email),
        access=verified.access if verified.access in ACCESS_LEVELS else "customer",
        language=_language(token),
        expires_at=float(verified.exp or time.time() + Identity.STALE_S),
        token=token,
    )


def _foreign(text: str) -> str:
    """A text of another service's that can be stored. Raises ``RemoteFailure``."""
    if len(text) > _LONGEST or "\x00" in text:
        raise RemoteFailure("The auth service returned invalid data about the token's user. Check AUTH_SERVICE.")
    return text


class AccountAdmin(Port):
    """Accounts as the operator sees them."""

    role = "auth"
    setting = "AUTH_SERVICE"
    asks = (OpenAccount, SetAccess, ListErasures)

    async def open(self, *, email: str, name: str, password: str, access: str) -> Account:
        """See ``OpenAccount``."""
        return await self._asker.ask(OpenAccount(email=email, name=name, password=password, access=access))

    async def set_access(self, email: str, access: str) -> Account:
        """See ``SetAccess``."""
        return await self._asker.ask(SetAccess(email=email, access=access))

    async def erasures(self, *, unfinished: bool, limit: int) -> tuple[Erasure, ...]:
        """See ``ListErasures``."""
        return (await self._asker.ask(ListErasures(unfinished=unfinished, limit=limit))).erasures


class InvalidCredentials(Unauthorized):
    """The response is the same whether or not an account with this email address exists."""

    code, title = "invalid-credentials", "Incorrect email address or password"


class TooManyLogins(TooManyRequests):
    """Sign-in attempts are limited per account and per network address. After many wrong passwords the delay
    doubles with each attempt, up to 15 minutes. Try again after the number of seconds in Retry-After.
    """

    code, title = "too-many-logins", "Too many sign-in attempts"


class RefreshTokenInvalid(Unauthorized):
    """The refresh token is unknown, expired, revoked or was already used. A reused token may have been stolen, so
    it ends the whole session. Sign in again.
    """

    code, title = "refresh-token-invalid", "The refresh token is not valid"


class WrongPassword(InvalidInput):
    """Changing the password requires the current one, to protect devices left unattended."""

    code, title = "wrong-password", "The current password is wrong"
    default_errors = (FieldError("/current_password", "is not the current password"),)


class ResetTokenInvalid(InvalidInput):
    """The reset token from the email is valid once and for 30 minutes, and only until another one is used. Request
    a new one with POST /password/forgot.
    """

    code, title = "reset-token-invalid", "The password reset token is not valid"
    default_errors = (FieldError("/token", "is unknown, expired or already used"),)


class LastAdmin(Conflict):
    """The last admin cannot be removed or demoted. Make another user admin first."""

    code, title = "last-admin", "This is the last admin"
