"""Personal data: export and erasure across all roles."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from purveyor.kit import security_log
from purveyor.kit.db.postgres import Database, Record
from purveyor.kit.deadline import request_deadline
from purveyor.kit.errors import NotFound
from purveyor.kit.events.message import Envelope
from purveyor.kit.events.outbox import emit
from purveyor.kit.events.transport import EventHandler, Undeliverable
from purveyor.kit.ids import new_id, parse_id
from purveyor.roles.auth.contract import (
    Erasure,
    ErasureAnswer,
    Erasures,
    LastAdmin,
    ListErasures,
    Principal,
    UserErased,
    UserExportRequested,
)
from purveyor.roles.auth.model import Session, StoredAddress, User, about, visible
from purveyor.roles.auth.revocations import EVERY_VERSION, end_sessions, revoke_account
from purveyor.roles.auth.sessions import Sessions
from purveyor.roles.auth.store import AccountStore, AddressStore, lock_admins, withdraw

_WAIT_S = 8.0
_POLL_S = 0.2
_MOST_WAITING = 8
"""Maximum of requests that wait for parts at a time, one per user. Waiting requests occupy the server."""
_documents = msgspec.json.Decoder(list[msgspec.Raw])


class ExportPart(msgspec.Struct, frozen=True):
    """One part of a role's personal data; ``document`` is a JSON array."""

    role: str
    part: int
    parts: int
    document: bytes


class Export(msgspec.Struct, frozen=True):
    """A request for all personal data, with the parts that have arrived."""

    id: UUID
    requested_at: datetime
    parts: Sequence[ExportPart]


class PersonalExport(msgspec.Struct, frozen=True, kw_only=True):
    """All personal data of a user that has arrived. ``documents`` of other roles are JSON as received."""

    requested_at: datetime
    complete: bool
    user: User
    addresses: Sequence[StoredAddress]
    sessions: Sequence[Session]
    documents: Mapping[str, Sequence[msgspec.Raw]]


class Privacy:
    """The use cases of personal data; ``holders`` are the other roles that hold some.

    ``committed`` is called after an event was stored and wakes the relay. Exports do not wait for other roles once
    ``stopping`` is true.
    """

    def __init__(
        self,
        store: "PersonalDataStore",
        accounts: AccountStore,
        addresses: AddressStore,
        sessions: Sessions,
        *,
        holders: Collection[str],
        committed: Callable[[], None],
        stopping: Callable[[], bool],
    ) -> None:
        self._holders = holders
        self._store = store
        self._accounts = accounts
        self._addresses = addresses
        self._sessions = sessions
        self._committed = committed
        self._stopping = stopping
        self._waiting: set[UUID] = set()

    async def erase(self, caller: Principal, user_id: str, *, cancel_open_orders: bool = False) -> None:
        """Delete an account and emit an event on which the other roles erase their part.

        Open orders are fulfilled, or cancelled where that is wished and possible.

        Users may delete their own account, admins any. Raises ``NotFound`` and ``LastAdmin``.
        """
        user = await self._accounts.get(visible(caller, user_id, to="admin"))
        event = UserErased(
            user_id=str(user.id),
            user_email=user.email,
            user_name=user.name,
            recipient_confirmed=user.email_confirmed,
            cancel_open_orders=cancel_open_orders,
        )
        await self._store.erase(user.id, about(user, event))
        self._committed()
        await self._sessions.heed_revocations()
        security_log.record("erased", subject=str(user.id), actor=caller.user_id)

    async def export(self, caller: Principal, user_id: str, wait_s: float = _WAIT_S) -> PersonalExport:
        """All personal data of a user: their own, or any as an admin.

        Other roles send their parts as events; waits up to ``wait_s`` seconds for them. A call within the next
        hour continues the same export and returns the missing parts. Raises ``NotFound``.
        """
        user = await self._accounts.get(visible(caller, user_id, to="admin"))
        export_id = new_id()
        wish = UserExportRequested(export_id=str(export_id), user_id=str(user.id), user_email=user.email)
        export = await self._store.request_export(user.id, export_id, about(user, wish))
        self._committed()
        security_log.record("export", subject=str(user.id), actor=caller.user_id)
        if user.id not in self._waiting and len(self._waiting) < _MOST_WAITING:
            self._waiting.add(user.id)
            try:
                export = await self._gathered(export, wait_s)
            finally:
                self._waiting.discard(user.id)
        with request_deadline():
            addresses = await self._addresses.all(user.id)
            sessions = await self._sessions.all(user.id)
        return PersonalExport(
            requested_at=export.requested_at,
            complete=_complete(export, self._holders),
            user=user,
            addresses=addresses,
            sessions=sessions,
            documents={role: _joined(export, role) for role in self._holders},
        )

    async def _gathered(self, export: Export, wait_s: float) -> Export:
        until = asyncio.get_running_loop().time() + wait_s
        while (
            not _complete(export, self._holders)
            and asyncio.get_running_loop().time() < until
            and not self._stopping()
        ):
            await asyncio.sleep(_POLL_S)
            with request_deadline():  # the request may take long, so each query has its own deadline
                found = await self._store.export(export.id)
            if found is None:
                raise NotFound("There is no such account.")
            export = found
        return export

    async def erasures(self, ask: ListErasures) -> Erasures:
        """Answer ``ListErasures``."""
        found = await self._store.erasures(self._holders, unfinished=ask.unfinished, limit=ask.limit)
        return Erasures(erasures=tuple(found))

    def part_from(self, role: str) -> EventHandler:
        """The handler for a role's part of an export."""

        async def keep(event: Any, _: Envelope) -> None:
            export_id, document = parse_id(event.export_id), event.document.encode()
            try:
                _documents.decode(document)
            except (msgspec.DecodeError, RecursionError) as error:
                raise Undeliverable(f"the document is no JSON array: {error}") from error
            if export_id is None or not 1 <= event.part <= event.parts:
                raise Undeliverable("there is no such part")
            await self._store.add_part(export_id, ExportPart(role, event.part, event.parts, document))

        return keep

    def erased_by(self, role: str) -> EventHandler:
        """The handler for a role's confirmation of an erasure."""

        async def record(event: Any, _: Envelope) -> None:
            user_id = parse_id(event.user_id)
            if user_id is None:
                raise Undeliverable("the user id is none")
            await self._store.erased_elsewhere(user_id, role, getattr(event, "retained", 0))

        return record


def _complete(export: Export, holders: Collection[str]) -> bool:
    """Return whether every role has sent all of its parts."""
    for role in holders:
        parts = [part for part in export.parts if part.role == role]
        if not parts or len(parts) < parts[0].parts:
            return False
    return True


def _joined(export: Export, role: str) -> list[msgspec.Raw]:
    return [one for part in export.parts if part.role == role for one in _documents.decode(part.document)]


_EXPORT = """
    select e.id, e.requested_at, p.role, p.part, p.parts, p.document
    from auth.exports e left join auth.export_parts p on p.export_id = e.id"""


class PersonalDataStore:
    """Stores exports and erasures. ``token_lifetime_s`` is the lifetime of an access token, in seconds."""

    def __init__(self, database: Database, token_lifetime_s: int) -> None:
        self._database = database
        self._token_lifetime_s = token_lifetime_s

    async def request_export(self, user_id: UUID, export_id: UUID, event: Envelope) -> Export:
        """The account's export of the last hour, or a new one with this id, for which the event is emitted.

        Raises ``NotFound``.
        """
        # The account is locked: the second of two concurrent requests finds the export of the first.
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
            await emit(connection, "auth", event)
        return Export(export_id, requested_at, ())

    async def export(self, export_id: UUID) -> Export | None:
        """An export with the parts so far."""
        rows = await self._database.fetch(f"{_EXPORT} where e.id = $1", export_id)
        return _export(rows) if rows else None

    async def add_part(self, export_id: UUID, part: ExportPart) -> None:
        """Store a part once. A part of an export that is gone is dropped."""
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
        """Delete an account, everything that references it, and waiting events about it; emit ``event``.

        Raises ``NotFound`` and ``LastAdmin``.
        """
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
            await emit(connection, "auth", event)

    async def erased_elsewhere(self, user_id: UUID, role: str, retained: int) -> None:
        """Record that a role has erased its part but for some orders. The time is that of the last progress."""
        # The number only falls, so an answer that comes late or twice changes nothing.
        await self._database.execute(
            """
            insert into auth.erasure_answers (user_id, role, retained)
            select user_id, $2, $3 from auth.erasures where user_id = $1
            on conflict (user_id, role) do update set retained = excluded.retained, erased_at = now()
            where excluded.retained < erasure_answers.retained""",
            user_id,
            role,
            retained,
        )

    async def erasures(self, roles: Collection[str], *, unfinished: bool, limit: int) -> Sequence[Erasure]:
        """The newest erasures, or only those that some of these roles have not completed."""
        rows = await self._database.fetch(
            """
            select e.user_id, e.requested_at, array_agg(a.role order by a.role) as roles,
                array_agg(a.erased_at order by a.role) as moments,
                array_agg(a.retained order by a.role) as retained
            from auth.erasures e left join auth.erased_by_role a using (user_id)
            group by e.user_id
            having not $1 or not array_agg(a.role) @> $2::text[] or sum(a.retained) > 0
            order by e.requested_at desc, e.user_id limit $3""",
            unfinished,
            list(roles),
            limit,
        )
        return [_erasure(row) for row in rows]

    async def purge(self) -> int:
        """Delete exports an hour after the request, with their parts."""
        return await self._database.purge("auth.exports", "requested_at < now() - interval '1 hour'")


def _erasure(row: Record) -> Erasure:
    answers = [
        ErasureAnswer(role=role, erased_at=at, retained=retained)
        for role, at, retained in zip(row["roles"], row["moments"], row["retained"], strict=True)
        if role
    ]
    return Erasure(user_id=str(row["user_id"]), requested_at=row["requested_at"], answers=tuple(answers))


def _export(rows: Sequence[Record]) -> Export:
    parts = [
        ExportPart(row["role"], row["part"], row["parts"], row["document"])
        for row in rows
        if row["role"] is not None
    ]
    parts.sort(key=lambda part: (part.role, part.part))
    return Export(rows[0]["id"], rows[0]["requested_at"], parts)
