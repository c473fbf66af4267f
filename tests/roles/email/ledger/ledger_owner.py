"""A process that holds mails: it becomes a sender, claims some, brings one to ``data``, and waits to be killed.

Run as ``python ledger_owner.py URL SECONDS MAILS`` with ``postgresql://`` or ``mongodb://``, after how many
seconds of silence it is dead, and how many mails; says ``ready`` when it holds them.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from purveyor.kit.db.postgres import open_database
from purveyor.roles.email.ledger import mongo as mongo_owner
from purveyor.roles.email.ledger import postgres as ledger_postgres_owner
from purveyor.roles.email.ledger.mongo import open_ledger
from purveyor.roles.email.ledger.postgres import PostgresLedger
from purveyor.roles.email.ports import Ledger


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Ledger]:
    """The ledger that a URL means."""
    if url.startswith("mongodb"):
        async with open_ledger(url) as mongo:
            yield mongo
    else:
        async with open_database(url, application="tests", max_size=4) as database:
            yield PostgresLedger(database)


async def hold(url: str, mails: int) -> None:
    """Lease mails until the end."""
    async with connected(url) as ledger, ledger.ownership() as owner:
        first, *_ = await ledger.claim(owner.name, mails)
        await ledger.mark_data(first)
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    ledger_postgres_owner.DEAD_AFTER_S = mongo_owner.DEAD_AFTER_S = float(sys.argv[2])
    asyncio.run(hold(sys.argv[1], int(sys.argv[3])))
