"""What auth needs from outside: somewhere to keep accounts, sessions and what becomes of them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec

from purveyor.kit.events.message import Envelope
from purveyor.roles.auth.contract import Erasure
from purveyor.roles.auth.model import User

EVERY_VERSION = 2**31 - 1
"""In a revocation: whatever the token's version is."""


class Credentials(msgspec.Struct, frozen=True):
    """An account with what is needed to check its password."""

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


class NewestToken(msgspec.Struct, frozen=True):
    """The refresh token that a session is at, and who holds it; ``recent``: given out within the last 10 s."""

    holder: Holder
    generation: int
    refresh_hash: bytes
    recent: bool


class Revocation(msgspec.Struct, frozen=True):
    """Access tokens of a session or an account (``id`` is either's) with a version below this one do not work."""

    id: UUID
    version: int
    revoked_at: datetime
    expires_at: datetime


class StoredAddress(msgspec.Struct, frozen=True, kw_only=True):
    """One postal address of an account; at most one is the default."""

    id: UUID
    recipient: str
    line1: str
    line2: str
    city: str
    region: str
    postal_code: str
    country: str
    phone: str
    is_default: bool
    created_at: datetime


class Part(msgspec.Struct, frozen=True):
    """One of the parts in which a role sends what it holds on a person; ``document`` is a JSON array."""

    role: str
    part: int
    parts: int
    document: bytes


class Export(msgspec.Struct, frozen=True):
    """Somebody's wish for all that is held on them, with the parts that have come."""

    id: UUID
    requested_at: datetime
    parts: Sequence[Part]


class Accounts(Protocol):
    """Keeps accounts. ``get`` and changes raise ``NotFound``; ``find`` returns ``None``."""

    async def add(self, user: User, password_hash: str, event: Envelope) -> None:
        """Store a new account together with the event that tells of it. Raises ``EmailTaken``."""
        ...

    async def get(self, user_id: UUID) -> User:
        """The account with this id."""
        ...

    async def list(self, email: str, after: UUID | None, limit: int) -> Sequence[User]:
        """The newest accounts whose address begins so, ``after`` this one."""
        ...

    async def update(self, user_id: UUID, *, name: str | None, phone: str | None, language: str | None) -> User:
        """Change the members that are not ``None``."""
        ...

    async def set_access(self, email: str, access: str) -> User:
        """Change what the account may do; the access tokens that say otherwise are revoked."""
        ...

    async def change_access(self, user_id: UUID, access: str) -> User:
        """The same by id, unless nobody would be left who is an admin: raises ``LastAdmin``."""
        ...


class Addresses(Protocol):
    """Keeps the addresses of accounts; what belongs to another account is ``NotFound``."""

    async def all(self, user_id: UUID) -> Sequence[StoredAddress]:
        """Every address of the account, oldest first."""
        ...

    async def get(self, user_id: UUID, address_id: UUID) -> StoredAddress:
        """One address of the account."""
        ...

    async def save(self, user_id: UUID, address: StoredAddress, *, new: bool) -> StoredAddress:
        """Store or replace an address; a default one takes the place of the default before."""
        ...

    async def remove(self, user_id: UUID, address_id: UUID) -> None:
        """Delete one address."""
        ...


class SessionBook(Protocol):
    """Keeps sessions. What ends one revokes its access tokens in the same transaction."""

    async def find_credentials(self, email: str) -> Credentials | None:
        """The account with this address, and its password's hash."""
        ...

    async def open(
        self, session: Session, refresh_hash: bytes, known: Credentials, new_password_hash: str | None
    ) -> Holder | None:
        """Store a login; ``None`` when the password is no longer the one that was checked.

        Sessions of this account that have expired go at the same time.
        """
        ...

    async def rotate(self, session_id: UUID, generation: int, old_hash: bytes, new_hash: bytes) -> Holder | None:
        """Put a refresh token in the place of the one before it; ``None`` unless that one was the newest."""
        ...

    async def newest(self, session_id: UUID) -> NewestToken | None:
        """Where a session is that has not ended."""
        ...

    async def end(self, session_id: UUID) -> None:
        """End one session."""
        ...

    async def all(self, user_id: UUID) -> Sequence[Session]:
        """The account's sessions that have not expired, oldest first."""
        ...


class RevocationList(Protocol):
    """Keeps what was revoked for as long as the access tokens could work otherwise."""

    async def since(self, moment: datetime | None) -> Sequence[Revocation]:
        """What was revoked since shortly before this moment; everything without one."""
        ...


class PasswordBook(Protocol):
    """Keeps passwords and the tokens to reset them."""

    async def find(self, user_id: UUID) -> Credentials | None:
        """The account with its password's hash."""
        ...

    async def find_owner(self, email: str) -> User | None:
        """The account with this address."""
        ...

    async def change(self, known: Credentials, new_hash: str, kept_session: UUID) -> bool:
        """Replace a password and end all other sessions; ``False`` if it is no longer the one that was checked."""
        ...

    async def request_reset(self, user: User | None, token_hash: bytes, event: Envelope | None) -> bool:
        """Store a token and the event that carries it, unless the account has had three within the hour.

        Takes as long without a user. Whether a mail goes out.
        """
        ...

    async def can_reset(self, token_hash: bytes) -> bool:
        """Whether a token works now."""
        ...

    async def reset(self, token_hash: bytes, new_hash: str) -> User | None:
        """Use a token up: a new password, all sessions end. ``None`` when it does not work."""
        ...


class PersonalData(Protocol):
    """Keeps exports and erasures."""

    async def request_export(self, user_id: UUID, export_id: UUID, event: Envelope) -> Export:
        """The account's export of the last hour; else a new one with this id, and the event that asks for it.

        Raises ``NotFound``.
        """
        ...

    async def export(self, export_id: UUID) -> Export | None:
        """An export as it is now."""
        ...

    async def add_part(self, export_id: UUID, part: Part) -> None:
        """Keep a part; one that came before stays, and one of an export that is gone is dropped."""
        ...

    async def erase(self, user_id: UUID, event: Envelope) -> None:
        """Delete an account with all that belongs to it; the event tells of it.

        Raises ``NotFound``, and ``LastAdmin``.
        """
        ...

    async def erased_elsewhere(self, user_id: UUID, role: str) -> None:
        """Record that a role (``orders`` or ``email``) has erased its part."""
        ...

    async def erasures(self, *, unfinished: bool, limit: int) -> Sequence[Erasure]:
        """The newest erasures."""
        ...
