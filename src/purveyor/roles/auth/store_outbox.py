"""Events of role auth, stored in the transaction that they tell of."""

from purveyor.kit.message import Envelope
from purveyor.kit.outbox import insert_into, values
from purveyor.kit.postgres import Connection

_EMIT = insert_into("auth")


async def emit(connection: Connection, event: Envelope) -> None:
    """Store an event; it goes out when the transaction is committed."""
    await connection.execute(_EMIT, *values(event))


async def withdraw(connection: Connection, subject: str) -> None:
    """Take back what waits about a subject. What a relay has in hand at this moment goes out."""
    await connection.execute(
        """
        delete from auth.outbox where id in (
            select id from auth.outbox where subject = $1 and published_at is null for update skip locked
        )""",
        subject,
    )
