"""The outlet's queue in MongoDB, for the events of a ledger without an outbox."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from motor.motor_asyncio import AsyncIOMotorCollection

from purveyor.kit.clock import now
from purveyor.kit.events.message import Envelope
from purveyor.kit.events.outlet import Taken
from purveyor.kit.events.transport import Publisher
from purveyor.roles.email.ledger.mongo import MongoLedger, bounded
from purveyor.roles.email.ledger.mongo_documents import Document

_LEASE = {"_id": "outlet"}
_LEASE_FOR = timedelta(seconds=30)
"""Longer than a batch takes. An outlet that dies keeps others waiting for that long."""
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class MongoOutletQueue:
    """Keeps each event that ``publisher`` has confirmed, before the ledger learns that it was published.

    Unlike in PostgreSQL, events reach the outlet only after the transport has them. After a crash in between, the
    ledger publishes them again.
    """

    def __init__(self, ledger: MongoLedger, publisher: Publisher) -> None:
        self._ledger = ledger
        self._publisher = publisher
        self._is_on = False

    @property
    def _events(self) -> AsyncIOMotorCollection[Document]:
        return self._ledger.database["outlet"]

    @property
    def _leases(self) -> AsyncIOMotorCollection[Document]:
        return self._ledger.database["outlet_leases"]

    async def publish(self, envelopes: Sequence[Envelope]) -> Sequence[Exception | None]:
        outcomes = await self._publisher.publish(envelopes)
        if self._is_on:
            confirmed = [sent for sent, error in zip(envelopes, outcomes, strict=True) if error is None]
            await asyncio.gather(*map(self._keep, confirmed))
        return outcomes

    async def _keep(self, event: Envelope) -> None:
        document = msgspec.structs.asdict(event) | {"id": str(event.id), "added": now()}
        async with bounded():
            await self._events.update_one({"_id": str(event.id)}, {"$setOnInsert": document}, upsert=True)

    async def switch_on(self) -> None:
        async with bounded():
            await self._leases.update_one(_LEASE, {"$setOnInsert": {"until": _NEVER}}, upsert=True)
            await self._events.create_index("added")
        self._is_on = True

    async def switch_off(self) -> None:
        self._is_on = False
        async with bounded():
            await self._leases.delete_one(_LEASE)
            await self._events.delete_many({})

    async def is_on(self) -> bool:
        async with bounded():
            self._is_on = await self._leases.find_one(_LEASE) is not None
        return self._is_on

    @asynccontextmanager
    async def take(self, limit: int, refused: Collection[str]) -> AsyncIterator[Taken]:
        until = now() + _LEASE_FOR
        async with bounded():
            lease: Any = await self._leases.find_one_and_update(
                {**_LEASE, "until": {"$lt": now()}}, {"$set": {"until": until}}
            )
            taken = Taken(await self._first(limit, refused) if lease else ())
        try:
            yield taken
        finally:
            async with bounded():
                if taken.done:
                    await self._events.delete_many({"_id": {"$in": [str(each) for each in taken.done]}})
                if lease:
                    await self._leases.update_one({**_LEASE, "until": until}, {"$set": {"until": _NEVER}})

    async def _first(self, limit: int, refused: Collection[str]) -> Sequence[Envelope]:
        hidden = {"_id": 0, "added": 0}
        found = self._events.find({"type": {"$nin": list(refused)}}, hidden).sort("added", 1).limit(limit)
        return [Envelope(**document | {"id": UUID(document["id"])}) async for document in found]

    async def waiting(self) -> tuple[int, float]:
        async with bounded():
            count: int = await self._events.count_documents({})
            oldest: Any = await self._events.find_one({}, sort=[("added", 1)])
        return count, max(0.0, (now() - oldest["occurred_at"]).total_seconds()) if oldest else 0.0

    async def tidy(self) -> None:
        """Nothing is undone here."""
