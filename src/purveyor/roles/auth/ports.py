"""What auth needs from outside: somewhere to keep accounts."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec

from purveyor.roles.auth.model import User


class Credentials(msgspec.Struct, frozen=True):
    """An account with what is needed to check its password."""

    user: User
    password_hash: str


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


class Accounts(Protocol):
    """Keeps accounts. ``get`` and changes raise ``NotFound``; ``find`` returns ``None``."""

    async def add(self, user: User, password_hash: str) -> None:
        """Store a new account. Raises ``EmailTaken``."""
        ...

    async def get(self, user_id: UUID) -> User:
        """The account with this id."""
        ...

    async def find_credentials(self, email: str) -> Credentials | None:
        """The account with this address, and its password's hash."""
        ...

    async def set_password_hash(self, user_id: UUID, password_hash: str) -> None:
        """Replace the hash."""
        ...

    async def set_access(self, email: str, access: str) -> User:
        """Change what the account may do."""
        ...

    async def update(self, user_id: UUID, *, name: str | None, phone: str | None, language: str | None) -> User:
        """Change the members that are not ``None``."""
        ...

    async def add_session(
        self, session_id: UUID, user_id: UUID, refresh_hash: bytes, created_at: datetime, expires_at: datetime
    ) -> None:
        """Store a login's refresh token."""
        ...

    async def addresses(self, user_id: UUID) -> Sequence[StoredAddress]:
        """Every address of the account, oldest first."""
        ...

    async def address(self, user_id: UUID, address_id: UUID) -> StoredAddress:
        """One address of the account."""
        ...

    async def save_address(self, user_id: UUID, address: StoredAddress, *, new: bool) -> StoredAddress:
        """Store or replace an address; a default one takes the place of the default before."""
        ...

    async def remove_address(self, user_id: UUID, address_id: UUID) -> None:
        """Delete one address."""
        ...
