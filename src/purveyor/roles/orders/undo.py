"""Undo a change whose events are still held back, and correct an order later.

A change with ``hold_mail_s`` writes its events to the outbox with a time before which no relay publishes them. An
undo deletes them in the transaction that restores the order, so that an event is either published or undone.
"""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import msgspec

from purveyor.kit import log
from purveyor.kit.clock import now
from purveyor.kit.db.postgres import Connection, Database
from purveyor.kit.errors import Conflict, Forbidden, NotFound
from purveyor.kit.ids import parse_id
from purveyor.roles.auth.contract import Principal
from purveyor.roles.orders.contract import IllegalTransition, PreconditionRequired, UndoOver
from purveyor.roles.orders.etag import IfMatch
from purveyor.roles.orders.model import ChangedBy, Order, StoredOrder, Transition
from purveyor.roles.orders.store import OrderStore

MAX_HOLD_S = 300

# The relay locks the events that it publishes. A locked event, or one whose time has come, cannot be taken back.
_TAKE_BACK = """
with taken as (
    select id from orders.outbox where subject = $1::text and sequence = $2
        and published_at is null and attempts = 0 and next_attempt_at > clock_timestamp()
    for update skip locked
), gone as (
    delete from orders.outbox where id in (select id from taken) returning id
)
select (select count(*) from gone)
    = (select count(*) from orders.outbox where subject = $1::text and sequence = $2)"""
_RESTORE = """
with undone as (
    delete from orders.undoable where order_id = $1 returning status, payment_status
), restored as (
    update orders.orders o set status = u.status, payment_status = u.payment_status, version = version + 1,
        updated_at = $2, entries = entries + 1
    from undone u where o.id = $1
    returning o.entries
)
insert into orders.history (order_id, id, at, what, actor, actor_id, actor_name, request_id)
select $1, entries, $2, 'undone', $3, $4, $5, $6 from restored"""

_HELD = """
select u.status, u.payment_status from orders.orders o join orders.undoable u on u.order_id = o.id
where o.id = $1 and o.version = $2 and u.version = o.version and u.until > clock_timestamp()
for update of o"""


class Undo:
    """Undo and correct changes. ``committed`` is called with the id of each changed order."""

    def __init__(self, database: Database, store: OrderStore, *, committed: Callable[[UUID], None]) -> None:
        self._database = database
        self._store = store
        self._committed = committed

    async def undo(self, caller: Principal, order_id: str, condition: IfMatch | None) -> StoredOrder:
        """Undo the last change of an order, as staff. No event about the change is ever published.

        Raises ``NotFound``, ``Forbidden``, ``PreconditionRequired``, ``PreconditionFailed`` and ``UndoOver``.
        """
        found = await self._find(caller, order_id)
        if condition is None:
            raise PreconditionRequired
        async with self._database.transaction() as connection:
            await undo(connection, found, staff(caller), condition)
            restored = await self._store.find(found, None, connection)
        self._committed(found)
        return restored

    async def correct(
        self, caller: Principal, order_id: str, correction: "Correction", condition: IfMatch | None
    ) -> StoredOrder:
        """Set an order to any status, as an admin. The history records why; no mail is sent.

        Events of the change before that are still held back are deleted if the correction takes that change back.

        Raises ``NotFound``, ``Forbidden``, ``PreconditionRequired``, ``PreconditionFailed``, ``IllegalTransition``
        where nothing would change, and ``Conflict``.
        """
        found = await self._find(caller, order_id)
        if caller.access != "admin":
            raise Forbidden("Only an admin may correct an order.")
        if condition is None:
            raise PreconditionRequired
        stored = await self._store.find(found, None)
        condition.require(stored.order.version)
        transition = _corrected(stored, correction, staff(caller), now())
        async with self._database.transaction() as connection:
            await _drop_held(connection, stored.order, transition.order)
            if not await self._store.change(transition, connection):
                raise Conflict("The order was changed by others at the same time. Try again.")
        self._committed(found)
        return msgspec.structs.replace(stored, order=transition.order, undo_until=None)

    async def purge(self) -> None:
        """Forget what can no longer be undone."""
        await self._database.purge("orders.undoable", "until < now()")

    async def _find(self, caller: Principal, order_id: str) -> UUID:
        found = parse_id(order_id)
        if found is None:
            raise NotFound("There is no such order.")
        await self._store.get(found, None if caller.is_staff else caller.user_id)
        if not caller.is_staff:
            raise Forbidden("Only staff may undo or correct a change.")
        return found


class Correction(msgspec.Struct, frozen=True, kw_only=True):
    """Corrected status of an order; ``None`` keeps a status."""

    status: str | None
    payment_status: str | None
    reason: str


def staff(caller: Principal) -> ChangedBy:
    """A member of staff as the one who changes an order."""
    return ChangedBy("staff", caller.user_id, caller.name)


async def undo(connection: Connection, order_id: UUID, by: ChangedBy, condition: IfMatch) -> None:
    """Undo the last change of an order in the given transaction. Raises as ``Undo.undo``."""
    row = await connection.fetchrow(
        """
        select o.version, u.version is not distinct from o.version and u.until > clock_timestamp() as undoable
        from orders.orders o left join orders.undoable u on u.order_id = o.id
        where o.id = $1 for update of o""",
        order_id,
    )
    if row is None:
        raise NotFound("There is no such order.")
    condition.require(row["version"])
    if not row["undoable"] or not await connection.fetchval(_TAKE_BACK, str(order_id), row["version"]):
        raise UndoOver
    await connection.execute(_RESTORE, order_id, now(), by.kind, by.id, by.name, log.request_id.get())


async def _drop_held(connection: Connection, order: Order, corrected: Order) -> None:
    """Delete the held events of the order's last change, as an undo does, if the correction takes it back.

    Raises ``Conflict`` while they are being published.
    """
    before = await connection.fetchrow(_HELD, order.id, order.version)
    if before is None:
        return
    changed = [member for member in ("status", "payment_status") if getattr(order, member) != before[member]]
    if any(getattr(order, member) == getattr(corrected, member) for member in changed):
        return
    if not await connection.fetchval(_TAKE_BACK, str(order.id), order.version):
        raise Conflict("The email about the last change is being sent right now. Try again.")


def _corrected(stored: StoredOrder, correction: Correction, by: ChangedBy, at: datetime) -> Transition:
    order = stored.order
    corrected = msgspec.structs.replace(
        order,
        status=correction.status or order.status,
        payment_status=correction.payment_status or order.payment_status,
        version=order.version + 1,
        updated_at=at,
    )
    pairs = ((order.status, corrected.status), (order.payment_status, corrected.payment_status))
    changes = [f"{before} to {after}" for before, after in pairs if before != after]
    if not changes:
        raise IllegalTransition(f"The order is already {order.status} and {order.payment_status}.")
    return Transition(
        order=corrected,
        was=order.version,
        entries=("corrected",),
        by=by,
        reason=f"{', '.join(changes)}: {correction.reason}",
        request_id=log.request_id.get(),
        event=None,
    )
