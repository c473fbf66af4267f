"""A ledger on a server of its own kind, and the steps that bring its mails to a state."""

from pathlib import Path
from typing import Any

import pytest

import purveyor.roles.email
from purveyor.kit.clock import now
from purveyor.kit.db.migrate import migrate
from purveyor.kit.ids import new_id
from purveyor.roles.email.ports import Account, Claim, DoubtPolicy, Ledger, NewMail
from purveyor_drill.servers.mongodb import MongoServer
from purveyor_drill.servers.postgres import PostgresServer
from waiting import until

MIGRATIONS = Path(purveyor.roles.email.__file__).with_name("migrations")


class Bench:
    """A kind of ledger: its server, and its place on it, empty for each test."""

    def __init__(self, server: PostgresServer | MongoServer) -> None:
        self.server = server
        self.url = ""
        self._places = 0

    @property
    def is_mongo(self) -> bool:
        return isinstance(self.server, MongoServer)

    async def renew(self) -> None:
        """Make an empty place."""
        self._places += 1
        if isinstance(self.server, MongoServer):
            base, _, options = self.server.url.partition("/?")
            self.url = f"{base}/test_ledger_{self._places}?{options}"
        else:
            if self._places == 1:
                await migrate(self.server.create_database("model"), "email", MIGRATIONS)
            self.url = self.server.create_database("test_ledger", "model")


only_postgres = pytest.mark.parametrize("kind", [PostgresServer], ids=["postgres"], indirect=True)
only_mongo = pytest.mark.parametrize("kind", [MongoServer], ids=["mongodb"], indirect=True)


def account(address: str) -> Account:
    """The account that ``mail`` gives to an address."""
    return Account(address and f"account of {address}", address)


def mail(number: int = 1, **fields: Any) -> NewMail:
    values = {
        "event_id": str(new_id()),
        "kind": "order.created",
        "order_number": number,
        "recipient": "ann@b.test",
        "subject": f"Order {number}",
        "message_id": f"<{number}@shop.test>",
        "message": b"Subject: x\r\n\r\n\x00\xff\r\n",
        "created_at": now(),
    }
    values |= fields
    return NewMail(**{"user_id": account(values["recipient"]).user_id, **values})


async def take(ledger: Ledger, owner: str) -> Claim:
    (claim,) = await ledger.claim(owner, 1)
    return claim


async def state(ledger: Ledger, event_id: str) -> str:
    found = await ledger.find(event_id)
    assert found is not None
    return found[0].state


async def recover(ledger: Ledger, policy: DoubtPolicy) -> int:
    """Take over from whoever is gone."""
    gone = await ledger.gone()
    return await ledger.take_over(gone, policy) if gone else 0


async def freed(ledger: Ledger, policy: DoubtPolicy) -> int:
    """Take over as soon as somebody is gone: PostgreSQL learns a moment later that a connection has ended."""
    return await until(lambda: recover(ledger, policy))


async def wait_due(ledger: Ledger, owner: str) -> Claim:
    return (await until(lambda: ledger.claim(owner, 1)))[0]


async def finish(ledger: Ledger, claim: Claim) -> None:
    """Send what was claimed."""
    await ledger.mark_data(claim)
    await ledger.mark_sent(claim, "250 ok")


async def bring_to(ledger: Ledger, owner: str, wanted: str, **fields: Any) -> str:
    """Record a mail and bring it to a state; its event id."""
    new = mail(**fields)
    await ledger.record(new)
    if wanted == "pending":
        return new.event_id
    claim = await take(ledger, owner)
    if wanted == "retry":
        await ledger.mark_retry(claim, reply="451 later", error="not sent", pause_s=60)
    if wanted == "failed":
        await ledger.mark_failed(claim, reply="550 no", error="refused by the server")
    if wanted in ("data", "sent", "unknown"):
        await ledger.mark_data(claim)
    if wanted == "sent":
        await ledger.mark_sent(claim, "250 ok")
    if wanted == "unknown":
        await ledger.mark_doubtful(claim, "cut", "park")
    assert await state(ledger, new.event_id) == wanted
    return new.event_id
