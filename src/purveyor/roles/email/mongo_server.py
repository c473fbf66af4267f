"""The MongoDB server from outside: how long to wait for it, what it means to lose it, how to name it."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pymongo.errors import ConnectionFailure, ExecutionTimeout, WriteConcernError

from purveyor.kit.errors import Unavailable

OPERATION_TIMEOUT_S = 1.0  # for one operation on the server; a method may need several, and has twice that
URI_EXPECTED = (
    "MONGODB_URI: expected mongodb:// or mongodb+srv://[user:password@]host[:port][/database], "
    "with special characters in user and password percent-encoded."
)
LOST = (ConnectionFailure, ExecutionTimeout, WriteConcernError, OSError, TimeoutError)


@asynccontextmanager
async def bounded() -> AsyncIterator[None]:
    """A deadline of our own, and ``Unavailable`` for a lost server."""
    try:
        async with asyncio.timeout(2 * OPERATION_TIMEOUT_S):
            yield
    except LOST as lost:
        raise Unavailable("The mail ledger does not answer.") from lost


def address_of(uri: str) -> str:
    """The hosts and ports of a URI that was readable, without anything else."""
    return re.split(r"[/?]", uri.partition("://")[2])[0].rpartition("@")[2]


def short(error: Exception) -> str:
    """The reason without the state of every server, which follows after a comma or in brackets."""
    return re.split(r", Timeout: | \(configured timeouts: |, full error: ", str(error))[0]
