"""The writes that every mail in PostgreSQL needs. Those of the same moment share a statement and a commit."""

from collections.abc import Sequence

from purveyor.kit.coalescer import Coalescer, alone_after_failure
from purveyor.kit.db.postgres import Connection, Database, Record, columns, unnest
from purveyor.kit.events.message import Cause
from purveyor.kit.events.outbox import emit
from purveyor.roles.email.contract import MailRecord, MailSettled
from purveyor.roles.email.events import sent_event, settled_event
from purveyor.roles.email.ports import Claim, ClaimLost, Lease, NewMail, Report
from purveyor.roles.email.privacy import digest_of

RECORD = """event_id::text as event_id, kind, order_number, recipient, subject, message_id, state, attempts,
    resends, smtp_reply, error, created_at, updated_at,
    case when state in ('pending', 'retry') then next_attempt_at end as next_attempt_at"""
REPORT = f"{RECORD}, order_id, request_id, traceparent"
_MAX_GROUP = 50
"""Maximum number of mails whose writes share a transaction and its deadline."""
_NEW = {
    "event_id": "uuid",
    "kind": "text",
    "recipient": "text",
    "order_number": "bigint",
    "subject": "text",
    "message_id": "text",
    "message": "bytea",
    "created_at": "timestamptz",
    "order_id": "text",
    "request_id": "text",
    "digest": "text",
    "traceparent": "text",
    "sequence": "int",
    "user_id": "text",
    "mailbox": "text",
}
# "offset 0" keeps the planner from joining tables of which it knows nothing yet, which would read all of them, and
# from looking for the digest once for each column.
_INSERT = f"""
insert into email.mails
    (event_id, kind, recipient, order_number, subject, message_id, message, created_at, order_id,
        request_id, traceparent, sequence, user_id, mailbox, state, error, reported)
select event_id, kind, case when gone then '' else recipient end, order_number,
    case when gone then '' else subject end, message_id, case when gone then '' else message end, created_at,
    order_id, request_id, traceparent, sequence, case when gone then '' else user_id end,
    case when gone then '' else mailbox end, case when gone then 'failed' else 'pending' end,
    case when gone then 'erased' else '' end, case when gone then 'failed:0' else '' end
from {unnest(*_NEW.values())} as new ({", ".join(_NEW)}),
    lateral (select exists (
        select from email.erased_recipients known
        where known.digest = new.digest and known.erased_at > new.created_at
    ) as gone offset 0) erased
where not exists (
    select from email.mails kept
    where kept.event_id = new.event_id and kept.kind = new.kind and kept.recipient = '' offset 0
)
order by event_id, kind, recipient -- so that two groups with the same mails cannot deadlock
on conflict do nothing returning event_id::text, kind, recipient"""  # noqa: S608 - constants
_HELD = {"event": "uuid", "what": "text", "whose": "text", "holder": "int", "attempt": "int"}
# Each mail is to be found by its key. "> 0", which holds for all, lets the planner expect one mail at most: else
# it reads the whole table while that is small, and goes on until it is analyzed again. "is not distinct from"
# keeps it from the index of mails in hand, which is full of dead entries.
_IS_HELD = """event_id = event and kind = what and recipient = whose and holder > 0 and attempt > 0
    and owner is not distinct from holder and attempts = attempt and state is not distinct from"""
_MARK_DATA = f"""
update email.mails set state = 'data', updated_at = now()
from {unnest(*_HELD.values())} as held ({", ".join(_HELD)})
where {_IS_HELD} 'claimed' returning event_id::text, kind, recipient"""  # noqa: S608 - constants
# The report is emitted in the same transaction.
_SENT = """state = 'sent', error = '', updated_at = now(),
    reported = case when order_id = '' then reported else 'sent:' || resends::text end"""
_ACCEPTED = _HELD | {
    "reply": "text",
    "id": "uuid",
    "body": "bytea",
    "subject": "text",
    "correlation_id": "text",
    "traceparent": "text",
}
_MARK_SENT = f"""
with marked as (
    update email.mails set {_SENT}, smtp_reply = reply
    from {unnest(*_ACCEPTED.values())} as sent ({", ".join(_ACCEPTED)})
    where {_IS_HELD} 'data' returning sent.*, updated_at
), emitted as (
    insert into email.outbox
        (id, type, body, occurred_at, subject, sequence, correlation_id, currency, language, traceparent)
    select id, '{MailSettled.type}', body, updated_at, subject, 0, correlation_id, '', '', traceparent
    from marked where subject <> '' on conflict do nothing
)
select event::text, what, whose from marked"""  # noqa: S608 - constants
_MARK_SENT_FREED = f"""
update email.mails set {_SENT}, smtp_reply = $6
where event_id = $1 and kind = $2 and recipient = $3 and attempts = $5
    and (owner = $4 and state = 'data' or owner is null and state in ('retry', 'unknown'))
returning {REPORT}"""  # noqa: S608 - constants


class GroupedWrites:
    """Records mails and marks them ``data`` and ``sent``, each in groups."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._records = Coalescer(alone_after_failure(self._record_group), max_size=_MAX_GROUP)
        self._data_marks = Coalescer(alone_after_failure(self._mark_data_group), max_size=_MAX_GROUP)
        self._sent_marks = Coalescer(alone_after_failure(self._mark_sent_group), max_size=_MAX_GROUP)

    async def aclose(self) -> None:
        """Cancel the writes in progress."""
        for group in (self._records, self._data_marks, self._sent_marks):
            await group.aclose()

    async def record(self, mail: NewMail) -> bool:
        """Store a mail as ``Ledger.record`` does."""
        return await self._records.call(mail)

    async def mark_data(self, claim: Claim) -> None:
        """Record that the final dot is about to be sent. Raises ``ClaimLost``."""
        if not await self._data_marks.call(claim):
            raise ClaimLost

    async def mark_sent(self, claim: Lease, reply: str) -> None:
        """Record the server's acceptance as ``Ledger.mark_sent`` does."""
        if not (isinstance(claim, Claim) and await self._sent_marks.call((claim, reply))):
            await self._mark_sent_freed(claim, reply)

    async def _record_group(self, mails: Sequence[NewMail]) -> Sequence[bool]:
        rows = await self._database.fetch(_INSERT, *columns(map(_values, mails)))
        new = {tuple(row) for row in rows}
        answers = []
        for key in map(key_of, mails):
            answers.append(key in new)
            new.discard(key)  # the same mail may be in the group twice
        return answers

    async def _mark_data_group(self, claims: Sequence[Claim]) -> Sequence[bool]:
        rows = await self._database.fetch(_MARK_DATA, *columns(map(held, claims)))
        marked = {tuple(row) for row in rows}
        return [key_of(claim) in marked for claim in claims]

    async def _mark_sent_group(self, sent: Sequence[tuple[Claim, str]]) -> Sequence[bool]:
        """Return whether each mail was in state ``data``."""
        arguments = columns(_accepted(claim, reply) for claim, reply in sent)
        marked = {tuple(row) for row in await self._database.fetch(_MARK_SENT, *arguments)}
        return [key_of(claim) in marked for claim, _ in sent]

    async def _mark_sent_freed(self, claim: Lease, reply: str) -> None:
        """Record the acceptance of a mail that may have been freed since, or marked already."""
        async with self._database.transaction() as connection:
            rows = await connection.fetch(_MARK_SENT_FREED, *held(claim), reply)
            await emit_reports(connection, [row for row in rows if row["order_id"]])


def key_of(mail: NewMail | Lease) -> tuple[str, str, str]:
    """Return the key of a mail's row."""
    return mail.event_id, mail.kind, mail.recipient


def held(claim: Lease) -> tuple[object, ...]:
    """Return the values by which a claim is found."""
    return *key_of(claim), int(claim.owner), claim.attempt


def record_of(row: Record) -> MailRecord:
    """Return the record in a row of the columns ``RECORD``."""
    return MailRecord(**{name: row[name] for name in MailRecord.__struct_fields__})


async def emit_reports(connection: Connection, rows: Sequence[Record]) -> None:
    """Emit ``mail.settled`` for rows of the columns ``REPORT``."""
    await emit(connection, "email", *map(settled_event, map(_report, rows)), known="skipped")


def _report(row: Record) -> Report:
    cause = Cause(correlation_id=row["request_id"], traceparent=row["traceparent"])
    return Report(record_of(row), row["order_id"], cause)


def _accepted(claim: Claim, reply: str) -> tuple[object, ...]:
    """Return the arguments of ``_MARK_SENT``."""
    event = sent_event(claim, reply)
    return *held(claim), reply, event.id, event.body, event.subject, event.correlation_id, event.traceparent


def _values(mail: NewMail) -> tuple[object, ...]:
    """Return the arguments of ``_INSERT``."""
    return (
        *key_of(mail),
        mail.order_number,
        mail.subject,
        mail.message_id,
        mail.message,
        mail.created_at,
        mail.order_id,
        mail.request_id,
        digest_of(mail.user_id or mail.recipient),
        mail.traceparent,
        mail.sequence,
        mail.user_id,
        mail.mailbox,
    )
