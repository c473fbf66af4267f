"""Response bodies of role auth, and their examples."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, cast
from uuid import UUID

import msgspec
from msgspec import Meta

from purveyor.roles.auth.contract import PostalAddressView, VerifiedToken
from purveyor.roles.auth.model import PASSWORD_MAX_LENGTH, Session, StoredAddress, User
from purveyor.roles.auth.privacy import PersonalExport

Access = Literal["customer", "staff", "admin"]
Id = Annotated[str, Meta(description="UUIDv7")]
Language = Annotated[str, Meta(description="RFC 5646")]
UnixTime = Annotated[int, Meta(description="Unix time in seconds")]


NewPassword = Annotated[
    str,
    Meta(
        max_length=1000,
        description="8 to 128 characters of any kind, not one of the most common passwords",
        extra_json_schema={"minLength": 8, "maxLength": PASSWORD_MAX_LENGTH},
    ),
]


LIMIT_HEADERS = {
    "RateLimit-Policy": "Allowed attempts and time window in seconds",
    "RateLimit": "Remaining attempts and seconds until the window resets",
}


class AccountView(msgspec.Struct, kw_only=True):
    """An account."""

    id: Id
    email: str
    name: str
    phone: str
    language: Language
    access: str = msgspec.field(name="role")
    created_at: datetime


class AddressView(PostalAddressView, frozen=True, kw_only=True):
    """An address of an account."""

    id: Id
    is_default: bool


class UserView(AccountView, kw_only=True):
    """An account with its state."""

    email_confirmed: bool
    blocked: bool


class ProfileView(UserView, kw_only=True):
    """An account with its addresses."""

    addresses: list[AddressView]


class UserPage(msgspec.Struct):
    """A page of accounts, newest first."""

    users: list[UserView]
    next_cursor: str | None
    has_more: bool


class SessionView(msgspec.Struct, kw_only=True):
    """An active session."""

    id: Id
    created_at: datetime
    refreshed_at: datetime
    expires_at: datetime
    device: Annotated[str, Meta(description="Browser and system, such as Firefox on Windows; empty if unknown")]


class OwnSessionView(SessionView, kw_only=True):
    """An active session in a list."""

    current: Annotated[bool, Meta(description="Whether this request belongs to the session")]


class ExportView(msgspec.Struct, kw_only=True, omit_defaults=True):
    """All personal data of a user. ``complete`` is false while data of other roles is missing."""

    requested_at: datetime
    complete: bool
    profile: AccountView
    addresses: list[AddressView]
    sessions: list[SessionView]
    orders: Annotated[list[dict[str, Any]], Meta(description="Orders with their history")]
    mails: Annotated[list[dict[str, Any]], Meta(description="Records of the mail ledger")]
    more: Annotated[dict[str, list[dict[str, Any]]], Meta(description="Data of further roles, by role")] = {}


class VerifiedTokenView(msgspec.Struct, kw_only=True):
    """The user of an access token."""

    active: bool
    sub: Id
    user_id: Id
    email: str
    name: str
    access: str = msgspec.field(name="role")
    exp: UnixTime


class Accepted(msgspec.Struct):
    """The request was accepted."""

    detail: str


def account_view(user: User) -> AccountView:
    """The public members of an account."""
    members = _members(user)
    del members["email_confirmed"], members["blocked"]
    return AccountView(**members)


def user_view(user: User) -> UserView:
    """An account with its state."""
    return UserView(**_members(user))


def profile_view(user: User, addresses: Sequence[StoredAddress]) -> ProfileView:
    """An account with its addresses."""
    return ProfileView(**_members(user), addresses=[address_view(one) for one in addresses])


def address_view(stored: StoredAddress) -> AddressView:
    """The public members of an address."""
    members = msgspec.structs.asdict(stored)
    del members["created_at"]
    return AddressView(**{**members, "id": str(stored.id)})


def export_view(export: PersonalExport) -> ExportView:
    """An export; JSON of other roles is passed on unchanged."""
    documents = cast("dict[str, list[dict[str, Any]]]", dict(export.documents))
    return ExportView(
        requested_at=export.requested_at,
        complete=export.complete,
        profile=account_view(export.user),
        addresses=[address_view(one) for one in export.addresses],
        sessions=[_session_view(one) for one in export.sessions],
        orders=documents.pop("orders", []),
        mails=documents.pop("email", []),
        more=documents,
    )


def verified_view(token: VerifiedToken) -> VerifiedTokenView:
    """A verified token with exactly the members of the contract."""
    return VerifiedTokenView(
        active=token.active,
        sub=str(token.sub),
        user_id=str(token.user_id),
        email=token.email or "",
        name=token.name or "",
        access=token.access or "customer",
        exp=int(token.exp or 0),
    )


def own_session_view(session: Session, current: UUID) -> OwnSessionView:
    """A session in a list; ``current`` is the id of the one that asks."""
    return OwnSessionView(**_session_members(session), current=session.id == current)


def _session_view(session: Session) -> SessionView:
    return SessionView(**_session_members(session))


def _session_members(session: Session) -> dict[str, Any]:
    return {**msgspec.structs.asdict(session), "id": str(session.id)}


def _members(user: User) -> dict[str, Any]:
    return {**msgspec.structs.asdict(user), "id": str(user.id)}


_ID = "01890a5d-ac96-774b-bcce-b302099a8057"
_ADDRESS_ID = "01890a5d-b201-7c55-8d1e-0f6a2b3c4d5e"
_SESSION_ID = "01890a5e-0c3f-7aa1-9e42-6b7c8d9eaf01"
_AT = "2026-03-01T09:30:00.125Z"
_PASSWORD, _NEW_PASSWORD = "correct horse battery staple", "a whole new password"
_ACCESS_TOKEN = "eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiIwMTg5MGE1ZCJ9.c2lnbmF0dXJl"  # noqa: S105
_REFRESH_TOKEN = "AYkKXgw_eqGeQmt8jZ6vAQAAAADkB1mQpS0cVb8uYxN3rTfLwZ2kHj6aGdEoXiUvCnRqMw"  # noqa: S105
_MAILED_TOKEN = "m0Zq1w6vB3n8J5kXr2tYp9uLd4sHc7fGaEiVoWbNeQs"  # noqa: S105
REGISTER = {"email": "ada@example.com", "password": _PASSWORD, "name": "Ada Lovelace", "language": "en"}
ACCOUNT: dict[str, Any] = {
    "id": _ID,
    "email": "ada@example.com",
    "name": "Ada Lovelace",
    "phone": "",
    "language": "en",
    "role": "customer",
    "created_at": _AT,
}
CHANGE = {"phone": "+44 20 7946 0958"}
CHANGED = ACCOUNT | CHANGE
NEW_ADDRESS = {
    "recipient": "Ada Lovelace",
    "line1": "12 St James's Square",
    "city": "London",
    "postal_code": "SW1Y 4JH",
    "country": "GB",
    "is_default": True,
}
ADDRESS = {"id": _ADDRESS_ID, **NEW_ADDRESS, "line2": "", "region": "", "phone": ""}
ADDRESSES = [ADDRESS]
USER = ACCOUNT | {"email_confirmed": True, "blocked": False}
PROFILE = USER | {"addresses": [ADDRESS]}
LOGIN = {"email": "ada@example.com", "password": _PASSWORD}
PAIR = {
    "access_token": _ACCESS_TOKEN,
    "token_type": "bearer",
    "expires_in": 600,
    "refresh_token": _REFRESH_TOKEN,
}
TOKEN = {"token": _ACCESS_TOKEN}
REFRESH = {"refresh_token": _REFRESH_TOKEN}
VERIFIED = {
    "active": True,
    "sub": _ID,
    "user_id": _ID,
    "email": "ada@example.com",
    "name": "Ada Lovelace",
    "role": "customer",
    "exp": 1772357400,
}
PASSWORD = {"current_password": _PASSWORD, "new_password": _NEW_PASSWORD}
FORGOT = {"email": "ada@example.com"}
FORGOTTEN = {"detail": "If an account with this address exists, we have sent it an email."}
CONFIRM = {"token": _MAILED_TOKEN}
EMAIL = {"email": "ada@lovelace.example", "password": _PASSWORD}
EMAIL_SENT = {"detail": "We have sent an email to this address. Open the link in it to confirm the address."}
RESET = {"token": _MAILED_TOKEN, "password": _NEW_PASSWORD}
USERS = {"users": [USER], "next_cursor": _ID, "has_more": True}
ACCESS = {"role": "staff"}
EMPLOYEE = USER | ACCESS
SESSION = {
    "id": _SESSION_ID,
    "created_at": _AT,
    "refreshed_at": _AT,
    "expires_at": "2026-03-31T09:30:00.125Z",
    "device": "Firefox on Windows",
}
SESSIONS = [SESSION | {"current": True}]
EXPORT = {
    "requested_at": _AT,
    "complete": True,
    "profile": ACCOUNT,
    "addresses": [ADDRESS],
    "sessions": [SESSION],
    "orders": [{"order_number": 10001, "status": "delivered", "total_amount": 59.98}],
    "mails": [{"kind": "order.created", "order_number": 10001, "state": "sent"}],
}
PARTIAL_EXPORT = EXPORT | {"complete": False, "mails": []}
