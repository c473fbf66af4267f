"""Login throttling per account and per network, with growing delays."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from purveyor.kit.limits.memory import Backoff, BackoffPolicy, Decision, Limiter, Rate
from purveyor.kit.limits.networks import give_back_network, hit_network
from purveyor.roles.auth.contract import InvalidCredentials, TooManyLogins, WrongPassword

log = logging.getLogger(__name__)

_POLICY = "login"
_SHARE = 10
"""A network, and an account from all networks, have this many times the free failures of one account from one."""
_MOST_WAIT_S = 5.0


class _Turn:
    """The attempts of a network that are being checked here, which may turn out not to count."""

    def __init__(self) -> None:
        self.running = 0
        self.ended = asyncio.Event()


class Throttle:
    """Limits log-ins to ``rate``: the failures of a network, and the attempts at an account.

    Whom one network locks out of an account can still sign in from another: attempts are counted per account and
    network, and a network uses at most half of what an account may be tried from everywhere. Each further failure
    doubles the delay of the network at that account, up to 15 minutes, and much later that of the account, up to a
    minute. Refused attempts do not count. A password reset by mail ends all delays.
    """

    def __init__(self, limiter: Limiter, backoff: Backoff, rate: Rate) -> None:
        self._limiter = limiter
        self._backoff = backoff
        self._rate = rate
        self._pair_policy = BackoffPolicy(free=rate.quota)
        self._account_policy = BackoffPolicy(free=_SHARE * rate.quota, longest_s=60)
        self._network_policy = BackoffPolicy(
            free=_SHARE * rate.quota,
            longest_s=min(rate.window_s, BackoffPolicy.longest_s),
            forget_s=rate.window_s,
        )
        self._turns: dict[str, _Turn] = {}

    @asynccontextmanager
    async def attempt(self, account: str, network: str) -> AsyncIterator[Decision]:
        """Check a password inside the block; yields the tighter limit.

        Raises ``TooManyLogins`` before the block runs. A wrong password in the block counts as a failure, and its
        error gets the limit's headers. Any other ``Problem`` does not count. Success clears the failures at the
        account.
        """
        of_network, of_account, of_pair = f"network {network}", f"account {account}", _pair(account, network)
        async with AsyncExitStack() as stack:
            limit = await self._enter(network)
            stack.callback(self._leave, network)
            undo = await stack.enter_async_context(AsyncExitStack())
            undo.push_async_callback(give_back_network, self._limiter, _POLICY, network, self._rate)
            limit = min(limit, await self._hit(account, network), key=lambda decision: decision.remaining)
            for key, policy in (
                (of_network, self._network_policy),
                (of_pair, self._pair_policy),
                (of_account, self._account_policy),
            ):
                await self._begin(key, policy, limit)
                undo.push_async_callback(self._backoff.take_back, key)
            try:
                yield limit
            except (InvalidCredentials, WrongPassword) as failure:
                undo.pop_all()
                failure.headers |= limit.headers()
                raise
            undo.push_async_callback(self._backoff.forget, of_pair)
            undo.push_async_callback(self._backoff.forget, of_account)

    async def forgive(self, account: str, network: str) -> None:
        """Clear the failures at an account and of this network, whose user proved by mail to be the owner."""
        for key in (f"account {account}", f"network {network}", _pair(account, network)):
            await self._backoff.forget(key)
            await self._limiter.forget(_POLICY, key, self._rate)

    async def _enter(self, network: str) -> Decision:
        """Count an attempt as a failure of the network; while others are being checked, wait for their end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_MOST_WAIT_S):
                while True:
                    turn = self._turns.get(network)
                    limit = await hit_network(self._limiter, _POLICY, network, self._rate)
                    if limit.allowed:
                        self._turns.setdefault(network, _Turn()).running += 1
                        return limit
                    if turn is None:
                        break
                    await turn.ended.wait()
        raise _refused(limit)

    def _leave(self, network: str) -> None:
        turn = self._turns.pop(network)
        turn.ended.set()
        if turn.running > 1:
            following = self._turns[network] = _Turn()
            following.running = turn.running - 1

    async def _hit(self, account: str, network: str) -> Decision:
        """Count an attempt at an account."""
        of_pair = await self._limiter.hit(_POLICY, _pair(account, network), self._rate)
        if not of_pair.allowed:
            raise _refused(of_pair)
        if of_pair.rate.quota - of_pair.remaining > math.ceil(of_pair.rate.quota / 2):
            return of_pair
        of_account = await self._limiter.hit(_POLICY, f"account {account}", self._rate)
        if not of_account.allowed:
            await self._limiter.give_back(_POLICY, _pair(account, network), self._rate)
            raise _refused(of_account)
        return min(of_pair, of_account, key=lambda decision: decision.remaining)

    async def _begin(self, key: str, policy: BackoffPolicy, limit: Decision) -> None:
        wait_s = await self._backoff.attempt(key, policy)
        if wait_s > 0:
            log.info("login delayed", extra={"by": key.partition(" ")[0], "wait_s": round(wait_s, 1)})
            seconds = str(math.ceil(wait_s))
            raise TooManyLogins(f"Try again in {seconds} s.", headers={**limit.headers(), "Retry-After": seconds})


def _pair(account: str, network: str) -> str:
    return f"account {account} from {network}"


def _refused(limit: Decision) -> TooManyLogins:
    return TooManyLogins(f"Try again in {limit.reset_s} s.", headers=limit.headers())
