"""What the mail ledger in MongoDB does not keep: the text of mails sent long ago, and whoever was erased."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

from purveyor.roles.email.erasure import digest_of
from purveyor.roles.email.mongo_documents import WITH_RECIPIENT, WITH_TEXT, erasure
from purveyor.roles.email.mongo_server import bounded
from purveyor.roles.email.ports import NewMail

_ERASED_AT_ONCE = 25

Now = Callable[[], Awaitable[datetime]]
"""Asks for the server's time."""


class Keeping:
    """Of the collections ``mails`` and ``erased``, the addresses that were erased by their digests."""

    def __init__(self, mails: Any, erased: Any, now: Now) -> None:
        self._mails = mails
        self._erased = erased
        self._now = now

    async def is_erased(self, mail: NewMail) -> bool:
        """Whether a mail's recipient was erased after its event happened."""
        known = {"_id": digest_of(mail.recipient), "erased_at": {"$gt": mail.created_at}}
        return await self._erased.find_one(known, {"_id": 1}) is not None

    async def erase(self, recipient: str, at: datetime) -> int:
        """See ``Ledger``. First what keeps older events from coming again, then away with what is there."""
        async with bounded():
            remembered = {"$max": {"erased_at": at}}
            await self._erased.update_one({"_id": digest_of(recipient)}, remembered, upsert=True)
        erased = 0
        wanted = {"recipient": {"$eq": recipient, **WITH_RECIPIENT["recipient"]}}
        while True:
            async with bounded():
                documents = await self._mails.find(wanted).to_list(_ERASED_AT_ONCE)
                if not documents:
                    break
                now = await self._now()
                await self._mails.bulk_write([step for found in documents for step in erasure(found, now)])
            erased += len(documents)
        return erased

    async def forget_erased(self, older_than_days: int) -> None:
        """See ``Ledger``."""
        async with bounded():
            before = await self._now() - timedelta(days=older_than_days)
            await self._erased.delete_many({"erased_at": {"$lt": before}})

    async def empty_sent(self, older_than_days: int, limit: int) -> int:
        """See ``Ledger``."""
        async with bounded():
            before = await self._now() - timedelta(days=older_than_days)
            old = {"state": "sent", "updated_at": {"$lt": before}, **WITH_TEXT}
            ids = [document["_id"] async for document in self._mails.find(old, {"_id": 1}).limit(limit)]
            await self._mails.update_many({"_id": {"$in": ids}, **old}, {"$set": {"message": b""}})
            return len(ids)
