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
from purveyor.kit.errors import Conflict, RemoteFailure, TokenInvalid, Unavailable
from purveyor.kit.message import Ask, Event, Message
from purveyor.kit.role import Port
from purveyor.kit.transport import Asker

ACCESS_LEVELS = ("customer", "staff", "admin")


class EmailTaken(Conflict):
    """Somebody registered with this e-mail address before: log in instead."""

    code, title = "email-taken", "There is an account with this address"


class VerifiedToken(Message, frozen=True):
    """The answer to ``POST /verify-token``. Members beyond these are a foreign service's own, and so is ``id``."""

    active: bool = True
    sub: str | int = ""
    user_id: str | int = ""
    id: str | int = ""
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

    unfinished: bool = False
    limit: int = 50


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
        who = principal_of(await self._asker.ask(VerifyToken(token=token)), token)
        self._verified[token] = _Verified(now + self.FRESH_S, min(now + self.STALE_S, who.expires_at), who)
        if len(self._verified) > self._CACHE_SIZE:
            self._verified.popitem(last=False)
        return who

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
    if not verified.active:
        raise TokenInvalid
    if not (identity := verified.user_id or verified.id or verified.sub):
        raise RemoteFailure("The auth service does not say whose token it is.")
    return Principal(
        user_id=str(identity),
        email=verified.email,
        name=verified.name or verified.email,
        access=verified.access if verified.access in ACCESS_LEVELS else "customer",
        language=_language(token),
        expires_at=float(verified.exp or time.time() + Identity.STALE_S),
        token=token,
    )
