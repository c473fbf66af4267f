"""Waits until no work is pending, and collects from every server what the checker needs."""

import asyncio
import email
import hashlib
import mmap
import re
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from email.message import Message
from pathlib import Path

from purveyor_drill.database import Database, open_database
from purveyor_drill.mongo import MongoMails, open_mongo
from purveyor_drill.observations import EventRow, LedgerRow, SinkMail
from purveyor_drill.servers.nats import NatsServer
from purveyor_drill.servers.process import StartFailed
from purveyor_drill.servers.rabbitmq import RabbitServer
from purveyor_drill.testbed import Testbed

SETTLE_S = 60.0
_POLL_S = 0.5
_AMOUNT = re.compile(r"(?<![\d.,])(\d{1,3}(?:,\d{3})+|\d+)\.(\d\d)(?!\d)")
_MESSAGE_ID = re.compile(rb"(?im)^message-id:\s*(\S+)")


class Collector:
    """Looks at a testbed from outside: its database, its ledger, its queues, its SMTP sink, its logs."""

    def __init__(self, testbed: Testbed, domain: str, since: float) -> None:
        self._testbed = testbed
        self._domain = domain
        self._since = since

    def database(self) -> AbstractAsyncContextManager[Database]:
        """A connection to the database. Raises ``OSError`` while the server is away."""
        return open_database(self._testbed.database, self._domain, self._since)

    @asynccontextmanager
    async def _ledger(self) -> AsyncIterator[Database | MongoMails]:
        if self._testbed.ledger:
            async with open_mongo(self._testbed.ledger, self._domain) as mails:
                yield mails
        else:
            async with self.database() as database:
                yield database

    async def ledger(self) -> list[LedgerRow]:
        """Every record of the mail ledger, wherever that is kept."""
        async with self._ledger() as ledger:
            return await ledger.mails()

    async def at_data(self) -> int:
        """Count the emails between their final dot and the record of the reply."""
        async with self._ledger() as ledger:
            return await ledger.at_data()

    async def pending(self) -> dict[str, int]:
        """Unfinished work by the place where it waits; a dead letter is finished."""
        async with self.database() as database:
            waiting = {"outbox": await database.unpublished(), **await database.deliveries()}
        async with self._ledger() as ledger:
            waiting["mail ledger"] = await ledger.pending()
        if not any(waiting.values()):  # asking the broker takes seconds: only if nothing else waits
            waiting |= await self._queues()
        return {place: number for place, number in waiting.items() if number and not place.endswith(".dead")}

    async def _queues(self) -> dict[str, int]:
        """Messages in the queues of our own broker. A given one is not asked: the ledger tells as much."""
        if isinstance(nats := self._testbed.servers.get("nats"), NatsServer):
            messages = await asyncio.to_thread(nats.messages)
            return {name.replace("-", "."): number for name, number in messages.items() if number}
        broker = self._testbed.servers.get("rabbitmq")
        if not isinstance(broker, RabbitServer):
            return {}
        listed = await asyncio.to_thread(
            broker.rabbitmqctl, "list_queues", "name", "messages", "--no-table-headers"
        )
        rows = [line.split("\t") for line in listed.splitlines() if "\t" in line]
        return {name: int(number) for name, number in rows if number.isdecimal() and int(number)}

    async def waiting(self) -> dict[str, int]:
        """Every message in a queue, dead letters included."""
        async with self.database() as database:
            return {**await database.deliveries(), **await self._queues()}

    async def settle(self, within_s: float) -> float | None:
        """Wait until nothing is pending; the time that took in seconds, ``None`` if it took too long."""
        began = time.monotonic()
        while time.monotonic() - began < within_s:
            try:
                if not await self.pending():
                    return time.monotonic() - began
            except OSError:  # a server is still coming up
                pass
            await asyncio.sleep(_POLL_S)
        return None

    def mails(self, secrets: Mapping[str, str]) -> tuple[list[SinkMail], list[str]]:
        """Every mail that the sink took, and which of the secrets are in them. Blocks for a while."""
        found, leaked = [], set()
        for mail in self._testbed.sink.each_message():
            id_field = _MESSAGE_ID.search(mail.content)
            text = _text(email.message_from_bytes(mail.content))
            leaked |= {
                name for name, secret in secrets.items() if secret in text or secret.encode() in mail.content
            }
            found.append(
                SinkMail(
                    message_id=id_field[1].decode("ascii", "replace") if id_field else "",
                    recipient=",".join(mail.recipients),
                    at=mail.received_at,
                    digest=hashlib.sha256(mail.content).hexdigest(),
                    amounts=frozenset(_amounts(text)),
                )
            )
        return found, [f"{name} in a mail" for name in sorted(leaked)]

    async def leaks(self, secrets: Mapping[str, str], events: Iterable[EventRow]) -> list[str]:
        """Every event and log that contains one of the secrets."""
        needles = {name: secret.encode() for name, secret in secrets.items()}
        found = [
            f"{name} in event {event.id}"
            for event in events
            for name, needle in needles.items()
            if needle in event.body
        ]
        for application in self._testbed.applications.values():
            leaked = await asyncio.to_thread(secrets_in, application.log, needles)
            found += [f"{name} in the log of {application.name}" for name in leaked]
        return found


async def preflight(testbed: Testbed) -> None:
    """Raise ``StartFailed`` if given servers are in use: the drill would take over their mails."""
    if not testbed.given:
        return
    collector = Collector(testbed, "", 0.0)
    async with collector.database() as database:
        if number := await database.connections():
            raise StartFailed(f"the application is running on this database ({number} connections). Stop it first")
    if waiting := await collector.pending():
        listed = ", ".join(f"{place} {number}" for place, number in sorted(waiting.items()))
        raise StartFailed(f"there is pending work that a drill would take over: {listed}")


def _text(message: Message) -> str:
    """The plain text of a mail."""
    for part in message.walk():
        if part.get_content_type() == "text/plain":
            payload = part.get_payload(decode=True)
            return payload.decode("utf-8", "replace") if isinstance(payload, bytes) else ""
    return ""


def _amounts(text: str) -> Iterable[int]:
    """Every amount of money as English mails write it, in minor units."""
    for whole, cents in _AMOUNT.findall(text):
        yield int(whole.replace(",", "")) * 100 + int(cents)


def secrets_in(path: Path, needles: Mapping[str, bytes]) -> list[str]:
    """The names of the needles that occur in a file of any size."""
    if not path.stat().st_size:  # nothing to map
        return []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return sorted(name for name, needle in needles.items() if content.find(needle) >= 0)
