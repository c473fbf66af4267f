"""Limits of what anybody may do without an account, per network and per recipient."""

from purveyor.kit.db.postgres import Connection
from purveyor.kit.errors import TooManyRequests
from purveyor.kit.limits.memory import Limiter, Rate
from purveyor.kit.limits.networks import hit_network
from purveyor.kit.recipient import mailbox_digest

MAILS_PER_HOUR = 5
"""Limit of emails that strangers can trigger per mailbox, over all of its accounts and addresses."""


class Admission:
    """Counts requests without a token against ``rate`` per network, each kind by itself."""

    def __init__(self, limiter: Limiter, rate: Rate) -> None:
        self._limiter = limiter
        self._rate = rate

    async def admit(self, kind: str, network: str) -> None:
        """Count a request, such as ``register``. Raises ``TooManyRequests``."""
        (await hit_network(self._limiter, kind, network, self._rate)).require()


async def count_mail(connection: Connection, email: str) -> bool:
    """Count a mail to the mailbox behind an address; ``False`` if that would be too many within an hour."""
    mailbox = mailbox_digest(email)
    await connection.execute("select pg_advisory_xact_lock(hashtextextended($1, 1))", mailbox)
    return bool(
        await connection.fetchval(
            """
            insert into auth.mailings (mailbox)
            select $1 where (
                select count(*) from auth.mailings where mailbox = $1 and at > now() - interval '1 hour'
            ) < $2
            returning true""",
            mailbox,
            MAILS_PER_HOUR,
        )
    )


async def require_mail(connection: Connection, email: str) -> None:
    """Like ``count_mail``. Raises ``TooManyRequests``."""
    if not await count_mail(connection, email):
        raise TooManyRequests(
            f"At most {MAILS_PER_HOUR} emails per hour are sent to one mailbox.", headers={"Retry-After": "3600"}
        )
