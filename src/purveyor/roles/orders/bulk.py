"""One action on many orders, as a job that survives the process.

An item is settled in the transaction that changes its order. A job therefore continues where it stopped, and no
order is changed twice, whichever processes work on it.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

import msgspec

from purveyor.kit import log
from purveyor.kit.clock import now
from purveyor.kit.db.postgres import Database, Record
from purveyor.kit.errors import Forbidden, NotFound, Problem, Unavailable
from purveyor.kit.ids import new_id, parse_id
from purveyor.kit.poll import MORE, Poll
from purveyor.roles.auth.client import Identity
from purveyor.roles.auth.contract import Principal
from purveyor.roles.orders.etag import IfMatch
from purveyor.roles.orders.model import ChangedBy, StoredOrder
from purveyor.roles.orders.service import OrderChange, transition_of, with_profile
from purveyor.roles.orders.store import OrderStore
from purveyor.roles.orders.undo import undo

Action = Literal["confirm", "ship", "deliver", "undo"]
MAX_ORDERS = 500
_BECOMES = {"confirm": "confirmed", "ship": "shipped", "deliver": "delivered"}
_ANY = IfMatch(None)
_TRIES = 5
_STARTERS = 100
_BATCH = 20
_POLL_S = 2.0
_KEEP = timedelta(days=7)

_log = logging.getLogger(__name__)


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One order of a job: ``waiting``, ``done``, ``unchanged`` (it was so already) or ``failed``."""

    order_id: str
    order_number: int | None
    state: str
    detail: str


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job with its results so far."""

    id: str
    action: str
    created_at: datetime
    items: Sequence[Item]


class _Work(msgspec.Struct, frozen=True, kw_only=True):
    """An item to work on, with what its job says."""

    job_id: UUID
    place: int
    order_id: UUID
    action: str
    hold_mail_s: int
    by: ChangedBy
    request_id: str


class _TakenByAnother(Exception):
    """Another process settled the item, or the order was changed in between."""


class BulkJobs:
    """Start, read and work on jobs. ``committed`` is called with the id of each changed order."""

    def __init__(
        self, database: Database, store: OrderStore, identity: Identity, *, committed: Callable[[UUID], None]
    ) -> None:
        self._database = database
        self._store = store
        self._identity = identity
        self._committed = committed
        self._starters: OrderedDict[UUID, Principal] = OrderedDict()
        """Users who started the latest jobs here. Their tokens serve to read the buyers' current profiles."""
        self._poll = Poll(_POLL_S)

    async def start(self, caller: Principal, action: Action, order_ids: Sequence[UUID], hold_mail_s: int) -> Job:
        """Store a job; the work begins at once. Raises ``Forbidden``."""
        _require_staff(caller)
        job_id = new_id()
        await self._database.execute(
            """
            with job as (
                insert into orders.bulk_jobs
                    (id, action, hold_mail_s, actor_id, actor_name, request_id, created_at)
                values ($1, $2, $3, $4, $5, $6, $7)
                returning id
            )
            insert into orders.bulk_items (job_id, place, order_id)
            select job.id, item.place, item.order_id
            from job, unnest($8::uuid[]) with ordinality as item (order_id, place)""",
            job_id,
            action,
            hold_mail_s,
            caller.user_id,
            caller.name,
            log.request_id.get(),
            now(),
            list(order_ids),
        )
        self._starters[job_id] = caller
        if len(self._starters) > _STARTERS:
            self._starters.popitem(last=False)
        self._poll.wake()
        return await self.read(caller, str(job_id))

    async def read(self, caller: Principal, job_id: str) -> Job:
        """A job with its results. Raises ``NotFound``, ``Forbidden``."""
        _require_staff(caller)
        rows = await self._database.fetch(
            """
            select j.id, j.action, j.created_at, i.order_id, o.number, i.state, i.detail
            from orders.bulk_jobs j join orders.bulk_items i on i.job_id = j.id
            left join orders.orders o on o.id = i.order_id
            where j.id = $1 order by i.place""",
            parse_id(job_id),
        )
        if not rows:
            raise NotFound("There is no such job.")
        items = [
            Item(
                order_id=str(row["order_id"]),
                order_number=row["number"],
                state=row["state"],
                detail=row["detail"],
            )
            for row in rows
        ]
        return Job(id=str(rows[0]["id"]), action=rows[0]["action"], created_at=rows[0]["created_at"], items=items)

    async def resume(self, caller: Principal, job_id: str) -> Job:
        """Try the failed orders of a job again. Raises ``NotFound``, ``Forbidden``."""
        await self.read(caller, job_id)
        await self._database.execute(
            "update orders.bulk_items set state = 'waiting', detail = '' where job_id = $1 and state = 'failed'",
            parse_id(job_id),
        )
        self._poll.wake()
        return await self.read(caller, job_id)

    async def run(self) -> None:
        """Work on jobs until cancelled."""
        await self._poll.run(self._work)

    async def purge(self) -> None:
        """Forget old jobs."""
        await self._database.purge("orders.bulk_jobs", "created_at < $1", now() - _KEEP)

    async def _work(self) -> float | None:
        try:
            items = await self._waiting()
            for item in items:
                await self._settle(item)
        except Unavailable as away:
            _log.warning("bulk jobs wait", extra={"reason": away.detail})
            return None
        return MORE if items else None

    async def _waiting(self) -> Sequence[_Work]:
        rows = await self._database.fetch(
            f"""
            select i.job_id, i.place, i.order_id, j.action, j.hold_mail_s, j.actor_id, j.actor_name, j.request_id
            from orders.bulk_items i join orders.bulk_jobs j on j.id = i.job_id
            where i.state = 'waiting' order by i.job_id, i.place limit {_BATCH}"""  # noqa: S608 - our own number
        )
        return [_item(row) for row in rows]

    async def _settle(self, item: _Work) -> None:
        token = log.request_id.set(item.request_id)
        try:
            for _ in range(_TRIES):
                try:
                    return await self._attempt(item)
                except _TakenByAnother:
                    continue
                except Unavailable:
                    raise
                except Problem as problem:
                    return await self._note(item, "failed", problem.detail)
                except Exception:  # one order must not keep the others waiting
                    _log.exception("a bulk job failed for an order", extra={"order_id": str(item.order_id)})
                    return await self._note(item, "failed", "Internal error. The log of the server says more.")
            await self._note(item, "failed", "The order was changed by others at the same time.")
        finally:
            log.request_id.reset(token)

    async def _attempt(self, item: _Work) -> None:
        if item.action == "undo":
            return await self._undo(item)
        stored = await self._store.find(item.order_id, None)
        if stored.order.status == _BECOMES[item.action]:
            return await self._note(item, "unchanged", f"The order is already {stored.order.status}.")
        return await self._change(item, stored)

    async def _change(self, item: _Work, stored: StoredOrder) -> None:
        if (starter := self._starters.get(item.job_id)) is not None:
            stored = with_profile(stored, await self._identity.profile(starter, stored.order.user_id))
        change = OrderChange(status=_BECOMES[item.action], hold_mail_s=item.hold_mail_s)
        transition = transition_of(stored, change, item.by)
        async with self._database.transaction() as connection:
            if not await connection.fetchval(_SETTLE, item.job_id, item.place, "done", ""):
                return
            if not await self._store.change(transition, connection):
                raise _TakenByAnother
        self._committed(item.order_id)

    async def _undo(self, item: _Work) -> None:
        async with self._database.transaction() as connection:
            if not await connection.fetchval(_SETTLE, item.job_id, item.place, "done", ""):
                return
            await undo(connection, item.order_id, item.by, _ANY)
        self._committed(item.order_id)

    async def _note(self, item: _Work, state: str, detail: str) -> None:
        await self._database.execute(_SETTLE, item.job_id, item.place, state, detail)


_SETTLE = """
update orders.bulk_items set state = $3, detail = $4
where job_id = $1 and place = $2 and state = 'waiting'
returning 1"""


def _require_staff(caller: Principal) -> None:
    if not caller.is_staff:
        raise Forbidden("Only staff may change many orders at once.")


def _item(row: Record) -> _Work:
    return _Work(
        job_id=row["job_id"],
        place=row["place"],
        order_id=row["order_id"],
        action=row["action"],
        hold_mail_s=row["hold_mail_s"],
        by=ChangedBy("staff", row["actor_id"], row["actor_name"]),
        request_id=row["request_id"],
    )
