"""When MongoDB's mail ledger holds a sender for alive: as long as its document in ``email_senders`` is fresh."""

import asyncio
import contextlib
from collections.abc import Awaitable
from datetime import datetime, timedelta
from typing import Any, Protocol

from purveyor.kit.errors import Unavailable
from purveyor.kit.ids import new_id
from purveyor.roles.email.mongo_server import bounded

BEAT_S = 1.0
DEAD_AFTER_S = 4.0


class Senders(Protocol):
    """The part of a collection that an owner needs."""

    def update_one(self, filter: Any, update: Any, upsert: bool = ...) -> Awaitable[Any]:  # noqa: A002, FBT001 - the driver's
        """See pymongo."""
        ...

    def delete_one(self, filter: Any) -> Awaitable[Any]:  # noqa: A002 - the driver's name
        """See pymongo."""
        ...


class MongoOwner:
    """Satisfies ``Owner``: alive while its last beat is recent."""

    def __init__(self, senders: Senders) -> None:
        self.name = str(new_id())
        self._senders = senders
        self._seen_at = 0.0

    def is_alive(self) -> bool:
        """See ``Owner``. Never true for longer than the others believe it."""
        return asyncio.get_running_loop().time() - self._seen_at < DEAD_AFTER_S

    async def beat(self) -> None:
        """Tell the others that this sender lives. Raises ``Unavailable``."""
        began = asyncio.get_running_loop().time()  # before it is written: the others may count from then on
        async with bounded():
            await self._senders.update_one({"_id": self.name}, {"$currentDate": {"seen_at": True}}, upsert=True)
        self._seen_at = began

    async def keep_beating(self) -> None:
        """Beat until cancelled."""
        while True:
            await asyncio.sleep(BEAT_S)
            with contextlib.suppress(Unavailable):  # the age of the last beat tells
                await self.beat()

    async def leave(self) -> None:
        """Let the others take over at once."""
        with contextlib.suppress(Unavailable):  # then they do when the last beat is old
            async with bounded():
                await self._senders.delete_one({"_id": self.name})


def alive_since(now: datetime) -> datetime:
    """Who was seen after this moment is alive; ``now`` is the server's time."""
    return now - timedelta(seconds=DEAD_AFTER_S)
