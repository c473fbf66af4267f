"""The SQL of accounts and addresses, schema ``auth``."""

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from purveyor.kit.db.postgres import Connection, Database, Record
from purveyor.kit.db.rows import Rows
from purveyor.kit.errors import NotFound
from purveyor.kit.events.message import Envelope
from purveyor.kit.events.outbox import emit
from purveyor.kit.text import invalid
from purveyor.roles.auth.admission import require_mail
from purveyor.roles.auth.confirmation import ConfirmationToken, store_token
from purveyor.roles.auth.contract import EmailTaken, LastAdmin
from purveyor.roles.auth.model import StoredAddress, User, UserFilter
from purveyor.roles.auth.revocations import AGAIN, LEEWAY_S

USER_COLUMNS = """u.id, u.email, u.name, u.phone, u.language, u.access, u.created_at,
    u.email_confirmed_at is not null as email_confirmed, u.blocked_at is not null as blocked"""

# One statement, in which the version rises only when something changes.
_SET_ACCESS = f"""
    with changed as (
        update auth.users u
        set access = coalesce($2, access), updated_at = now(),
            blocked_at = case when $3 then coalesce(blocked_at, now()) when not $3 then null else blocked_at end,
            token_version = token_version
                + (access <> coalesce($2, access)
                    or (blocked_at is not null) <> coalesce($3, blocked_at is not null))::int
        where {{}} returning {USER_COLUMNS}, u.token_version
    ), ended as (
        delete from auth.sessions where user_id = (select id from changed where blocked)
    ), revoked as (
        insert into auth.revocations (id, version, expires_at)
        select id, token_version, now() + make_interval(secs => $4) from changed {AGAIN}
    )
    select * from changed"""  # noqa: S608 - constants


class AccountStore:
    """Stores accounts. ``token_lifetime_s`` is the lifetime of an access token, in seconds.

    ``get`` and changes raise ``NotFound``.
    """

    def __init__(self, database: Database, token_lifetime_s: int) -> None:
        self._database = database
        self._remember_s = token_lifetime_s + LEEWAY_S
        self._rows = Rows(database, f"select {USER_COLUMNS} from auth.users u where u.id = any($1)")  # noqa: S608

    async def add(
        self, user: User, password_hash: str, event: Envelope, token: ConfirmationToken | None = None
    ) -> None:
        """Store a new account together with its event and the token that confirms its address.

        Raises ``EmailTaken``, and ``TooManyRequests`` for one account too many of a mailbox within an hour.
        """
        try:
            async with self._database.transaction() as connection:
                await connection.execute(
                    """
                    insert into auth.users (id, email, name, phone, language, access, password_hash, created_at,
                        updated_at, email_confirmed_at)
                    values ($1, $2, $3, $4, $5, $6, $7, $8, $8, case when $9 then $8::timestamptz end)""",
                    user.id,
                    user.email,
                    user.name,
                    user.phone,
                    user.language,
                    user.access,
                    password_hash,
                    user.created_at,
                    user.email_confirmed,
                )
                if not user.email_confirmed:
                    await require_mail(connection, user.email)
                if token is not None:
                    await store_token(connection, user.id, user.email, token)
                await emit(connection, "auth", event)
        except asyncpg.UniqueViolationError as error:
            raise EmailTaken from error

    async def get(self, user_id: UUID) -> User:
        """One account as it is now. Calls that wait at the same time share a statement."""
        return user_of(await self._rows.find(user_id))

    async def list(self, wanted: UserFilter, after: UUID | None, limit: int) -> Sequence[User]:
        """The newest accounts that match, after the account ``after``."""
        # Addresses are compared byte by byte, like the index; nothing sorts after the last code point.
        rows = await self._database.fetch(
            f"""
            select {USER_COLUMNS} from auth.users u
            where ($1 = '' or (u.email ~>=~ $1 and u.email ~<~ ($1 || chr(1114111))))
                and ($2::uuid is null or u.id < $2)
                and ($4 = '' or position($4 in u.email) > 0 or position($4 in lower(u.name)) > 0)
                and ($5 = '' or u.access = $5)
            order by u.id desc limit $3""",  # noqa: S608 - our columns
            wanted.email.lower(),
            after,
            limit,
            wanted.text.lower(),
            wanted.access,
        )
        return [user_of(row) for row in rows]

    async def update(self, user_id: UUID, *, name: str | None, phone: str | None, language: str | None) -> User:
        """Change the members that are not ``None``."""
        row = await self._database.fetchrow(
            f"""
            update auth.users u set name = coalesce($2, name), phone = coalesce($3, phone),
                language = coalesce($4, language), updated_at = now()
            where u.id = $1 returning {USER_COLUMNS}""",  # noqa: S608 - our columns
            user_id,
            name,
            phone,
            language,
        )
        return user_of(row)

    async def set_access(self, email: str, access: str) -> User:
        """Change the access level, and revoke access tokens with another one."""
        row = await self._database.fetchrow(
            _SET_ACCESS.format("u.email = $1"), email, access, None, self._remember_s
        )
        return user_of(row)

    async def change_access(self, user_id: UUID, access: str | None, *, blocked: bool | None) -> User:
        """Like ``set_access``, by id; blocking also ends all sessions. ``None`` keeps a value.

        Raises ``LastAdmin`` when no admin would be left who can sign in.
        """
        # All admins are locked: two of them could otherwise demote each other.
        async with self._database.transaction() as connection:
            if await lock_admins(connection) == [user_id] and (blocked or access not in (None, "admin")):
                raise LastAdmin
            row = await connection.fetchrow(
                _SET_ACCESS.format("u.id = $1"), user_id, access, blocked, self._remember_s
            )
        return user_of(row)


async def lock_admins(connection: Connection) -> list[UUID]:
    """Lock all admins until the transaction ends; the ids of those who are not blocked."""
    rows = await connection.fetch(
        "select id, blocked_at from auth.users where access = 'admin' order by id for update"
    )
    return [row["id"] for row in rows if row["blocked_at"] is None]


def user_of(row: Record | None) -> User:
    """The account in a row with ``USER_COLUMNS``. Raises ``NotFound`` without a row."""
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
        email_confirmed=row["email_confirmed"],
        blocked=row["blocked"],
    )


MAX_ADDRESSES = 50
_ADDRESS_COLUMNS = "id, recipient, line1, line2, city, region, postal_code, country, phone, is_default, created_at"
_INSERT_ADDRESS = f"""
    insert into auth.addresses (user_id, {_ADDRESS_COLUMNS})
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) returning {_ADDRESS_COLUMNS}"""  # noqa: S608 - ours
_UPDATE_ADDRESS = f"""
    update auth.addresses set recipient = $3, line1 = $4, line2 = $5, city = $6, region = $7, postal_code = $8,
        country = $9, phone = $10, is_default = $11
    where user_id = $1 and id = $2 and $12::timestamptz is not null
    returning {_ADDRESS_COLUMNS}"""  # noqa: S608 - ours


class AddressStore:
    """Stores the addresses of accounts. Addresses of other accounts raise ``NotFound``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self, user_id: UUID) -> Sequence[StoredAddress]:
        """All addresses of an account, oldest first."""
        rows = await self._database.fetch(
            f"select {_ADDRESS_COLUMNS} from auth.addresses where user_id = $1 order by id",  # noqa: S608 - ours
            user_id,
        )
        return [StoredAddress(**row) for row in rows]

    async def get(self, user_id: UUID, address_id: UUID) -> StoredAddress:
        row = await self._database.fetchrow(
            f"select {_ADDRESS_COLUMNS} from auth.addresses where user_id = $1 and id = $2",  # noqa: S608 - ours
            user_id,
            address_id,
        )
        if row is None:
            raise NotFound("There is no such address.")
        return StoredAddress(**row)

    async def save(self, user_id: UUID, address: StoredAddress, *, new: bool) -> StoredAddress:
        """Store or replace an address. A new default replaces the previous one."""
        # The account is locked: two defaults at once would clash otherwise.
        async with self._database.transaction() as connection:
            if not await connection.fetchval("select true from auth.users where id = $1 for update", user_id):
                raise NotFound("There is no such account.")
            if new:
                count = await connection.fetchval(
                    "select count(*) from auth.addresses where user_id = $1", user_id
                )
                if count >= MAX_ADDRESSES:
                    raise invalid("", f"is one too many: an account holds at most {MAX_ADDRESSES} addresses")
            if address.is_default:
                await connection.execute(
                    "update auth.addresses set is_default = false where user_id = $1 and is_default", user_id
                )
            row = await connection.fetchrow(
                _INSERT_ADDRESS if new else _UPDATE_ADDRESS,
                user_id,
                *(getattr(address, name) for name in _ADDRESS_COLUMNS.split(", ")),
            )
            if row is None:  # rolls back, so that the previous default stays the default
                raise NotFound("There is no such address.")
        return StoredAddress(**row)

    async def remove(self, user_id: UUID, address_id: UUID) -> None:
        if not await self._database.execute(
            "delete from auth.addresses where user_id = $1 and id = $2", user_id, address_id
        ):
            raise NotFound("There is no such address.")


async def withdraw(connection: Connection, subject: str) -> None:
    """Delete the events about a subject that are still here, except those that a relay is publishing right now."""
    await connection.execute(
        """
        delete from auth.outbox where id in (
            select id from auth.outbox where subject = $1 for update skip locked
        )""",
        subject,
    )
