"""How many guesses at passwords there may be: per account and per network, with growing delays."""

import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from purveyor.kit.backoff import Backoff, Growth
from purveyor.kit.errors import Problem
from purveyor.kit.ratelimit import Limiter, Rate
from purveyor.roles.auth.errors import InvalidCredentials, TooManyLogins, WrongPassword

log = logging.getLogger(__name__)


class Throttle:
    """Limits attempts to ``rate`` in any case; beyond as many failures, each doubles the wait, up to 15 minutes.

    An account waits wherever the attempts come from, so the owner too, but never longer than that; a new password
    by mail ends the wait. Attempts that are refused count for nobody.
    """

    def __init__(self, limiter: Limiter, backoff: Backoff, rate: Rate) -> None:
        self._limiter = limiter
        self._backoff = backoff
        self._rate = rate
        self._growth = Growth(free=rate.quota)

    @asynccontextmanager
    async def attempt(self, account: str, network: str) -> AsyncIterator[None]:
        """Check a password inside. Raises ``TooManyLogins`` before anything is done.

        When the block raises that the password is wrong, the attempt was a failure; when it raises another
        ``Problem``, there was no attempt; when it ends well, the account's failures are forgotten.
        """
        keys = [f"account {account}", f"network {network}"]
        for key in keys:
            decision = await self._limiter.hit("login", key, self._rate)
            if not decision.allowed:
                raise TooManyLogins(f"Try again in {decision.reset_s} s.", headers=decision.headers())
        await self._begin(keys)
        try:
            yield
        except (InvalidCredentials, WrongPassword):
            raise
        except Problem:
            for key in keys:
                await self._backoff.take_back(key)
            raise
        else:
            await self._backoff.forget(keys[0])
            await self._backoff.take_back(keys[1])

    async def forgive(self, account: str) -> None:
        """Whoever proves by mail that the account is theirs need not wait for what others did."""
        await self._backoff.forget(f"account {account}")

    async def _begin(self, keys: list[str]) -> None:
        for place, key in enumerate(keys):
            wait_s = await self._backoff.attempt(key, self._growth)
            if wait_s > 0:
                for begun in keys[:place]:
                    await self._backoff.take_back(begun)
                log.info("log-in delayed", extra={"by": key.partition(" ")[0], "wait_s": round(wait_s, 1)})
                seconds = math.ceil(wait_s)
                raise TooManyLogins(f"Try again in {seconds} s.", headers={"Retry-After": str(seconds)})
