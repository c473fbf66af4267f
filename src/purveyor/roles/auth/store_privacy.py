"""The SQL of personal data: exports and erasures."""

from collections.abc import Sequence
from uuid import UUID

from purveyor.kit.errors import NotFound
from purveyor.kit.message import Envelope
from purveyor.kit.postgres import Database, Record
from purveyor.roles.auth.contract import Erasure
from purveyor.roles.auth.errors import LastAdmin
from purveyor.roles.auth.ports import EVERY_VERSION, Export, Part
from purveyor.roles.auth.store import lock_admins
from purveyor.roles.auth.store_outbox import emit, withdraw
from purveyor.roles.auth.store_revocations import end_sessions, revoke_account

_EXPORT = """
    select e.id, e.requested_at, p.role, p.part, p.parts, p.document
    from auth.exports e left join auth.export_parts p on p.export_id = e.id"""


class PostgresPersonalData:
    """Satisfies ``PersonalData``; ``token_lifetime_s`` is an access token's, in seconds."""

    def __init__(self, database: Database, token_lifetime_s: int) -> None:
        self._database = database
        self._token_lifetime_s = token_lifetime_s

    async def request_export(self, user_id: UUID, export_id: UUID, event: Envelope) -> Export:
        """See ``PersonalData``. The account is locked: of two requests at once the second finds the first."""
        async with self._database.transaction() as connection:
            if not await connection.fetchval(
                "select true from auth.users where id = $1 for no key update", user_id
            ):
                raise NotFound("There is no such account.")
            rows = await connection.fetch(
                f"""
                {_EXPORT}
                where e.id = (
                    select id from auth.exports where user_id = $1 and requested_at > now() - interval '1 hour'
                    order by requested_at desc limit 1
                )""",  # noqa: S608 - constants
                user_id,
            )
            if rows:
                return _export(rows)
            requested_at = await connection.fetchval(
                "insert into auth.exports (id, user_id) values ($1, $2) returning requested_at", export_id, user_id
            )
            await emit(connection, event)
        return Export(export_id, requested_at, ())

    async def export(self, export_id: UUID) -> Export | None:
        """See ``PersonalData``."""
        rows = await self._database.fetch(f"{_EXPORT} where e.id = $1", export_id)
        return _export(rows) if rows else None

    async def add_part(self, export_id: UUID, part: Part) -> None:
        """See ``PersonalData``."""
        await self._database.execute(
            """
            insert into auth.export_parts (export_id, role, part, parts, document)
            select id, $2, $3, $4, $5 from auth.exports where id = $1
            on conflict do nothing""",
            export_id,
            part.role,
            part.part,
            part.parts,
            part.document,
        )

    async def erase(self, user_id: UUID, event: Envelope) -> None:
        """See ``PersonalData``. What references the account goes with it; so do events about it that wait."""
        async with self._database.transaction() as connection:
            if await lock_admins(connection) == [user_id]:
                raise LastAdmin
            if not await connection.fetchval("select true from auth.users where id = $1 for update", user_id):
                raise NotFound("There is no such account.")
            await end_sessions(connection, user_id, self._token_lifetime_s, None)
            await revoke_account(connection, user_id, self._token_lifetime_s, EVERY_VERSION)
            await withdraw(connection, str(user_id))
            await connection.execute("delete from auth.users where id = $1", user_id)
            await connection.execute("insert into auth.erasures (user_id) values ($1)", user_id)
            await emit(connection, event)

    async def erased_elsewhere(self, user_id: UUID, role: str) -> None:
        """See ``PersonalData``. The first time counts."""
        await self._database.execute(
            """
            update auth.erasures set
                orders_erased_at = coalesce(orders_erased_at, case when $2 = 'orders' then now() end),
                mails_erased_at = coalesce(mails_erased_at, case when $2 = 'email' then now() end)
            where user_id = $1""",
            user_id,
            role,
        )

    async def erasures(self, *, unfinished: bool, limit: int) -> Sequence[Erasure]:
        """See ``PersonalData``."""
        rows = await self._database.fetch(
            """
            select user_id, requested_at, orders_erased_at, mails_erased_at from auth.erasures
            where not $1 or orders_erased_at is null or mails_erased_at is null
            order by requested_at desc, user_id limit $2""",
            unfinished,
            limit,
        )
        return [Erasure(**{**row, "user_id": str(row["user_id"])}) for row in rows]

    async def purge(self) -> int:
        """Delete exports an hour after they were asked for, with all that came for them."""
        return await self._database.purge("auth.exports", "requested_at < now() - interval '1 hour'")


def _export(rows: Sequence[Record]) -> Export:
    parts = [
        Part(row["role"], row["part"], row["parts"], row["document"]) for row in rows if row["role"] is not None
    ]
    parts.sort(key=lambda part: (part.role, part.part))
    return Export(rows[0]["id"], rows[0]["requested_at"], parts)
