"""Tokens that confirm an email address."""

import hashlib
import secrets
from uuid import UUID

from purveyor.kit.db.postgres import Connection

LIFETIME_DAYS = 3


class ConfirmationToken:
    """A new token, of which only the hash is stored."""

    def __init__(self) -> None:
        self.text = secrets.token_urlsafe(32)
        self.hash = hash_of(self.text)


def hash_of(token: str) -> bytes:
    """The hash by which a token is found."""
    return hashlib.sha256(token.encode()).digest()


async def store_token(connection: Connection, user_id: UUID, email: str, token: ConfirmationToken) -> None:
    """Make this token the one that confirms an address of the account."""
    await connection.execute(
        """
        insert into auth.email_confirmations (user_id, token_hash, email) values ($1, $2, $3)
        on conflict (user_id) do update
        set token_hash = excluded.token_hash, email = excluded.email, created_at = now()""",
        user_id,
        token.hash,
        email,
    )
