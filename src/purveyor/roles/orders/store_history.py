"""The SQL of what happens to orders: changes of state, and the history that tells of them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from purveyor.kit import log
from purveyor.kit.errors import NotFound
from purveyor.kit.outbox import COLUMNS
from purveyor.kit.postgres import Database, Record, storable
from purveyor.roles.orders.history import By, Entry, MailOutcome, Timeline, placed
from purveyor.roles.orders.ports import Step

_MAX_REPLY = 1000

# The version guards the row: of two changes at once the second one waits for the row's lock, then finds
# another version and changes nothing.
_CHANGE = f"""
with changed as (
    update orders.orders set status = $3, payment_status = $4, version = $5, updated_at = $6,
        entries = entries + cardinality($11::text[])
    where id = $1 and version = $2
    returning entries - cardinality($11::text[]) as before
), noted as (
    insert into orders.history (order_id, id, at, what, actor, actor_id, actor_name, reason, request_id)
    select $1, before + entry.place, $6, entry.what, $7, $8, $9, $10, $12
    from changed, unnest($11::text[]) with ordinality as entry (what, place)
), event as (
    insert into orders.outbox ({COLUMNS})
    select $13::uuid, $14::text, $15::bytea, $6, $1::text, $5, $12, $16::text, $17::text, $18::text
    from changed where $13::uuid is not null
)
select count(*) from changed"""  # noqa: S608 - constants

_ENTRY = """
    h.id, h.at, h.what, h.actor, h.actor_id, h.actor_name, h.reason, h.request_id, h.mail_event_id, h.mail_kind,
    h.mail_state, h.mail_attempts, h.mail_resends, h.smtp_reply, h.mail_error"""


async def change(database: Database, step: Step) -> bool:
    """See ``OrderBook.change``."""
    order, event = step.order, step.event
    changed = await database.fetchval(
        _CHANGE,
        order.id,
        step.was,
        order.status,
        order.payment_status,
        order.version,
        order.updated_at,
        step.by.kind,
        step.by.id,
        step.by.name,
        step.reason,
        step.entries,
        step.request_id,
        event and event.id,
        event and event.type,
        event and event.body,
        event and event.currency,
        event and event.language,
        event and event.traceparent,
    )
    return bool(changed)


class PostgresHistories:
    """Satisfies ``Histories``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def timeline(self, order_id: UUID, owner: str | None) -> Timeline:
        """See ``Histories``."""
        rows = await self._database.fetch(
            f"""
            select o.number, o.user_id, o.user_name, o.request_id as placed_by, o.created_at, {_ENTRY}
            from orders.orders o left join orders.history h on h.order_id = o.id
            where o.id = $1 and ($2::text is null or o.user_id = $2) order by h.id""",  # noqa: S608 - constants
            order_id,
            owner,
        )
        if not rows:
            raise NotFound("There is no such order.")
        first = rows[0]
        start = placed(first["user_id"], first["user_name"], first["created_at"], first["placed_by"])
        later = [_entry(row) for row in rows if row["id"] is not None]
        return Timeline(order_id, first["number"], (start, *later))

    async def news(self, after: Mapping[UUID, int]) -> Mapping[UUID, Sequence[Entry]]:
        """See ``Histories``."""
        rows = await self._database.fetch(
            f"""
            select h.order_id, {_ENTRY}
            from unnest($1::uuid[], $2::int[]) as known (order_id, last)
            join orders.history h on h.order_id = known.order_id and h.id > known.last
            order by h.order_id, h.id""",  # noqa: S608 - constants
            list(after),
            list(after.values()),
        )
        found: dict[UUID, list[Entry]] = {}
        for row in rows:
            found.setdefault(row["order_id"], []).append(_entry(row))
        return found

    async def add_mail(self, order_id: UUID, mail: MailOutcome, at: datetime) -> None:
        """See ``Histories``. Two deliveries of one event at once may both count up: that leaves a gap in the ids,
        and one entry. The answer of a mail server may hold an address, so an erased order gets none.
        """
        await self._database.execute(
            """
            with noted as (
                update orders.orders set entries = entries + 1
                where id = $1 and not exists (
                    select from orders.history
                    where order_id = $1 and mail_event_id = $4 and mail_state = $6 and mail_resends = $8
                )
                returning entries, erased_at is null as kept
            )
            insert into orders.history (order_id, id, at, what, actor, request_id, mail_event_id, mail_kind,
                mail_state, mail_attempts, mail_resends, smtp_reply, mail_error)
            select $1, entries, $2, $3, 'system', $11, $4, $5, $6, $7, $8,
                case when kept then $9 else '' end, case when kept then $10 else '' end
            from noted
            on conflict (order_id, mail_event_id, mail_state, mail_resends) where mail_event_id is not null
            do nothing""",
            order_id,
            at,
            mail.what,
            mail.event_id,
            mail.kind,
            mail.state,
            mail.attempts,
            mail.resends,
            storable(mail.smtp_reply, _MAX_REPLY),
            storable(mail.error, _MAX_REPLY),
            log.request_id.get(),
        )


def _entry(row: Record) -> Entry:
    mail = None
    if row["mail_event_id"] is not None:
        mail = MailOutcome(
            event_id=row["mail_event_id"],
            kind=row["mail_kind"],
            state=row["mail_state"],
            attempts=row["mail_attempts"],
            resends=row["mail_resends"],
            smtp_reply=row["smtp_reply"],
            error=row["mail_error"],
        )
    return Entry(
        id=row["id"],
        at=row["at"],
        what=row["what"],
        by=By(row["actor"], row["actor_id"], row["actor_name"]),
        reason=row["reason"],
        request_id=row["request_id"],
        mail=mail,
    )
