"""Waits until nothing is in hand any longer, and gathers from every server what the checker needs."""

import asyncio
import email
import hashlib
import re
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from email.message import Message
from pathlib import Path

from purveyor_drill import database, mongo
from purveyor_drill.observations import EventRow, LedgerRow, OrderRow, SinkMail
from purveyor_drill.servers.process import StartFailed
from purveyor_drill.servers.rabbitmq import RabbitServer
from purveyor_drill.testbed import House

SETTLE_S = 60.0
_LOOK_EVERY_S = 0.5
_CHUNK = 1024 * 1024
_AMOUNT = re.compile(r"(?<![\d.,])(\d{1,3}(?:,\d{3})+|\d+)\.(\d\d)(?!\d)")
_MESSAGE_ID = re.compile(rb"(?im)^message-id:\s*(\S+)")


class Reader:
    """Looks at a house from outside: its database, its ledger, its queues, its SMTP sink, its logs."""

    def __init__(self, house: House, domain: str, since: float) -> None:
        self._house = house
        self._domain = domain
        self._since = since

    @asynccontextmanager
    async def database(self) -> AsyncIterator[database.Database]:
        """See ``database.reading``."""
        async with database.reading(self._house.database, self._domain, self._since) as found:
            yield found

    async def orders(self) -> list[OrderRow]:
        """See ``Database``."""
        async with self.database() as found:
            return await found.orders()

    async def events(self) -> list[EventRow]:
        """See ``Database``."""
        async with self.database() as found:
            return await found.events()

    async def ledger(self) -> list[LedgerRow]:
        """Every record of the mail ledger, wherever it is."""
        if self._house.ledger:
            async with mongo.reading(self._house.ledger, self._domain) as mails:
                return await mails.mails()
        async with self.database() as found:
            return await found.mails()

    async def at_data(self) -> int:
        """How many mails are between their final dot and the record of the answer."""
        if self._house.ledger:
            async with mongo.reading(self._house.ledger, self._domain) as mails:
                return await mails.at_data()
        async with self.database() as found:
            return await found.at_data()

    async def in_hand(self) -> dict[str, int]:
        """What is not done yet, by where it is; dead letters are done."""
        async with self.database() as found:
            waiting = {"outbox": await found.unpublished()}
            waiting |= await found.deliveries()
            if not self._house.ledger:
                waiting["mail ledger"] = await found.in_hand()
        if self._house.ledger:
            async with mongo.reading(self._house.ledger, self._domain) as mails:
                waiting["mail ledger"] = await mails.in_hand()
        if not any(waiting.values()):  # asking the broker takes seconds: only when the rest is done
            waiting |= await self.queues()
        return {place: number for place, number in waiting.items() if number and not place.endswith(".dead")}

    async def queues(self) -> dict[str, int]:
        """Messages in the queues of a broker of ours. One that was given is not asked: the ledger tells it too."""
        broker = self._house.servers.get("rabbitmq")
        if not isinstance(broker, RabbitServer):
            return {}
        listed = await asyncio.to_thread(
            broker.rabbitmqctl, "list_queues", "name", "messages", "--no-table-headers"
        )
        rows = [line.split("\t") for line in listed.splitlines() if "\t" in line]
        return {name: int(number) for name, number in rows if number.isdecimal() and int(number)}

    async def waiting(self) -> dict[str, int]:
        """Everything that is in a queue, dead letters included."""
        async with self.database() as found:
            return {**await found.deliveries(), **await self.queues()}

    async def settle(self, within_s: float) -> float | None:
        """Wait until nothing is in hand; how long it took in seconds, ``None`` when it took too long."""
        began = time.monotonic()
        while time.monotonic() - began < within_s:
            try:
                if not await self.in_hand():
                    return time.monotonic() - began
            except OSError:  # a server is still coming up
                pass
            await asyncio.sleep(_LOOK_EVERY_S)
        return None

    async def mails(self, secrets: Mapping[str, str]) -> tuple[list[SinkMail], list[str]]:
        """Every mail that the sink took, and which of the secrets are in them."""
        return await asyncio.to_thread(self._mails, secrets)

    def _mails(self, secrets: Mapping[str, str]) -> tuple[list[SinkMail], list[str]]:
        found, leaked = [], set()
        for mail in self._house.sink.each_message():
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
        """Where one of the secrets is found in an event or in a log."""
        needles = {name: secret.encode() for name, secret in secrets.items()}
        found = [
            f"{name} in event {event.id}"
            for event in events
            for name, needle in needles.items()
            if needle in event.body
        ]
        for application in self._house.applications.values():
            leaked = await asyncio.to_thread(_found_in, application.log, needles)
            found += [f"{name} in the log of {application.name}" for name in leaked]
        return found


async def preflight(house: House) -> None:
    """Raise ``StartFailed`` when servers that were given are at work: the drill would take their mails."""
    if not house.given:
        return
    reader = Reader(house, "", 0.0)
    async with reader.database() as found:
        if number := await found.in_use():
            raise StartFailed(f"the application is running on this database ({number} connections): stop it first")
    if waiting := await reader.in_hand():
        listed = ", ".join(f"{place} {number}" for place, number in sorted(waiting.items()))
        raise StartFailed(f"there is work in hand that a drill would take over: {listed}")


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


def _found_in(path: Path, needles: Mapping[str, bytes]) -> list[str]:
    """Which of these occur in a file of any size."""
    found: set[str] = set()
    overlap = max((len(needle) for needle in needles.values()), default=1) - 1
    tail = b""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            tail += chunk
            found |= {name for name, needle in needles.items() if needle in tail}
            tail = tail[-overlap:] if overlap else b""
    return sorted(found)
