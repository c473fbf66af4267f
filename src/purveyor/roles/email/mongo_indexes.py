"""The indexes of the mail ledger in MongoDB, each for the queries that it serves."""

from typing import Any

import pymongo
from pymongo.errors import OperationFailure

_BUILD_TIMEOUT_S = 600.0
_INDEX_NOT_FOUND = 27

_MAILS = (
    pymongo.IndexModel([("state", 1), ("next_attempt_at", 1)], name="due"),
    pymongo.IndexModel([("state", 1), ("owner", 1)], name="in_hand"),
    pymongo.IndexModel([("event_id", -1)], name="newest"),  # the mails of an event; it was made under this name
    pymongo.IndexModel([("created_at", -1), ("event_id", -1)], name="list"),
    pymongo.IndexModel([("state", 1), ("created_at", -1), ("event_id", -1)], name="list_of_state"),
    pymongo.IndexModel([("recipient", 1), ("created_at", 1), ("_id", 1)], name="of_recipient"),
    pymongo.IndexModel([("updated_at", 1)], name="unreported", partialFilterExpression={"unreported": True}),
    pymongo.IndexModel(
        [("state", 1), ("updated_at", 1)], name="kept", partialFilterExpression={"message": {"$gt": b""}}
    ),
)
_STALE = ("by_state", "by_recipient")
"""Made by older versions; no query of this one needs them."""
_SENDERS = (pymongo.IndexModel([("seen_at", 1)], name="seen_at", expireAfterSeconds=3600),)
"""The documents of senders that are long dead go by themselves."""


async def prepare(mails: Any, senders: Any, *, answer_within_s: float) -> None:
    """Make the indexes that are missing, and drop those that no query needs any longer.

    Of a server that lives, building one for millions of mails may take minutes: it is waited for.
    """
    with pymongo.timeout(answer_within_s):
        known = await mails.index_information()
        await senders.create_indexes(list(_SENDERS))
    missing = [index for index in _MAILS if index.document["name"] not in known]
    with pymongo.timeout(_BUILD_TIMEOUT_S):
        if missing:
            await mails.create_indexes(missing)
        for name in known.keys() & set(_STALE):
            await _drop(mails, name)


async def _drop(mails: Any, name: str) -> None:
    try:
        await mails.drop_index(name)
    except OperationFailure as error:
        if error.code != _INDEX_NOT_FOUND:  # another process starts too
            raise
