"""Guessing at passwords: from one network, from many, in bursts; and the owner, who must get in."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from purveyor.kit.db.postgres import Database, open_database
from purveyor.kit.errors import Problem, Unavailable
from purveyor.kit.ids import new_id
from purveyor.kit.limits import redis as limits
from purveyor.kit.limits.memory import Backoff, BackoffPolicy, MemoryBackoff, MemoryLimiter, Rate
from purveyor.kit.limits.networks import WIDER_SHARE
from purveyor.kit.limits.redis import RedisBackoff, open_redis
from purveyor.roles.auth.contract import InvalidCredentials, TooManyLogins
from purveyor.roles.auth.passwords import Passwords
from purveyor.roles.auth.throttle import Throttle
from purveyor_drill.servers.postgres import PostgresServer
from purveyor_drill.servers.redis import RedisServer
from roles.auth.samples import HERE, NEW_PASSWORD, PASSWORD, CountingHasher, Process, fresh_email
from roles.auth.test_password_changes import forgotten
from waiting import PATIENCE_S

ELSEWHERE = "198.51.100.9"


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    if reason := RedisServer.available():
        pytest.skip(reason)
    with RedisServer() as running:
        yield running


@pytest.fixture(params=["memory", "redis"])
async def backoff(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Backoff]:
    if request.param == "memory":
        yield MemoryBackoff()
        return
    monkeypatch.setattr(limits, "_PATIENCE_S", PATIENCE_S)
    async with open_redis(request.getfixturevalue("redis_server").url) as client:
        yield RedisBackoff(client, MemoryBackoff())


@pytest.fixture
def strict(database: Database, passwords: Passwords) -> Process:
    """Five attempts a minute."""
    return Process(database, passwords, Rate(5, 60))


class Slow:
    """A throttle whose rate never stands in the way: only the delays do, and they outlast every test."""

    def __init__(self, backoff: Backoff, free: int) -> None:
        self.throttle = Throttle(MemoryLimiter(), backoff, Rate(10_000, 1))
        policy = BackoffPolicy(free=free, first_s=600)
        self.throttle._account_policy = self.throttle._pair_policy = self.throttle._network_policy = policy
        self.waits_s: list[int] = []

    async def attempt(self, account: str, network: str, outcome: Problem | None) -> bool:
        """Make an attempt that ends so; whether it could be made."""
        try:
            async with self.throttle.attempt(account, network):
                if outcome is not None:
                    raise outcome
        except TooManyLogins as refusal:
            self.waits_s.append(int(refusal.headers["Retry-After"]))
            return False
        except Problem as problem:
            if problem is not outcome:
                raise
        return True

    async def failures(self, account: str, count: int, network: str) -> list[bool]:
        return [await self.attempt(account, network, InvalidCredentials()) for _ in range(count)]


async def attempts(log_in: Callable[[int], Awaitable[object]], count: int) -> dict[type, int]:
    outcomes = await asyncio.gather(*(log_in(place) for place in range(count)), return_exceptions=True)
    kinds = [type(outcome) for outcome in outcomes]
    return {kind: kinds.count(kind) for kind in set(kinds)}


async def test_attempts_are_limited_per_account_from_wherever_they_come(strict: Process) -> None:
    """All at once, and far more than may wait for a hash: they are counted before any work is done."""
    user = await strict.registered()
    spellings = (user.email, user.email.upper(), f"{user.email[:3].upper()}{user.email[3:]}")
    outcomes = await attempts(
        lambda place: strict.sessions.log_in(spellings[place % 3], "wrong", f"network {place}"), 200
    )

    assert outcomes == {InvalidCredentials: 5, TooManyLogins: 195}
    with pytest.raises(TooManyLogins) as refusal:
        await strict.sessions.log_in(user.email, PASSWORD, "a new network")
    assert refusal.value.status == 429
    assert 1 <= int(refusal.value.headers["Retry-After"]) <= 60
    other = await strict.registered()
    assert await strict.sessions.log_in(other.email, PASSWORD, "a new network")


async def test_attempts_are_limited_per_network_whomever_they_try(strict: Process) -> None:
    user = await strict.registered()
    outcomes = await attempts(lambda _: strict.sessions.log_in(fresh_email(), "wrong", "192.0.2.7"), 200)

    assert outcomes == {InvalidCredentials: 5, TooManyLogins: 195}
    with pytest.raises(TooManyLogins):
        await strict.sessions.log_in(user.email, PASSWORD, "192.0.2.7")
    assert await strict.sessions.log_in(user.email, PASSWORD, "192.0.2.8")


async def test_one_network_cannot_use_up_what_the_accounts_of_others_may_try(strict: Process) -> None:
    user = await strict.registered()
    await attempts(lambda _: strict.sessions.log_in(fresh_email(), "wrong", HERE), 5)
    outcomes = await attempts(lambda _: strict.sessions.log_in(user.email, "wrong", HERE), 50)

    assert outcomes == {TooManyLogins: 50}
    assert await strict.sessions.log_in(user.email, PASSWORD, ELSEWHERE)


async def test_who_gets_in_and_who_does_not_is_told_how_many_attempts_are_left(strict: Process) -> None:
    user = await strict.registered()
    _, limit = await strict.sessions.log_in(user.email, PASSWORD, HERE)
    with pytest.raises(InvalidCredentials) as refusal:
        await strict.sessions.log_in(user.email, "wrong", ELSEWHERE)

    assert limit.headers().keys() == {"RateLimit-Policy", "RateLimit"}
    assert (limit.rate, limit.remaining) == (Rate(5, 60), 4)
    assert refusal.value.headers["RateLimit-Policy"] == '"login";q=5;w=60'
    assert refusal.value.headers["RateLimit"].startswith('"login";r=3;t=')
    assert refusal.value.headers["WWW-Authenticate"] == "Bearer"


async def test_an_attempt_that_is_refused_costs_no_hash(
    database: Database, passwords: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasher = CountingHasher(passwords)
    monkeypatch.setattr(passwords, "_hasher", hasher)
    process, email = Process(database, passwords, Rate(1, 60)), fresh_email()
    with pytest.raises(InvalidCredentials):
        await process.sessions.log_in(email, "wrong", HERE)
    outcomes = await attempts(lambda _: process.sessions.log_in(email, "wrong", HERE), 100)

    assert outcomes == {TooManyLogins: 100}
    assert len(hasher.compared) == 1


async def test_a_mailed_token_ends_the_wait_of_an_account(database: Database, passwords: Passwords) -> None:
    backoff = MemoryBackoff()
    process = Process(database, passwords, backoff=backoff)
    user = await process.registered()
    assert await Slow(backoff, 1).failures(user.email, 3, HERE) == [True, True, False]
    with pytest.raises(TooManyLogins):
        await process.sessions.log_in(user.email, PASSWORD, HERE)
    await process.changes.reset(await forgotten(process, user), NEW_PASSWORD, HERE)

    assert await process.sessions.log_in(user.email, NEW_PASSWORD, HERE)


async def test_a_mailed_token_clears_the_limits_as_well(strict: Process) -> None:
    user = await strict.registered()
    await attempts(lambda _: strict.sessions.log_in(user.email, "wrong", HERE), 20)
    with pytest.raises(TooManyLogins):
        await strict.sessions.log_in(user.email, PASSWORD, HERE)
    await strict.changes.reset(await forgotten(strict, user), NEW_PASSWORD, HERE)

    assert await strict.sessions.log_in(user.email, NEW_PASSWORD, HERE)
    assert await strict.sessions.log_in(user.email, NEW_PASSWORD, ELSEWHERE)


async def test_one_network_cannot_keep_the_owner_out_elsewhere(strict: Process) -> None:
    user = await strict.registered()
    outcomes = await attempts(lambda _: strict.sessions.log_in(user.email, "wrong", HERE), 100)

    assert outcomes == {InvalidCredentials: 5, TooManyLogins: 95}
    assert await strict.sessions.log_in(user.email, PASSWORD, ELSEWHERE)


async def test_right_passwords_do_not_use_up_the_limit_of_a_network(strict: Process) -> None:
    """One after the other, and all at once: an office behind one address."""
    users = [await strict.registered() for _ in range(12)]
    for user in users:
        assert await strict.sessions.log_in(user.email, PASSWORD, HERE)
    outcomes = await attempts(lambda place: strict.sessions.log_in(users[place].email, PASSWORD, HERE), 12)

    assert outcomes == {tuple: 12}
    assert await attempts(lambda _: strict.sessions.log_in(fresh_email(), "wrong", HERE), 9) == {
        InvalidCredentials: 5,
        TooManyLogins: 4,
    }


async def test_networks_of_a_company_share_a_larger_limit(strict: Process) -> None:
    networks = [f"2001:db8:1:{place:x}::/64" for place in range(60)]
    refused = [
        await attempts(lambda _, network=network: strict.sessions.log_in(fresh_email(), "wrong", network), 1)
        for network in networks
    ].count({TooManyLogins: 1})

    assert refused == 60 - 5 * WIDER_SHARE


# The growing delays alone


@pytest.fixture
def account() -> str:
    return fresh_email()


@pytest.fixture
def network() -> str:
    return str(new_id())


async def test_wrong_passwords_beyond_the_free_ones_must_wait(
    backoff: Backoff, account: str, network: str
) -> None:
    slow = Slow(backoff, 3)

    assert await slow.failures(account, 7, network) == [True] * 4 + [False] * 3
    assert [0 < wait_s <= 600 for wait_s in slow.waits_s] == [True] * 3
    with pytest.raises(TooManyLogins) as refusal:
        await slow.throttle.attempt(account, network).__aenter__()
    assert refusal.value.headers.keys() == {"RateLimit-Policy", "RateLimit", "Retry-After"}


async def test_a_burst_cannot_pass(backoff: Backoff, account: str) -> None:
    slow = Slow(backoff, 3)

    async def guess(place: int) -> None:
        async with slow.throttle.attempt(account, f"{account} {place}"):
            await asyncio.sleep(0.05)  # as a hash takes
            raise InvalidCredentials

    outcomes = await asyncio.gather(*(guess(place) for place in range(50)), return_exceptions=True)
    kinds = [type(outcome) for outcome in outcomes]

    assert (kinds.count(InvalidCredentials), kinds.count(TooManyLogins)) == (4, 46)


async def test_nobody_waits_longer_than_fifteen_minutes() -> None:
    throttle = Throttle(MemoryLimiter(), MemoryBackoff(), Rate(10, 60))
    pairs, accounts, networks = throttle._pair_policy, throttle._account_policy, throttle._network_policy

    assert (pairs.free, accounts.free, networks.free) == (10, 100, 100)
    assert max(pairs.delay_s(failures) for failures in range(10_000)) == 900
    assert max(accounts.delay_s(failures) for failures in range(10_000)) == 60
    assert max(networks.delay_s(failures) for failures in range(10_000)) == networks.forget_s == 60


async def test_who_shares_a_network_does_not_wait_for_what_others_mistyped(
    backoff: Backoff, account: str, network: str
) -> None:
    for _ in range(29):
        throttle = Throttle(MemoryLimiter(), backoff, Rate(3, 60))  # as in another minute
        with pytest.raises(InvalidCredentials):
            async with throttle.attempt(fresh_email(), network):
                raise InvalidCredentials

    async with throttle.attempt(account, network) as limit:
        assert limit.allowed


async def test_success_forgets_what_the_account_failed(backoff: Backoff, account: str, network: str) -> None:
    slow = Slow(backoff, 3)
    await slow.failures(account, 3, network)
    assert await slow.attempt(account, str(new_id()), None)

    assert await slow.failures(account, 5, str(new_id())) == [True] * 4 + [False]


async def test_ones_own_account_does_not_pay_for_guesses_at_others(
    backoff: Backoff, account: str, network: str
) -> None:
    """Between the guesses somebody logs in to their own account: the network's failures still count."""
    slow = Slow(backoff, 3)
    for _ in range(3):
        await slow.attempt(fresh_email(), network, InvalidCredentials())
        assert await slow.attempt(account, network, None)

    assert await slow.failures(fresh_email(), 2, network) == [True, False]


async def test_refused_attempts_count_for_nobody(backoff: Backoff, account: str, network: str) -> None:
    slow, other = Slow(backoff, 3), fresh_email()
    await slow.failures(account, 4, str(new_id()))
    assert await slow.failures(account, 10, network) == [False] * 10
    assert await slow.failures(fresh_email(), 4, network) == [True] * 4, "the network was not at fault"

    assert not await slow.attempt(other, network, None)
    assert await slow.failures(other, 4, str(new_id())) == [True] * 4, "the account was not tried"


async def test_our_own_trouble_is_nobodys_failure(backoff: Backoff, account: str, network: str) -> None:
    slow = Slow(backoff, 3)
    for _ in range(20):
        assert await slow.attempt(account, network, Unavailable())

    assert await slow.failures(account, 5, network) == [True] * 4 + [False]


async def test_a_database_that_is_away_locks_nobody_out(passwords: Passwords) -> None:
    with PostgresServer() as server:
        url = server.create_database("throttled")
        server.kill()
        async with open_database(url, application="tests", max_size=2) as database:
            process, email = Process(database, passwords, Rate(3, 1)), fresh_email()
            outcomes = []
            for _ in range(6):
                outcomes += list(await attempts(lambda _: process.sessions.log_in(email, PASSWORD, HERE), 1))
                await asyncio.sleep(0.4)

    assert set(outcomes) <= {Unavailable, TooManyLogins}
    assert outcomes.count(Unavailable) >= 5
