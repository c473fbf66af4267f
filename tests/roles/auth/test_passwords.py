"""Password hashes: Argon2id, beside the event loop, in a bounded queue."""

import asyncio

import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.low_level import Type

from purveyor.kit.errors import Unavailable
from purveyor.roles.auth.passwords import Passwords, Verdict, Work


async def test_a_hash_matches_its_password_only(passwords: Passwords) -> None:
    stored = await passwords.hash("correct horse", Work.LOGIN)

    assert await passwords.check("correct horse", stored) is Verdict.RIGHT
    assert await passwords.check("correct horse ", stored) is Verdict.WRONG
    assert await passwords.check("", stored) is Verdict.WRONG
    assert await passwords.check("correct horse", "no hash at all") is Verdict.WRONG
    assert await passwords.check("correct horse", None) is Verdict.WRONG


async def test_equal_passwords_have_different_hashes(passwords: Passwords) -> None:
    assert await passwords.hash("correct horse", Work.LOGIN) != await passwords.hash("correct horse", Work.LOGIN)


async def test_nothing_of_a_long_password_is_cut_off(passwords: Passwords) -> None:
    stored = await passwords.hash("x" * 127 + "a", Work.LOGIN)

    assert await passwords.check("x" * 127 + "b", stored) is Verdict.WRONG


async def test_the_parameters_are_not_below_what_owasp_asks_for(passwords: Passwords) -> None:
    """OWASP Password Storage Cheat Sheet: Argon2id with 19 MiB, 2 iterations, 1 lane."""
    parameters = extract_parameters(await passwords.hash("correct horse", Work.LOGIN))

    assert parameters.type is Type.ID
    assert parameters.memory_cost >= 19_456
    assert parameters.time_cost >= 2
    assert parameters.salt_len >= 16


async def test_a_weaker_hash_is_outdated(passwords: Passwords) -> None:
    weak = PasswordHasher(1, 8_192, 1).hash("correct horse")

    assert await passwords.check("correct horse", weak) is Verdict.OUTDATED
    assert await passwords.check("correct horsf", weak) is Verdict.WRONG


_SPELLINGS = {
    "composed or not": ("Stra\u00dfen caf\u00e9", "Stra\u00dfen cafe\u0301"),
    "full width": ("correct horse", "\uff43\uff4f\uff52\uff52\uff45\uff43\uff54 \uff48\uff4f\uff52\uff53\uff45"),
    "ligature": ("office keys", "o\ufb03ce keys"),
    "Hangul": ("\ud55c\uae00 \ube44\ubc00", "\u1112\u1161\u11ab\u1100\u1173\u11af \u1107\u1175\u1106\u1175\u11af"),
}


@pytest.mark.parametrize("pair", _SPELLINGS.values(), ids=_SPELLINGS)
async def test_one_password_however_a_keyboard_writes_it(passwords: Passwords, pair: tuple[str, str]) -> None:
    for one, other in (pair, pair[::-1]):
        stored = await passwords.hash(one, Work.LOGIN)
        assert await passwords.check(other, stored) is Verdict.RIGHT
        assert await passwords.check(other + "x", stored) is Verdict.WRONG


async def test_a_hash_of_what_was_typed_still_works_and_is_outdated(passwords: Passwords) -> None:
    typed = "o\ufb03ce keys"
    before_normalising = PasswordHasher(2, 19_456, 1).hash(typed)

    assert await passwords.check(typed, before_normalising) is Verdict.OUTDATED
    assert await passwords.check("office keys", before_normalising) is Verdict.WRONG


async def test_the_event_loop_goes_on_while_passwords_are_hashed(passwords: Passwords) -> None:
    turns, hashes = 0, 8
    hashing = asyncio.gather(*(passwords.hash("correct horse", Work.LOGIN) for _ in range(hashes)))
    while not hashing.done():
        await asyncio.sleep(0)
        turns += 1
    await hashing

    assert turns > 10 * hashes, "the loop stood still while hashes were made"


@pytest.mark.parametrize("work", Work)
async def test_a_flood_is_refused_beyond_its_queue_and_the_queue_drains(passwords: Passwords, work: Work) -> None:
    flood = (passwords.hash("x", work) for _ in range(work.value + 20))
    outcomes = await asyncio.gather(*flood, return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, Unavailable)]

    assert len(refused) == 20
    assert sum(isinstance(outcome, str) for outcome in outcomes) == work.value
    assert refused[0].status == 503
    assert int(refused[0].headers["Retry-After"]) >= 1
    assert await passwords.check("x", await passwords.hash("x", Work.LOGIN)) is Verdict.RIGHT


async def test_an_abandoned_attempt_gives_its_place_back(passwords: Passwords) -> None:
    attempts = [asyncio.ensure_future(passwords.hash("x", Work.LOGIN)) for _ in range(Work.LOGIN.value)]
    await asyncio.sleep(0)
    for attempt in attempts:
        attempt.cancel()
    await asyncio.gather(*attempts, return_exceptions=True)

    assert await passwords.hash("x", Work.LOGIN)


async def test_registrations_do_not_keep_anybody_from_signing_in(passwords: Passwords) -> None:
    stored = await passwords.hash("x", Work.LOGIN)
    flood = [asyncio.ensure_future(passwords.hash("x", Work.REGISTRATION)) for _ in range(100)]
    log_ins = await asyncio.gather(*(passwords.check("x", stored) for _ in range(Work.LOGIN.value)))
    await asyncio.gather(*flood, return_exceptions=True)

    assert set(log_ins) == {Verdict.RIGHT}
