"""Reads the mail ledger if it is kept in MongoDB, with the drill's own queries."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from purveyor_drill.observations import FINAL, LedgerRow

_TIMEOUT_MS = 5000
_FIELDS = LedgerRow.__struct_fields__


class MongoMails:
    """The collection of mails; ``mails`` gives only those to ``domain``."""

    def __init__(self, mails: Any, domain: str) -> None:
        self._mails = mails
        self._ours = {"recipient": {"$regex": f"@{re.escape(domain)}$"}}

    async def mails(self) -> list[LedgerRow]:
        found = self._mails.find(self._ours, dict.fromkeys(_FIELDS, 1) | {"_id": 0})
        return [LedgerRow(**{name: record[name] for name in _FIELDS}) async for record in found]

    async def pending(self) -> int:
        """Count the emails in the ledger that have no final state."""
        return int(await self._mails.count_documents({"state": {"$nin": list(FINAL)}}))

    async def at_data(self) -> int:
        """Count the emails between their final dot and the record of the reply."""
        return int(await self._mails.count_documents({"state": "data"}))


@asynccontextmanager
async def open_mongo(uri: str, domain: str) -> AsyncIterator[MongoMails]:
    """A connection to read with. Raises ``ConnectionError`` while the server is away."""
    async with AsyncMongoClient[dict[str, Any]](uri, timeoutMS=_TIMEOUT_MS) as client:
        try:
            yield MongoMails(client.get_default_database("purveyor")["email_logs"], domain)
        except PyMongoError as lost:
            raise ConnectionError(str(lost)) from lost
