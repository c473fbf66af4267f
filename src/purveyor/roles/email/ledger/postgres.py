"""The mail ledger in PostgreSQL, schema ``email``."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, get_args
from uuid import UUID

import msgspec

from purveyor.kit.db.postgres import COMMAND_TIMEOUT_S, Connection, Database
from purveyor.kit.events.message import Envelope
from purveyor.kit.events.outbox import emit
from purveyor.kit.ids import parse_id
from purveyor.kit.limits.memory import Rate
from purveyor.kit.metrics import MAILS
from purveyor.roles.email.contract import MailRecord, MailSettled, State
from purveyor.roles.email.ledger.postgres_writes import (
    RECORD,
    REPORT,
    GroupedWrites,
    emit_reports,
    held,
    record_of,
)
from purveyor.roles.email.ports import (
    DOUBT_PAUSE_S,
    Account,
    Claim,
    DoubtPolicy,
    Lease,
    NewMail,
)
from purveyor.roles.email.privacy import digest_of
from purveyor.roles.email.turns import (
    FAREWELL,
    FIRST,
    FIRST_WITHIN_S,
    GAP_WITHIN_S,
    RELEASED,
    SUPERSEDED_BY,
    UNCONFIRMED,
    WAITING,
    held_error,
    superseded_kinds,
)

_BATCH = 100
_REMEMBER = """
insert into email.erased_recipients as known (digest, erased_at) values ($1, $2)
on conflict (digest) do update set erased_at = greatest(known.erased_at, excluded.erased_at)"""
_BY_USER = "user_id = $1 and user_id <> ''"
_BEFORE_USERS = "user_id is null and recipient = $2 and recipient <> '' and (order_id <> '' or kind like 'user.%')"
_PAGE = """(created_at, email.mails.event_id, kind) > ($3, $4, $5)
    order by created_at, email.mails.event_id, kind limit $6"""
_PAGE_OF_ACCOUNT = f"""
(select {RECORD}, message from email.mails where {_BY_USER} and {_PAGE})
union all (select {RECORD}, message from email.mails where {_BEFORE_USERS} and {_PAGE})
order by created_at, event_id, kind limit $6"""  # noqa: S608 - constants
_ERASING = """
with erased as (
    delete from email.mails where {which} returning *,
        case state when 'sent' then 'sent' else 'failed' end as outcome
), kept as (
    insert into email.mails (event_id, kind, recipient, order_number, subject, message_id, message,
        state, attempts, resends, error, created_at, order_id, sequence, request_id, reported)
    select event_id, kind, '', order_number, '', message_id, '', outcome, attempts, resends, 'erased',
        created_at, order_id, sequence, request_id, outcome || ':' || resends::text
    from erased on conflict do nothing
)
select event_id::text as event_id from erased"""
_ERASE = _ERASING.format(which=f"({_BY_USER} or {_BEFORE_USERS}) and kind <> '{FAREWELL}'")
_ERASE_FAREWELLS = _ERASING.format(
    which=f"kind = '{FAREWELL}' and recipient <> '' and state in ('sent', 'failed')"
)
_EMPTY_SENT = """
update email.mails m set message = '' from (
    select event_id, kind, recipient from email.mails
    where state = 'sent' and octet_length(message) > 0 and updated_at < now() - make_interval(days => $1)
    order by updated_at limit $2 for update skip locked
) old
where m.event_id = old.event_id and m.kind = old.kind and m.recipient = old.recipient"""
# "case" keeps the bodies of other events, which jsonb may reject, from being parsed.
_WITHDRAW = """
delete from email.outbox where id in (
    select id from email.outbox where
        case when type = $1 then convert_from(body, 'UTF8')::jsonb ->> 'event_id' end = any($2)
    for update skip locked
)"""
# Includes mails that an older version of this program has settled without emitting an event.
_TAKE_SETTLED = f"""
with unreported as (
    select event_id as event, kind as what, recipient as whose from email.mails
    where order_id <> '' and state in ('sent', 'failed', 'unknown') and reported <> state || ':' || resends::text
    order by updated_at limit {_BATCH} for update skip locked
)
update email.mails set reported = state || ':' || resends::text from unreported
where event_id = event and kind = what and recipient = whose
returning {REPORT}"""  # noqa: S608 - constants


def _kinds(kinds: Sequence[str]) -> str:
    return ", ".join(f"'{kind}'" for kind in kinds)


# "order_id <> ''" lets the planner use the partial index, and the condition on the first mail's sequence keeps it
# from hashing all first mails.
_TURN = f"""
    (due.sequence <= 1 or not exists (
        select from email.mails earlier
        where earlier.order_id = due.order_id and earlier.order_id <> '' and earlier.recipient = due.recipient
            and earlier.sequence between 1 and due.sequence - 1 and earlier.state in ({_kinds(WAITING)})
    ) and (due.state = 'retry' or due.updated_at < now() - make_interval(secs => {FIRST_WITHIN_S}) or exists (
        select from email.mails first
        where first.order_id = due.order_id and first.order_id <> '' and first.sequence < due.sequence
            and first.kind = '{FIRST}'
    )) and (due.state = 'retry' or due.updated_at < now() - make_interval(secs => {GAP_WITHIN_S}) or (
        select count(distinct earlier.sequence) from email.mails earlier
        where earlier.order_id = due.order_id and earlier.order_id <> '' and earlier.recipient = due.recipient
            and earlier.sequence between 1 and due.sequence - 1
    ) = due.sequence - 1))"""  # noqa: S608 - constants
_LATER_KINDS = " ".join(f"when '{kind}' then array[{_kinds(later)}]" for kind, later in SUPERSEDED_BY.items())
_SUPERSEDED_BY = f"""
    case when m.kind in ({_kinds([*SUPERSEDED_BY])}) and m.sequence > 0 and m.resends = 0 then (
        select later.kind from email.mails later
        where later.order_id = m.order_id and later.order_id <> '' and later.recipient = m.recipient
            and later.sequence > m.sequence and later.kind = any(case m.kind {_LATER_KINDS} end)
            and (later.state not in ({_kinds(WAITING)}) or m.attempts > 1 or m.error <> '' or exists (
                select from email.mails earlier
                where earlier.order_id = m.order_id and earlier.order_id <> '' and earlier.recipient = m.recipient
                    and earlier.sequence between 1 and m.sequence - 1 and earlier.attempts > 1
            ))
        order by later.sequence limit 1
    ) end"""  # noqa: S608 - constants
_CLAIM = f"""
update email.mails m set state = 'claimed', owner = $1, attempts = m.attempts + 1, updated_at = now()
from (
    select event_id, kind, recipient from email.mails due
    where state in ('pending', 'retry') and next_attempt_at <= now() and {_TURN}
    order by next_attempt_at limit $2 for update skip locked
) due
where m.event_id = due.event_id and m.kind = due.kind and m.recipient = due.recipient
returning m.event_id::text as event_id, m.kind, m.recipient, m.message_id, m.message, m.owner::text as owner,
    m.attempts as attempt, m.resends, m.created_at, m.order_id, m.mailbox, m.request_id, m.traceparent,
    coalesce({_SUPERSEDED_BY}, '') as superseded_by"""  # noqa: S608
_TAKE_QUOTA = """
insert into email.quotas as quota (mailbox, taken)
select mailbox, array[now()] from unnest($1::text[]) as mailbox order by mailbox
on conflict (mailbox) do update
    set taken = (quota.taken || now())[greatest(cardinality(quota.taken) - $2 + 2, 1):]
    where cardinality(quota.taken) < $2 or quota.taken[cardinality(quota.taken) - $2 + 1] <= now() - $3::interval
returning mailbox, now() as taken_at"""
_HOLD = """
update email.mails set state = case attempts when 1 then 'pending' else 'retry' end, owner = null,
    attempts = attempts - 1, error = $4, updated_at = now(),
    next_attempt_at = greatest(now() + interval '1 second', (
        select taken[greatest(cardinality(taken) - $5 + 1, 1)] + $6::interval
        from email.quotas quota where quota.mailbox = mails.mailbox
    ))
where owner = $1 and state = 'claimed' and (event_id, kind) in (select * from unnest($2::uuid[], $3::text[]))"""

_LOCK_CLASS = 0x6D61696C
"""``mail`` in ASCII: the first key of the senders' advisory locks. The second is the sender's number."""
_SETTING = "EMAIL_DATABASE_URL"
BEAT_S = 2.0
DEAD_AFTER_S = 10.0
_KEEPALIVE = "set tcp_keepalives_idle = 5; set tcp_keepalives_interval = 2; set tcp_keepalives_count = 3"
"""Makes the server free the lock within 11 s after the sender's machine has failed."""


class PostgresOwner:
    """``Owner`` that is alive while its connection, which holds its lock, answers."""

    def __init__(self, number: int, connection: Connection) -> None:
        self.name = str(number)
        self._connection = connection
        self._beating = asyncio.create_task(self._beat(), name="mail sender's heartbeat")

    def is_alive(self) -> bool:
        return not (self._connection.is_closed() or self._beating.done())

    async def leave(self) -> None:
        self._beating.cancel()
        await asyncio.gather(self._beating, return_exceptions=True)

    async def _beat(self) -> None:
        """Keep the session from its idle timeout, until the first failure."""
        while True:
            await asyncio.sleep(BEAT_S)
            await self._connection.execute("select", timeout=COMMAND_TIMEOUT_S)


class PostgresLedger:
    """``Ledger`` in PostgreSQL."""

    server = ""

    def __init__(self, database: Database, *, quota: Rate = UNCONFIRMED) -> None:
        """``quota`` limits the mails to an unconfirmed mailbox."""
        self._database = database
        self._quota = quota
        self._window = timedelta(seconds=quota.window_s)
        self._writes = GroupedWrites(database)

    async def aclose(self) -> None:
        """Cancel the writes in progress."""
        await self._writes.aclose()

    async def record(self, mail: NewMail) -> bool:
        is_new = await self._writes.record(mail)
        if mail.sequence and (pointless := superseded_kinds(mail.kind)):
            await self._hurry(mail, pointless)
        return is_new

    async def _hurry(self, later: NewMail, kinds: Sequence[str]) -> None:
        """Make the waiting mails due that a later one makes pointless, so that ``claim`` finds out."""
        await self._database.execute(
            """
            update email.mails set next_attempt_at = now()
            where order_id = $1 and order_id <> '' and sequence between 1 and $2 and recipient = $3
                and kind = any($4) and state in ('pending', 'retry') and resends = 0
                and next_attempt_at > now()""",
            later.order_id,
            later.sequence - 1,
            later.recipient,
            list(kinds),
        )

    @asynccontextmanager
    async def ownership(self) -> AsyncIterator[PostgresOwner]:
        await self._database.require_sessions(_SETTING)
        async with self._database.dedicated("purveyor mail sender") as connection:
            number = await self._database.fetchval("select nextval('email.sender_number')::int")
            idle_timeout = f"set idle_session_timeout = '{DEAD_AFTER_S:g}s'"
            await connection.execute(f"{_KEEPALIVE}; {idle_timeout}", timeout=COMMAND_TIMEOUT_S)
            lock = "select pg_advisory_lock($1, $2)"
            await connection.execute(lock, _LOCK_CLASS, number, timeout=COMMAND_TIMEOUT_S)
            owner = PostgresOwner(number, connection)
            try:
                yield owner
            finally:
                await owner.leave()

    async def gone(self) -> Sequence[str]:
        rows = await self._database.fetch(
            """
            select distinct owner::text as owner from email.mails
            where state in ('claimed', 'data') and not exists (
                select from pg_locks l where l.locktype = 'advisory' and l.classid = $1::int::oid
                    and l.objsubid = 2 and l.objid = owner::oid and l.granted
                    and l.database = (select oid from pg_database where datname = current_database())
            )""",
            _LOCK_CLASS,
        )
        return [row["owner"] for row in rows]

    async def take_over(self, gone: Sequence[str], policy: DoubtPolicy) -> int:
        # The condition on the owner is part of the update, so PostgreSQL rechecks it if a living sender has
        # claimed the mail concurrently (manual, section 13.2.1).
        return await self._settle(
            """
            update email.mails set
                state = case when state = 'claimed' or $2 and not doubted then 'retry' else 'unknown' end,
                resends = resends + (state = 'data' and $2 and not doubted)::int,
                doubted = doubted or state = 'data',
                error = case state when 'data' then 'the sender died while the server had the mail'
                    else 'the sender died' end,
                next_attempt_at = now() + make_interval(secs => case state when 'data' then $3::float8 else 0 end),
                owner = null, updated_at = now()
            where owner = any($1::int[]) and state in ('claimed', 'data')""",
            [int(owner) for owner in gone],
            policy == "resend",
            DOUBT_PAUSE_S,
        )

    async def claim(self, owner: str, limit: int) -> Sequence[Claim]:
        claims: list[Claim] = []
        while len(claims) < limit:
            rows = await self._database.fetch(_CLAIM, int(owner), limit - len(claims))
            found = [Claim(**row) for row in rows]
            bounded = [claim for claim in found if claim.mailbox and not claim.superseded_by]
            claims += [claim for claim in found if claim not in bounded]
            claims += await self._within_quota(bounded)
            if not bounded:
                break
        return claims

    async def _within_quota(self, claims: Sequence[Claim]) -> Sequence[Claim]:
        """Return the claims that their mailboxes have room for, and hold the others."""
        granted: list[Claim] = []
        held: list[Claim] = []
        waiting = list(claims)
        while waiting:
            once = {claim.mailbox: claim for claim in reversed(waiting)}  # a statement cannot touch a row twice
            rows = await self._database.fetch(_TAKE_QUOTA, list(once), self._quota.quota, self._window)
            taken = {row["mailbox"]: row["taken_at"] for row in rows}
            for mailbox, claim in once.items():
                if mailbox in taken:
                    granted.append(msgspec.structs.replace(claim, taken_at=taken[mailbox]))
                else:
                    held.append(claim)
            waiting = [claim for claim in waiting if claim not in once.values()]
        for claim in held:
            MAILS.labels(claim.kind, "held").inc()
        if held:
            keys = [claim.event_id for claim in held], [claim.kind for claim in held]
            limit = held_error(self._quota), self._quota.quota, self._window
            await self._database.execute(_HOLD, int(held[0].owner), *keys, *limit)
        return granted

    async def mark_data(self, claim: Claim) -> None:
        await self._writes.mark_data(claim)

    async def mark_sent(self, claim: Lease, reply: str) -> None:
        await self._writes.mark_sent(claim, reply)

    async def mark_retry(self, claim: Claim, *, reply: str, error: str, pause_s: float) -> None:
        change = """state = 'retry', owner = null, smtp_reply = $7, error = $8,
            next_attempt_at = now() + make_interval(secs => $9)"""
        changed = await self._database.execute(*_transition(claim, change, "any", reply, error, pause_s))
        if changed and claim.taken_at:
            give_back = "update email.quotas set taken = array_remove(taken, $2) where mailbox = $1"
            await self._database.execute(give_back, claim.mailbox, claim.taken_at)

    async def mark_failed(self, claim: Claim, *, reply: str, error: str) -> None:
        change = "state = 'failed', smtp_reply = $7, error = $8"
        await self._settle(*_transition(claim, change, "any", reply, error))

    async def mark_doubtful(self, claim: Claim, error: str, policy: DoubtPolicy) -> None:
        change = """state = case when $8 and not doubted then 'retry' else 'unknown' end, owner = null,
            resends = resends + ($8 and not doubted)::int, doubted = true, error = $7,
            next_attempt_at = now() + make_interval(secs => $9)"""
        await self._settle(*_transition(claim, change, "data", error, policy == "resend", DOUBT_PAUSE_S))

    async def _settle(self, change: str, *arguments: object) -> int:
        """Change mails and emit ``mail.settled`` in the same transaction; return how many were changed."""
        async with self._database.transaction() as connection:
            changed = await connection.execute(change, *arguments)
            await _emit_settled(connection)
        return int(changed.rpartition(" ")[2])

    async def emit_settled(self) -> None:
        """Emit ``mail.settled`` for mails that a process of an older version has settled."""
        async with self._database.transaction() as connection:
            await _emit_settled(connection)

    async def emit(self, *events: Envelope) -> None:
        """Emit events that are not in the outbox yet."""
        await emit(self._database, "email", *events, known="skipped")

    async def of_account(
        self, account: Account, after: MailRecord | None = None, limit: int = 100
    ) -> Sequence[tuple[MailRecord, bytes]]:
        rows = await self._database.fetch(
            _PAGE_OF_ACCOUNT,
            account.user_id,
            account.address,
            after.created_at if after else datetime.min.replace(tzinfo=UTC),
            after.event_id if after else UUID(int=0),
            after.kind if after else "",
            limit,
        )
        return [(record_of(row), row["message"]) for row in rows]

    async def erase(self, account: Account, at: datetime) -> int:
        # First block older events that are yet to come, then erase the existing mails.
        await self._database.execute(_REMEMBER, digest_of(account.user_id), at)
        erased = await self._database.fetch(_ERASE, account.user_id, account.address)
        await self._database.execute(_WITHDRAW, MailSettled.type, [row["event_id"] for row in erased])
        return len(erased)

    async def release(self, account: Account) -> int:
        # Includes claimed mails, which their sender may be about to hold.
        return await self._database.execute(
            """
            update email.mails set mailbox = '', error = case when error like 'held: %' then $3 else error end,
                next_attempt_at = case when error like 'held: %' then now() else next_attempt_at end
            where user_id = $1 and user_id <> '' and recipient = $2 and mailbox <> ''
                and state in ('pending', 'retry', 'claimed')""",
            account.user_id,
            account.address,
            RELEASED,
        )

    async def erase_farewells(self) -> int:
        return len(await self._database.fetch(_ERASE_FAREWELLS))

    async def forget_old(self, erased_days: int) -> None:
        await self._database.execute(
            "delete from email.erased_recipients where erased_at < now() - make_interval(days => $1)", erased_days
        )
        await self._database.execute(
            """
            delete from email.quotas
            where coalesce(taken[cardinality(taken)], '-infinity') < now() - $1::interval""",
            self._window,
        )

    async def empty_sent(self, older_than_days: int, limit: int) -> int:
        return await self._database.execute(_EMPTY_SENT, older_than_days, limit)

    async def find(self, event_id: str) -> tuple[MailRecord, bytes] | None:
        row = await self._database.fetchrow(
            f"select {RECORD}, message from email.mails where event_id = $1",  # noqa: S608 - constants
            parse_id(event_id),
        )
        return None if row is None else (record_of(row), row["message"])

    async def list(self, state: str, event_ids: Sequence[str], limit: int) -> Sequence[MailRecord]:
        if state and state not in get_args(State):
            return []
        # A literal state rather than a parameter, so that the planner can use a partial index.
        of_state = f"state = '{state}'" if state else "true"
        of_events = "event_id = any($2::uuid[])" if event_ids else "$2::uuid[] is not null"
        rows = await self._database.fetch(
            f"""
            select {RECORD} from email.mails where {of_state} and {of_events}
            order by created_at desc, email.mails.event_id desc limit $1""",  # noqa: S608 - constants
            limit,
            [found for found in map(parse_id, event_ids) if found],
        )
        return [record_of(row) for row in rows]

    async def resend(self, event_id: str) -> bool:
        changed = await self._database.execute(
            """
            update email.mails set state = 'retry', owner = null, resends = resends + 1, doubted = false,
                mailbox = '', error = 'sent again by an operator', next_attempt_at = now(), updated_at = now()
            where event_id = $1 and octet_length(message) > 0 and (
                state in ('sent', 'failed', 'unknown', 'retry') or state = 'pending' and error like 'held: %'
            )""",
            parse_id(event_id),
        )
        return changed > 0

    async def resolve(self, event_id: str, *, sent: bool) -> bool:
        changed = await self._settle(
            """
            update email.mails set state = case when $2 then 'sent' else 'retry' end, owner = null,
                resends = resends + (not $2)::int, doubted = false, error = 'resolved by an operator',
                next_attempt_at = now(), updated_at = now()
            where event_id = $1 and state = 'unknown' and octet_length(message) > 0""",
            parse_id(event_id),
            sent,
        )
        return changed > 0

    async def waiting(self) -> Mapping[str, int]:
        row = await self._database.fetchrow("select due, later, claimed from email.mails_waiting")
        return dict(row or {})

    async def check(self) -> str:
        await self._database.require_sessions(_SETTING)
        return await self._database.check()


def _transition(claim: Claim, change: str, state: str, *arguments: object) -> tuple[Any, ...]:
    """Return a statement with its arguments that changes a mail if the claim still holds it in that state."""
    statement = f"""
        update email.mails set {change}, updated_at = now()
        where event_id = $1 and kind = $2 and recipient = $3 and owner = $4 and attempts = $5
            and (state = $6 or $6 = 'any' and state in ('claimed', 'data'))"""  # noqa: S608 - constants
    return statement, *held(claim), state, *arguments


async def _emit_settled(connection: Connection) -> None:
    count = _BATCH
    while count == _BATCH:
        rows = await connection.fetch(_TAKE_SETTLED)
        count = len(rows)
        await emit_reports(connection, rows)
