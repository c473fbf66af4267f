"""Tickets that open one live timeline once, for clients such as ``EventSource`` that cannot send headers.

A ticket stands in a URL, which proxies log, so it is worth nothing after its use or a minute later. The
table masks the owner's access token with a key that only the ticket gives.
"""

import hashlib
import re
import secrets
from datetime import timedelta
from uuid import UUID

from purveyor.kit.clock import now
from purveyor.kit.db.postgres import Database
from purveyor.kit.errors import TokenInvalid
from purveyor.kit.ids import parse_id
from purveyor.roles.auth.contract import Principal

LIFETIME_S = 60
PER_USER = 20
"""Unused tickets of a user. Each new one beyond that replaces the oldest."""
_FORM = re.compile(r"[\w-]{43}", re.ASCII)


class LiveTickets:
    """Issues and redeems tickets; every process on this database knows them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def issue(self, caller: Principal, order_id: UUID) -> str:
        """A new ticket for an order that the caller may see."""
        ticket = secrets.token_urlsafe(32)
        await self._database.execute(
            """
            with replaced as (
                delete from orders.live_tickets
                where user_id = $3 and (expires_at < now() or digest in (
                    select digest from orders.live_tickets where user_id = $3 order by expires_at desc offset $6
                ))
            )
            insert into orders.live_tickets (digest, order_id, user_id, token, expires_at)
            values ($1, $2, $3, $4, $5)""",
            _digest(ticket),
            order_id,
            caller.user_id,
            _mask(caller.token.encode(), ticket),
            now() + timedelta(seconds=LIFETIME_S),
            PER_USER - 1,
        )
        return ticket

    async def redeem(self, ticket: str, order_id: str) -> str:
        """Use up a ticket, and return its owner's access token. Raises ``TokenInvalid``."""
        order = parse_id(order_id)
        if order is None or not _FORM.fullmatch(ticket):
            raise TokenInvalid("The ticket is not valid.")
        masked = await self._database.fetchval(
            """
            delete from orders.live_tickets where digest = $1 and order_id = $2 and expires_at > now()
            returning token""",
            _digest(ticket),
            order,
        )
        if masked is None:
            raise TokenInvalid("The ticket has been used or has expired. Request a new one.")
        return _mask(masked, ticket).decode()

    async def purge(self) -> None:
        """Delete expired tickets."""
        await self._database.purge("orders.live_tickets", "expires_at < now()")


def _digest(ticket: str) -> bytes:
    return hashlib.sha256(b"digest " + ticket.encode()).digest()


def _mask(text: bytes, ticket: str) -> bytes:
    """Mask or unmask: a ticket is random and used for one text only, so its key stream is a one-time pad."""
    stream = hashlib.shake_256(b"mask " + ticket.encode()).digest(len(text))
    return bytes(a ^ b for a, b in zip(text, stream, strict=True))
