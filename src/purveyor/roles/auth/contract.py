"""Auth's asks, events and errors for other roles. The client is ``client.Identity``."""

from datetime import datetime
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from purveyor.kit import text
from purveyor.kit.errors import (
    Conflict,
    Faults,
    FieldError,
    Forbidden,
    InvalidInput,
    NotFound,
    TokenInvalid,
    TooManyRequests,
    Unauthorized,
)
from purveyor.kit.events.message import Ask, Event, Message

_REQUIRED_LINES = ("recipient", "line1", "city", "postal_code")
_OPTIONAL_LINES = ("line2", "region")


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


class PostalAddressView(msgspec.Struct, frozen=True, kw_only=True):
    """A postal address as a client reads it."""

    recipient: str
    line1: str
    line2: str
    city: str
    region: str
    postal_code: str
    country: Annotated[str, Meta(description="ISO 3166-1 alpha-2")]
    phone: str


class AddressBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A postal address as a client sends it. ``is_default`` counts for addresses of an account only."""

    recipient: text.Line
    line1: text.Line
    city: text.Line
    postal_code: Annotated[str, Meta(min_length=1, max_length=20, extra_json_schema=text.LINE_SCHEMA)]
    country: text.Country
    line2: text.OptionalLine | None = None
    region: text.OptionalLine | None = None
    phone: text.Phone | None = None
    is_default: bool = False
    checks: ClassVar = {
        **dict.fromkeys(_REQUIRED_LINES, text.require_line),
        **dict.fromkeys(_OPTIONAL_LINES, text.clean_line),
        "country": text.clean_country,
        "phone": text.clean_phone,
    }

    def checked(self, pointer: str = "") -> Address:
        """Normalize the address. Raises ``InvalidInput``; ``pointer`` is its position in the request."""
        faults, lines = Faults(), dict[str, str]()
        for name in (*_REQUIRED_LINES, *_OPTIONAL_LINES):
            with faults:
                lines[name] = self.checks[name](getattr(self, name) or "", f"{pointer}/{name}")
        with faults:
            country = text.clean_country(self.country, f"{pointer}/country")
        with faults:
            phone = text.clean_phone(self.phone or "", f"{pointer}/phone")
        faults.raise_if_any()
        return Address(**lines, country=country, phone=phone)


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


class EmailTaken(Conflict):
    """An account with this email address already exists. Sign in instead."""

    code, title = "email-taken", "An account with this email address already exists"


class VerifiedToken(Message, frozen=True):
    """The answer to ``POST /verify-token``.

    Our own has every member but ``id``, and none is ``null``. Foreign services may add members.
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
    """Verify an access token. Raises ``TokenInvalid``."""

    reply: ClassVar = VerifiedToken
    route: ClassVar = "POST /verify-token"
    bearer: ClassVar = "token"
    idempotent: ClassVar = True
    refusals: ClassVar = dict.fromkeys((400, 401, 403, 404, 422), TokenInvalid)

    token: str


class Profile(Message, frozen=True):
    """Name, email address and language of a user. Foreign services may add members."""

    email: str | None = ""
    name: str | None = ""
    language: str | None = ""
    email_confirmed: bool | None = False


class GetProfile(Ask[Profile], frozen=True):
    """The current profile of the token's holder, or of any user for staff. Raises ``NotFound``."""

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
    """From the console: create an account with any access level. Raises ``EmailTaken``, ``InvalidInput``."""

    reply: ClassVar = Account

    email: str
    name: str
    password: str
    access: str


class SetAccess(Ask[Account], frozen=True):
    """From the console: change an account's access level. Raises ``NotFound``."""

    reply: ClassVar = Account

    email: str
    access: str


class ErasureAnswer(Message, frozen=True):
    """A role said that it has erased its part."""

    role: str
    erased_at: datetime
    retained: int = 0
    """Number of open orders that keep the data for their delivery until they are delivered or cancelled."""


class Erasure(Message, frozen=True):
    """A deleted account, and which other roles confirmed that they have erased their part."""

    user_id: str
    requested_at: datetime
    answers: tuple[ErasureAnswer, ...] = ()


class Erasures(Message, frozen=True):
    """Several erasures."""

    erasures: tuple[Erasure, ...]


class ListErasures(Ask[Erasures], frozen=True):
    """From the console: the newest erasures, or only those that some role has not confirmed."""

    reply: ClassVar = Erasures
    idempotent: ClassVar = True

    unfinished: bool = False
    limit: int = 50


class _AccountEvent(Event, frozen=True):
    """The account, and the recipient of the email about the event."""

    user_id: str
    user_email: str
    user_name: str


class _NoticeEvent(_AccountEvent, frozen=True):
    """An account event without a token that its email must contain."""

    recipient_confirmed: bool = False
    """True if the owner of ``user_email`` has confirmed it."""


class _TokenEvent(_AccountEvent, frozen=True):
    """An account event with a one-time token, which is only ever sent by email."""

    token: str
    expires_at: datetime
    recipient_confirmed: bool = False
    """True if the owner of ``user_email`` has confirmed it."""


class UserRegistered(_NoticeEvent, frozen=True):
    """An account was created."""

    type: ClassVar = "user.registered"

    confirmation_token: str = ""
    """Confirms the address, once and for 3 days. It is only ever sent by email."""


class EmailConfirmationRequested(_TokenEvent, frozen=True):
    """An address is to be confirmed: a new one of the account, or again its present one."""

    type: ClassVar = "user.email_confirmation_requested"


class EmailConfirmed(Event, frozen=True):
    """The owner of an account has confirmed its address. Emails to it no longer wait for that."""

    type: ClassVar = "user.email_confirmed"

    user_id: str
    user_email: str
    """The confirmed address, which is now the account's."""


class EmailChanged(_NoticeEvent, frozen=True):
    """The address of an account was changed. The event goes to the owner of the old one."""

    type: ClassVar = "user.email_changed"


class PasswordResetRequested(_TokenEvent, frozen=True):
    """A password reset was requested. The one-time token is only ever sent by email."""

    type: ClassVar = "user.password_reset_requested"


class PasswordChanged(_NoticeEvent, frozen=True):
    """A password was changed or reset."""

    type: ClassVar = "user.password_changed"


class UserErased(_NoticeEvent, frozen=True):
    """An account was deleted. Every role erases its personal data and confirms that with an event."""

    type: ClassVar = "user.erased"

    user_name: str = ""
    cancel_open_orders: bool = False
    """True if open orders are to be cancelled where that is possible."""


class UserExportRequested(Event, frozen=True):
    """A user requested their personal data. Every role answers with events of the same export_id."""

    type: ClassVar = "user.export_requested"

    export_id: str
    user_id: str
    user_email: str


class Principal(Message, frozen=True):
    """The user who makes a request. ``token`` is their access token, for asking auth on their behalf."""

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


class InvalidCredentials(Unauthorized):
    """The response is the same whether or not an account with this email address exists."""

    code, title = "invalid-credentials", "Incorrect email address or password"


class AccountBlocked(Forbidden):
    """The shop has blocked this account. Contact the shop."""

    code, title = "account-blocked", "This account is blocked"


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
    """Changing the password or the email address requires the current password, to protect unattended devices."""

    code, title = "wrong-password", "The current password is wrong"
    default_errors = (FieldError("/current_password", "is not the current password"),)


class ConfirmationTokenInvalid(InvalidInput):
    """The token from the email confirms an address once, for 3 days, and only until another one is sent. Request a
    new one with POST /user/{user_id}/email.
    """

    code, title = "confirmation-token-invalid", "The confirmation token is not valid"
    default_errors = (FieldError("/token", "is unknown, expired or already used"),)


class ResetTokenInvalid(InvalidInput):
    """The reset token from the email is valid once and for 30 minutes, and only until another one is used. Request
    a new one with POST /password/forgot.
    """

    code, title = "reset-token-invalid", "The password reset token is not valid"
    default_errors = (FieldError("/token", "is unknown, expired or already used"),)


class LastAdmin(Conflict):
    """The last admin cannot be removed or demoted. Make another user admin first."""

    code, title = "last-admin", "This is the last admin"
