"""Export and erasure of personal data, and the retention of mails.

Role email answers a request with an event before the request counts as handled. After a crash in between, the
request is answered again with the same event id.
"""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import msgspec

from purveyor.kit.events.chunking import PART_BYTES, parts, size_inside
from purveyor.kit.events.message import Envelope
from purveyor.kit.poll import MORE, Poll
from purveyor.roles.auth.contract import (
    EmailConfirmationRequested,
    PasswordResetRequested,
    UserErased,
    UserExportRequested,
    UserRegistered,
)
from purveyor.roles.email.contract import MailDataErased, MailDataExported, MailRecord
from purveyor.roles.email.events import answer_to
from purveyor.roles.email.mime import text_of
from purveyor.roles.email.ports import Account, Emit, Ledger
from purveyor.roles.orders.contract import OrderDataErased

REMEMBERED_DAYS = 365
"""Older events could only come from dead letters that are replayed after more than a year."""


def digest_of(text: str) -> str:
    """Return the SHA-256 of an account's id or of an address, to recognize it without storing it."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def happened_at(envelope: Envelope) -> datetime:
    """Return an event's time, with the milliseconds from its UUIDv7 that RabbitMQ's timestamp lacks."""
    at = envelope.occurred_at
    if envelope.id.version != 7 or at.microsecond:  # noqa: PLR2004 - UUIDv7
        return at
    later = timedelta(milliseconds=(envelope.id.int >> 80) - int(at.timestamp()) * 1000)
    return at + later if timedelta(0) <= later < timedelta(seconds=1) else at


log = logging.getLogger(__name__)


_WITH_TOKENS = (PasswordResetRequested.type, EmailConfirmationRequested.type, UserRegistered.type)


class PersonalData:
    """Exports and erases the mails of an account."""

    def __init__(self, ledger: Ledger, emit: Emit) -> None:
        self._ledger = ledger
        self._emit = emit

    async def erase(self, event: UserErased, envelope: Envelope) -> None:
        """Erase the user's mails, including unsent mails and those of older events that are yet to come."""
        erased = await self._ledger.erase(Account(event.user_id, event.user_email), happened_at(envelope))
        log.info("mails erased", extra={"mails": erased, "user_id": event.user_id})
        await self._emit(answer_to(envelope, MailDataErased(user_id=event.user_id)))

    async def erase_later_mails(self, event: OrderDataErased, envelope: Envelope) -> None:
        """Erase the mails about orders that were still open when the user was erased, once role orders is done.

        Role orders answers ``user.erased`` with the first event and tells its progress with later ones.
        """
        if envelope.sequence > 1 and not event.retained:
            await self._ledger.erase(Account(event.user_id, ""), happened_at(envelope))

    async def export(self, event: UserExportRequested, envelope: Envelope) -> None:
        """Emit the user's mails in parts that fit into events; one empty part if there are none."""
        account = Account(event.user_id, event.user_email)
        documents = list(parts([document async for document in self._documents(account)]))
        count = len(documents)
        answers = [
            MailDataExported(export_id=event.export_id, part=part, parts=count, document=document)
            for part, document in enumerate(documents, 1)
        ]
        await self._emit(*(answer_to(envelope, answer, f"{answer.part}/{count}") for answer in answers))

    async def _documents(self, account: Account) -> AsyncIterator[str]:
        after = None
        while page := await self._ledger.of_account(account, after):
            for record, message in page:
                yield _document(record, message)
            after = page[-1][0]


def _document(record: MailRecord, message: bytes) -> str:
    # Without the text of mails with tokens: a stolen session could otherwise get them from an export.
    text = "" if record.kind in _WITH_TOKENS else text_of(message)
    members = msgspec.to_builtins(record)
    while True:
        document = msgspec.json.encode(members | {"text": text}).decode()
        if size_inside(document) <= PART_BYTES or not text:
            return document
        text = text[: len(text) // 2]  # only a foreign order or an own template is this long


_FAREWELLS_EVERY_S = 30.0


class Farewells:
    """Erases the last mail to each deleted account once it is sent."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._poll = Poll(_FAREWELLS_EVERY_S)

    def wake(self) -> None:
        self._poll.wake()

    async def run(self) -> None:
        """Erase until cancelled."""
        await self._poll.run(self._erase)

    async def _erase(self) -> float | None:
        return MORE if await self._ledger.erase_farewells() else None


_BATCH = 200
_PAUSE_S = 0.1


class Retention:
    """Empties the messages of mails that were sent ``keep_days`` ago; 0 keeps them for ever.

    The records stay, so that an event that is delivered again is not mailed again.
    """

    def __init__(self, ledger: Ledger, keep_days: int) -> None:
        self._ledger = ledger
        self._keep_days = keep_days

    async def sweep(self) -> int:
        """Empty all due messages in small batches, which lock briefly; return how many."""
        await self._ledger.forget_old(REMEMBERED_DAYS)
        emptied = 0
        while self._keep_days and (batch := await self._ledger.empty_sent(self._keep_days, _BATCH)):
            emptied += batch
            await asyncio.sleep(_PAUSE_S)
        if emptied:
            log.info("messages of sent mails emptied", extra={"mails": emptied, "keep_days": self._keep_days})
        return emptied
