"""The application's data in PostgreSQL, read with the drill's own SQL: a judge shares no code."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from purveyor_drill.observations import FINAL, EventRow, LedgerRow, Line, OrderHistory, OrderRow

_CONNECT_S = 2.0
_STUCK_S = 20
_OF_THE_APPLICATION = "datname = current_database() and application_name like 'purveyor%'"


class Database:
    """One connection; it sees only customers of ``domain`` and events since ``since`` (seconds since 1970)."""

    def __init__(self, connection: Any, domain: str, since: float) -> None:
        self._connection = connection
        self._pattern = f"%@{domain}"
        self._since = since

    async def confirm_customers(self) -> None:
        """Confirm the addresses of all customers. Unconfirmed ones get only a few mails an hour."""
        await self._connection.execute(
            "update auth.users set email_confirmed_at = now() where email like $1", self._pattern
        )

    async def make_admin(self, email: str) -> None:
        await self._connection.execute("update auth.users set access = 'admin' where email = $1", email)

    async def make_customers(self) -> None:
        """Take the access of staff from all accounts: on given servers they are left behind."""
        await self._connection.execute(
            "update auth.users set access = 'customer' where email like $1", self._pattern
        )

    async def histories(self, order_ids: Sequence[str]) -> list[OrderHistory]:
        rows = await self._connection.fetch(
            """
            select o.id::text as order_id, o.version, o.payment_status,
                array(
                    select h.request_id from orders.history h
                    where h.order_id = o.id and h.mail_kind is null order by h.id
                ) as changes
            from orders.orders o where o.id = any($1::uuid[]) order by o.id""",
            order_ids,
        )
        return [OrderHistory(**{**row, "changes": tuple(row["changes"])}) for row in rows]

    async def orders(self) -> list[OrderRow]:
        rows = await self._connection.fetch(
            """
            select o.id::text, o.number, o.user_email as email, o.total, coalesce(k.key, '') as key,
                (select json_agg(json_build_array(i.product_id, i.quantity, i.price) order by i.line)
                 from orders.order_items i where i.order_id = o.id)::text as lines
            from orders.orders o left join orders.idempotency_keys k on k.order_id = o.id
            where o.user_email like $1 order by o.id""",
            self._pattern,
        )
        return [
            OrderRow(**{**row, "lines": tuple(Line(*line) for line in json.loads(row["lines"] or "[]"))})
            for row in rows
        ]

    async def events(self) -> list[EventRow]:
        found: list[EventRow] = []
        for table in await self._outboxes():
            rows = await self._connection.fetch(
                f"""
                select id::text, type, subject, body, extract(epoch from occurred_at)::float8 as occurred_at,
                    extract(epoch from published_at)::float8 as published_at
                from {table} where occurred_at >= to_timestamp($1)""",  # noqa: S608 - a table's own name
                self._since,
            )
            found += [EventRow(**row) for row in rows]
        return found

    async def unpublished(self) -> int:
        """Count the events that wait in outboxes."""
        return sum([await self._count(f"{table} where published_at is null") for table in await self._outboxes()])

    async def _outboxes(self) -> Sequence[str]:
        rows = await self._connection.fetch(
            "select table_schema from information_schema.tables where table_name = 'outbox' order by 1"
        )
        return [f'"{row["table_schema"]}".outbox' for row in rows]

    async def deliveries(self) -> dict[str, int]:
        """Count the events in each queue in the database; dead letters under its name with ``.dead``."""
        if await self._connection.fetchval("select to_regclass('events.deliveries') is null"):
            return {}
        rows = await self._connection.fetch(
            """
            select queue || case when died_at is null then '' else '.dead' end as queue, count(*) as waiting
            from events.deliveries where occurred_at >= to_timestamp($1) group by 1""",
            self._since,
        )
        return {row["queue"]: row["waiting"] for row in rows}

    async def mails(self) -> list[LedgerRow]:
        rows = await self._connection.fetch(
            """
            select event_id::text, kind, recipient, state, attempts, resends, message_id
            from email.mails where recipient like $1""",
            self._pattern,
        )
        return [LedgerRow(**row) for row in rows]

    async def pending(self) -> int:
        """Count the emails in the ledger that have no final state."""
        if await self._connection.fetchval("select to_regclass('email.mails') is null"):
            return 0
        return await self._count("email.mails where state <> all($1::text[])", list(FINAL))

    async def at_data(self) -> int:
        """Count the emails between their final dot and the record of the reply."""
        return await self._count("email.mails where state = 'data'")

    async def stuck_transactions(self) -> int:
        """Count the application's connections with a transaction open and idle for 20 s."""
        return await self._count(
            f"""pg_stat_activity where {_OF_THE_APPLICATION} and state like 'idle in transaction%'
                and state_change < now() - make_interval(secs => $1)""",
            _STUCK_S,
        )

    async def connections(self) -> int:
        return await self._count(f"pg_stat_activity where {_OF_THE_APPLICATION}")

    async def _count(self, rows: str, *values: object) -> int:
        return int(await self._connection.fetchval(f"select count(*) from {rows}", *values))  # noqa: S608


@asynccontextmanager
async def open_database(dsn: str, domain: str, since: float) -> AsyncIterator[Database]:
    """A connection to read with. Raises ``OSError`` (``TimeoutError``) while the server is away."""
    try:
        connection = await asyncpg.connect(dsn, timeout=_CONNECT_S, server_settings={"application_name": "drill"})
    except asyncpg.PostgresError as refusal:
        raise ConnectionError(str(refusal)) from refusal
    try:
        yield Database(connection, domain, since)
    except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.OperatorInterventionError) as lost:
        raise ConnectionError(str(lost)) from lost
    finally:
        connection.terminate()
