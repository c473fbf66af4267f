"""Declares the transport over PostgreSQL: what carries events where no broker is set."""

from pathlib import Path

import msgspec

from purveyor.kit.db.schema import Schema
from purveyor.kit.events.transport import EventTransport
from purveyor.transports import Transport, TransportEnv

MIGRATIONS = Path(__file__).with_name("migrations")
SCHEMA = Schema("events", MIGRATIONS, role=None)


class PostgresSettings(msgspec.Struct, frozen=True):
    """Nothing to set: it uses the database of ``DATABASE_URL``."""


def open_events(env: TransportEnv, _settings: PostgresSettings) -> EventTransport:
    """The transport, on a database that it opens itself."""
    from purveyor.transports.postgres.events import PostgresEvents

    return PostgresEvents(env.database(SCHEMA))


TRANSPORT = Transport(name="postgres", settings=PostgresSettings, open=open_events, schema=SCHEMA)
