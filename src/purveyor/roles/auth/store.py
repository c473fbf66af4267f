"""The SQL of role auth, schema ``auth``."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from purveyor.kit.clock import now
from purveyor.kit.errors import InvalidInput, NotFound
from purveyor.kit.postgres import Database, Record
from purveyor.roles.auth.contract import EmailTaken
from purveyor.roles.auth.model import User
from purveyor.roles.auth.ports import Credentials, StoredAddress

MAX_ADDRESSES = 50


class PostgresAccounts:
    """Satisfies ``Accounts``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, user: User, password_hash: str) -> None:
        """See ``Accounts``."""
        try:
            await self._database.execute(
                """
                insert into auth.users
                    (id, email, name, phone, language, access, password_hash, created_at, updated_at)
                values ($1, $2, $3, $4, $5, $6, $7, $8, $8)""",
                user.id,
                user.email,
                user.name,
                user.phone,
                user.language,
                user.access,
                password_hash,
                user.created_at,
            )
        except asyncpg.UniqueViolationError as error:
            raise EmailTaken from error

    async def get(self, user_id: UUID) -> User:
        """See ``Accounts``."""
        row = await self._database.fetchrow(
            "select id, email, name, phone, language, access, created_at from auth.users where id = $1",
            user_id,
        )
        return _user(row)

    async def find_credentials(self, email: str) -> Credentials | None:
        """See ``Accounts``."""
        row = await self._database.fetchrow(
            """
            select id, email, name, phone, language, access, created_at, password_hash
            from auth.users where email = $1""",
            email,
        )
        return None if row is None else Credentials(_user(row), row["password_hash"])

    async def set_password_hash(self, user_id: UUID, password_hash: str) -> None:
        """See ``Accounts``."""
        await self._database.execute(
            "update auth.users set password_hash = $2, updated_at = $3 where id = $1",
            user_id,
            password_hash,
            now(),
        )

    async def set_access(self, email: str, access: str) -> User:
        """See ``Accounts``."""
        row = await self._database.fetchrow(
            """
            update auth.users set access = $2, updated_at = $3 where email = $1
            returning id, email, name, phone, language, access, created_at""",
            email,
            access,
            now(),
        )
        return _user(row)

    async def update(self, user_id: UUID, *, name: str | None, phone: str | None, language: str | None) -> User:
        """See ``Accounts``."""
        row = await self._database.fetchrow(
            """
            update auth.users set name = coalesce($2, name), phone = coalesce($3, phone),
                language = coalesce($4, language), updated_at = $5
            where id = $1 returning id, email, name, phone, language, access, created_at""",
            user_id,
            name,
            phone,
            language,
            now(),
        )
        return _user(row)

    async def add_session(
        self, session_id: UUID, user_id: UUID, refresh_hash: bytes, created_at: datetime, expires_at: datetime
    ) -> None:
        """See ``Accounts``. Sessions of this account that have expired go at the same time."""
        await self._database.execute(
            """
            with expired as (delete from auth.sessions where user_id = $2 and expires_at < $4)
            insert into auth.sessions (id, user_id, refresh_hash, created_at, expires_at)
            values ($1, $2, $3, $4, $5)""",
            session_id,
            user_id,
            refresh_hash,
            created_at,
            expires_at,
        )

    async def addresses(self, user_id: UUID) -> Sequence[StoredAddress]:
        """See ``Accounts``."""
        rows = await self._database.fetch(
            """
            select id, recipient, line1, line2, city, region, postal_code, country, phone, is_default, created_at
            from auth.addresses where user_id = $1 order by id""",
            user_id,
        )
        return [StoredAddress(**row) for row in rows]

    async def address(self, user_id: UUID, address_id: UUID) -> StoredAddress:
        """See ``Accounts``."""
        row = await self._database.fetchrow(
            """
            select id, recipient, line1, line2, city, region, postal_code, country, phone, is_default, created_at
            from auth.addresses where user_id = $1 and id = $2""",
            user_id,
            address_id,
        )
        if row is None:
            raise NotFound("There is no such address.")
        return StoredAddress(**row)

    async def save_address(self, user_id: UUID, address: StoredAddress, *, new: bool) -> StoredAddress:
        """See ``Accounts``. The account's row is locked: two defaults at once would clash otherwise."""
        async with self._database.transaction() as connection:
            if not await connection.fetchval("select true from auth.users where id = $1 for update", user_id):
                raise NotFound("There is no such account.")
            if new:
                count = await connection.fetchval(
                    "select count(*) from auth.addresses where user_id = $1", user_id
                )
                if count >= MAX_ADDRESSES:
                    raise InvalidInput(f"An account holds at most {MAX_ADDRESSES} addresses.")
            if address.is_default:
                await connection.execute(
                    "update auth.addresses set is_default = false where user_id = $1 and is_default", user_id
                )
            row = await connection.fetchrow(
                _INSERT_ADDRESS if new else _UPDATE_ADDRESS, user_id, *_values(address)
            )
            if row is None:  # inside the transaction: the default before stays the default
                raise NotFound("There is no such address.")
        return StoredAddress(**row)

    async def remove_address(self, user_id: UUID, address_id: UUID) -> None:
        """See ``Accounts``."""
        if not await self._database.execute(
            "delete from auth.addresses where user_id = $1 and id = $2", user_id, address_id
        ):
            raise NotFound("There is no such address.")


_INSERT_ADDRESS = """
    insert into auth.addresses (user_id, id, recipient, line1, line2, city, region, postal_code, country, phone,
        is_default, created_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
    returning id, recipient, line1, line2, city, region, postal_code, country, phone, is_default, created_at"""

_UPDATE_ADDRESS = """
    update auth.addresses set recipient = $3, line1 = $4, line2 = $5, city = $6, region = $7, postal_code = $8,
        country = $9, phone = $10, is_default = $11
    where user_id = $1 and id = $2 and $12::timestamptz is not null
    returning id, recipient, line1, line2, city, region, postal_code, country, phone, is_default, created_at"""


def _values(address: StoredAddress) -> tuple[object, ...]:
    return (
        address.id,
        address.recipient,
        address.line1,
        address.line2,
        address.city,
        address.region,
        address.postal_code,
        address.country,
        address.phone,
        address.is_default,
        address.created_at,
    )


def _user(row: Record | None) -> User:
    if row is None:
        raise NotFound("There is no such account.")
    return User(
        id=row["id"],
        email=row["email"],
        name=row["name"],
        phone=row["phone"],
        language=row["language"],
        access=row["access"],
        created_at=row["created_at"],
    )
