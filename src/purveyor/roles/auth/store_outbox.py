"""Events of role auth, stored in the transaction that they tell of."""

from purveyor.kit.message import Envelope
from purveyor.kit.outbox import COLUMNS
from purveyor.kit.postgres import Connection

_NAMES = COLUMNS.split(", ")


def event_values(event: Envelope) -> list[object]:
    """The values of an outbox row, in the order of ``COLUMNS``."""
    return [getattr(event, name) for name in _NAMES]


async def emit(connection: Connection, event: Envelope) -> None:
    """Store an event; it goes out when the transaction is committed."""
    await connection.execute(
        f"insert into auth.outbox ({COLUMNS}) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",  # noqa: S608
        *event_values(event),
    )


async def withdraw(connection: Connection, subject: str) -> None:
    """Take back what waits about a subject. What a relay has in hand at this moment goes out."""
    await connection.execute(
        """
        delete from auth.outbox where id in (
            select id from auth.outbox where subject = $1 and published_at is null for update skip locked
        )""",
        subject,
    )
