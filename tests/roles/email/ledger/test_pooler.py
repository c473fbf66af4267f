"""Mail senders refuse a pooler that does not keep their sessions."""

import pytest

from purveyor.kit.errors import Unavailable
from purveyor_drill.servers.pgbouncer import PgBouncerServer
from real_servers import SERVERS
from roles.email.ledger.ledger_owner import connected


async def test_no_mail_is_sent_through_pgbouncer_in_transaction_mode() -> None:
    if reason := PgBouncerServer.available():
        pytest.skip(f"no {PgBouncerServer.name}: {reason}")
    direct = SERVERS.create_database("pooled_ledger")
    with PgBouncerServer(direct) as pooler:
        async with connected(pooler.database_url(direct)) as ledger:
            with pytest.raises(Unavailable, match="Correct EMAIL_DATABASE_URL"):
                await ledger.check()
            with pytest.raises(Unavailable, match="Correct EMAIL_DATABASE_URL"):
                await ledger.ownership().__aenter__()
