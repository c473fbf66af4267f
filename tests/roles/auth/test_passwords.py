"""Password hashes: Argon2id, beside the event loop, in a bounded queue."""

import asyncio
import time
from collections.abc import Iterator

import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.low_level import Type

from purveyor.kit.errors import Unavailable
from purveyor.roles.auth.passwords import Passwords

QUEUE = 50


@pytest.fixture(scope="module")
def passwords() -> Iterator[Passwords]:
    made = Passwords()
    yield made
    made.close()


async def test_a_hash_matches_its_password_only(passwords: Passwords) -> None:
    stored = await passwords.hash("correct horse")

    assert await passwords.matches("correct horse", stored)
    assert not await passwords.matches("correct horse ", stored)
    assert not await passwords.matches("", stored)
    assert not await passwords.matches("correct horse", "no hash at all")
    assert not await passwords.matches("correct horse", None)


async def test_equal_passwords_have_different_hashes(passwords: Passwords) -> None:
    assert await passwords.hash("correct horse") != await passwords.hash("correct horse")


async def test_nothing_of_a_long_password_is_cut_off(passwords: Passwords) -> None:
    stored = await passwords.hash("x" * 127 + "a")

    assert not await passwords.matches("x" * 127 + "b", stored)


async def test_the_parameters_are_not_below_what_owasp_asks_for(passwords: Passwords) -> None:
    """OWASP Password Storage Cheat Sheet: Argon2id with 19 MiB, 2 iterations, 1 lane."""
    parameters = extract_parameters(await passwords.hash("correct horse"))

    assert parameters.type is Type.ID
    assert parameters.memory_cost >= 19_456
    assert parameters.time_cost >= 2
    assert parameters.salt_len >= 16


async def test_a_weaker_hash_is_outdated(passwords: Passwords) -> None:
    assert passwords.is_outdated(PasswordHasher(1, 8_192, 1).hash("correct horse"))
    assert not passwords.is_outdated(await passwords.hash("correct horse"))


async def test_the_event_loop_goes_on_while_passwords_are_hashed(passwords: Passwords) -> None:
    longest = 0.0
    hashing = asyncio.gather(*(passwords.hash("correct horse") for _ in range(8)))
    began = last = time.perf_counter()
    while not hashing.done():
        await asyncio.sleep(0)
        longest = max(longest, time.perf_counter() - last)
        last = time.perf_counter()
    await hashing

    assert longest < (last - began) / 2, "the loop stood still while hashes were made"


async def test_a_flood_is_refused_beyond_the_queue_and_the_queue_drains(passwords: Passwords) -> None:
    outcomes = await asyncio.gather(*(passwords.hash("x") for _ in range(QUEUE + 20)), return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, Unavailable)]

    assert len(refused) == 20
    assert sum(isinstance(outcome, str) for outcome in outcomes) == QUEUE
    assert refused[0].status == 503
    assert int(refused[0].headers["Retry-After"]) >= 1
    assert await passwords.matches("x", await passwords.hash("x"))


async def test_an_abandoned_attempt_gives_its_place_back(passwords: Passwords) -> None:
    attempts = [asyncio.ensure_future(passwords.hash("x")) for _ in range(QUEUE)]
    await asyncio.sleep(0)
    for attempt in attempts:
        attempt.cancel()
    await asyncio.gather(*attempts, return_exceptions=True)

    assert await passwords.hash("x")
