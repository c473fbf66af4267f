"""Login throttling per account and per network, with growing delays."""

import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from purveyor.kit.errors import Problem
from purveyor.kit.limits.memory import Backoff, BackoffPolicy, Decision, Limiter, Rate
from purveyor.roles.auth.contract import InvalidCredentials, TooManyLogins, WrongPassword

log = logging.getLogger(__name__)

_NETWORK_SHARE = 10
"""A network has this many times the free failures of an account."""


class Throttle:
    """Limits attempts to ``rate`` per network and per account; each further failure doubles the delay.

    An account is delayed by up to 15 minutes, for its owner too; a password reset by mail ends the delay. A
    network may have many users, so it has ten times the free failures, which expire after a window of ``rate``.
    Attempts that the network is refused do not count for the account.
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
        """Check a password inside the block; yields the tighter limit.

        Raises ``TooManyLogins`` before the block runs. A wrong password in the block counts as a failure, and its
        error gets the limit's headers. Any other ``Problem`` does not count. Success clears the account's
        failures.
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
        """Clear an account's failures, after its owner proved by mail to be the owner."""
        await self._backoff.forget(f"account {account}")

    async def _hit(self, key: str) -> Decision:
        decision = await self._limiter.hit("login", key, self._rate)
        if not decision.allowed:
            raise TooManyLogins(f"Try again in {decision.reset_s} s.", headers=decision.headers())
        return decision

    async def _begin(self, key: str, policy: BackoffPolicy, limit: Decision) -> None:
        wait_s = await self._backoff.attempt(key, policy)
        if wait_s > 0:
            log.info("login delayed", extra={"by": key.partition(" ")[0], "wait_s": round(wait_s, 1)})
            seconds = str(math.ceil(wait_s))
            raise TooManyLogins(f"Try again in {seconds} s.", headers={**limit.headers(), "Retry-After": seconds})
