"""Internal notes of staff on an order. No mail, customer's page or customer's export contains them."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from purveyor.kit.clock import now
from purveyor.kit.db.postgres import Database, Record
from purveyor.kit.errors import Conflict, Forbidden, NotFound
from purveyor.kit.ids import new_id, parse_id
from purveyor.roles.auth.contract import Principal

MAX_NOTES = 200


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """A note. The author's name is empty after erasure."""

    id: str
    at: datetime
    author_id: str
    author: str
    text: str


class Notes:
    """Stores the notes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, caller: Principal, order_id: str) -> Sequence[Note]:
        """The notes on an order, oldest first. Raises ``NotFound``, ``Forbidden``."""
        found = await self._find(caller, order_id)
        rows = await self._database.fetch("select * from orders.notes where order_id = $1 order by id", found)
        return [_note(row) for row in rows]

    async def add(self, caller: Principal, order_id: str, text: str) -> Note:
        """Add a note. Raises ``NotFound``, ``Forbidden``, and ``Conflict`` when the order has too many."""
        found = await self._find(caller, order_id)
        row = await self._database.fetchrow(
            """
            insert into orders.notes (id, order_id, at, actor_id, actor_name, text)
            select $1, $2, $3, $4, $5, $6 where (select count(*) from orders.notes where order_id = $2) < $7
            returning *""",
            new_id(),
            found,
            now(),
            caller.user_id,
            caller.name,
            text,
            MAX_NOTES,
        )
        if row is None:
            raise Conflict(f"An order can have at most {MAX_NOTES} notes. Delete one first.")
        return _note(row)

    async def delete(self, caller: Principal, order_id: str, note_id: str) -> None:
        """Delete one's own note; admins delete any. Raises ``NotFound``, ``Forbidden``."""
        found = await self._find(caller, order_id)
        author = await self._database.fetchval(
            "select actor_id from orders.notes where order_id = $1 and id = $2", found, parse_id(note_id)
        )
        if author is None:
            raise NotFound("There is no such note.")
        if caller.access != "admin" and author != caller.user_id:
            raise Forbidden("Only its author or an admin may delete a note.")
        await self._database.execute("delete from orders.notes where id = $1", parse_id(note_id))

    async def _find(self, caller: Principal, order_id: str) -> UUID:
        found = parse_id(order_id)
        owner = found and await self._database.fetchval("select user_id from orders.orders where id = $1", found)
        if found is None or owner is None or (owner != caller.user_id and not caller.is_staff):
            raise NotFound("There is no such order.")
        if not caller.is_staff:
            raise Forbidden("Only staff may see notes.")
        return found


def _note(row: Record) -> Note:
    return Note(
        id=str(row["id"]),
        at=row["at"],
        author_id=row["actor_id"],
        author=row["actor_name"],
        text=row["text"],
    )
