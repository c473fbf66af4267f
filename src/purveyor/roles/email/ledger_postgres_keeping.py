"""What the mail ledger in PostgreSQL does not keep: the text of mails sent long ago, and whoever was erased."""

from datetime import datetime

from purveyor.kit.postgres import Database
from purveyor.roles.email.erasure import digest_of

IS_ERASED = "exists (select from email.erased_recipients where digest = $11 and erased_at > $8::timestamptz)"
"""Whether the recipient whose digest is ``$11`` was erased after ``$8``."""

_REMEMBER = """
insert into email.erased_recipients as known (digest, erased_at) values ($1, $2)
on conflict (digest) do update set erased_at = greatest(known.erased_at, excluded.erased_at)"""

_ERASE = """
with erased as (
    delete from email.mails where recipient = $1 and recipient <> '' returning *,
        case state when 'sent' then 'sent' else 'failed' end as outcome
), kept as (
    insert into email.mails (event_id, kind, recipient, order_number, subject, message_id, message,
        state, attempts, resends, error, created_at, order_id, request_id, reported)
    select event_id, kind, '', order_number, '', message_id, '', outcome, attempts, resends, 'erased',
        created_at, order_id, request_id, outcome || ':' || resends::text
    from erased on conflict do nothing
)
select count(*) from erased"""

_EMPTY_SENT = """
update email.mails m set message = '' from (
    select event_id, kind, recipient from email.mails
    where state = 'sent' and octet_length(message) > 0 and updated_at < now() - make_interval(days => $1)
    order by updated_at limit $2 for update skip locked
) old
where m.event_id = old.event_id and m.kind = old.kind and m.recipient = old.recipient"""


async def erase(database: Database, recipient: str, at: datetime) -> int:
    """See ``Ledger``. First what keeps older events from coming again, then away with what is there."""
    await database.execute(_REMEMBER, digest_of(recipient), at)
    erased: int = await database.fetchval(_ERASE, recipient)
    return erased


async def forget_erased(database: Database, older_than_days: int) -> None:
    """See ``Ledger``."""
    await database.execute(
        "delete from email.erased_recipients where erased_at < now() - make_interval(days => $1)", older_than_days
    )


async def empty_sent(database: Database, older_than_days: int, limit: int) -> int:
    """See ``Ledger``."""
    return await database.execute(_EMPTY_SENT, older_than_days, limit)
