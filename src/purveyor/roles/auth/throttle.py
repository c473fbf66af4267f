"""How many guesses at passwords there may be: per account and per network, with growing delays."""

import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from purveyor.kit.errors import Problem
from purveyor.kit.limits.memory import Backoff, BackoffPolicy, Decision, Limiter, Rate
from purveyor.roles.auth.contract import InvalidCredentials, TooManyLogins, WrongPassword

log = logging.getLogger(__name__)

_NETWORK_SHARE = 10
"""How many times as many failures as an account a network has free."""


class Throttle:
    """Limits attempts to ``rate`` per network and per account; beyond as many failures, each doubles the wait.

    An account waits up to 15 minutes wherever the attempts come from, so the owner too, but never longer than
    that; a new password by mail ends the wait. A network may have many users: it has ten times as many failures
    free, and they are forgotten after a window of ``rate`` without any. What a network may not try counts for no
    account.
    """

    def __init__(self, limiter: Limiter, backoff: Backoff, rate: Rate) -> None:
        self._limiter = limiter
        self._backoff = backoff
        self._rate = rate
        self._account_policy = BackoffPolicy(free=rate.quota)
        self._network_policy = BackoffPolicy(
            free=_NETWORK_SHARE * rate.quota,
            longest_s=min(rate.window_s, BackoffPolicy.longest_s),
            forget_s=rate.window_s,
        )

    @asynccontextmanager
    async def attempt(self, account: str, network: str) -> AsyncIterator[Decision]:
        """Check a password inside; gives the limit that is nearer.

        Raises ``TooManyLogins`` before anything is done. When the block raises that the password is wrong, the
        attempt was a failure, and the answer tells of the limit; when it raises another ``Problem``, there was no
        attempt; when it ends well, the account's failures are forgotten.
        """
        of_network, of_account = f"network {network}", f"account {account}"
        limit = min(
            [await self._hit(of_network), await self._hit(of_account)], key=lambda decision: decision.remaining
        )
        await self._begin(of_network, self._network_policy, limit)
        try:
            await self._begin(of_account, self._account_policy, limit)
        except TooManyLogins:
            await self._backoff.take_back(of_network)
            raise
        try:
            yield limit
        except (InvalidCredentials, WrongPassword) as failure:
            failure.headers |= limit.headers()
            raise
        except Problem:
            await self._backoff.take_back(of_network)
            await self._backoff.take_back(of_account)
            raise
        else:
            await self._backoff.take_back(of_network)
            await self._backoff.forget(of_account)

    async def forgive(self, account: str) -> None:
        """Whoever proves by mail that the account is theirs need not wait for what others did."""
        await self._backoff.forget(f"account {account}")

    async def _hit(self, key: str) -> Decision:
        decision = await self._limiter.hit("login", key, self._rate)
        if not decision.allowed:
            raise TooManyLogins(f"Try again in {decision.reset_s} s.", headers=decision.headers())
        return decision

    async def _begin(self, key: str, policy: BackoffPolicy, limit: Decision) -> None:
        wait_s = await self._backoff.attempt(key, policy)
        if wait_s > 0:
            log.info("log-in delayed", extra={"by": key.partition(" ")[0], "wait_s": round(wait_s, 1)})
            seconds = str(math.ceil(wait_s))
            raise TooManyLogins(f"Try again in {seconds} s.", headers={**limit.headers(), "Retry-After": seconds})
