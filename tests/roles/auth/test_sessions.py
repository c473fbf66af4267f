"""Sessions: logging in, refreshing under races and theft, logging out, and how soon a revocation counts."""

import asyncio
import logging

import msgspec
import pytest
from argon2 import PasswordHasher

from purveyor.kit.db.postgres import Database
from purveyor.kit.errors import NotFound, TokenInvalid
from purveyor.roles.auth.contract import (
    GetAddress,
    InvalidCredentials,
    RefreshTokenInvalid,
    SetAccess,
    VerifyToken,
)
from purveyor.roles.auth.passwords import Passwords
from purveyor.roles.auth.sessions import TokenPair
from purveyor.roles.auth.tokens import RefreshToken, Tokens
from roles.auth.samples import HERE, HOME, LIFETIME_S, PASSWORD, SECRET, CountingHasher, Process
from waiting import PATIENCE_S


async def works(process: Process, pair: TokenPair) -> bool:
    """Whether an access token opens anything in a process."""
    try:
        await process.sessions.verify(VerifyToken(token=pair.access_token))
    except TokenInvalid:
        return False
    return True


async def grow_old(process: Process, pair: TokenPair, seconds: float) -> None:
    """Make a session's last exchange so many seconds older."""
    session = Tokens(SECRET, LIFETIME_S).read(pair.access_token).session_id
    await process.database.execute(
        "update auth.sessions set refreshed_at = refreshed_at - make_interval(secs => $2) where id = $1",
        session,
        seconds,
    )


async def refused(process: Process, refresh_token: str) -> bool:
    try:
        await process.sessions.refresh(refresh_token)
    except RefreshTokenInvalid:
        return True
    return False


async def test_a_log_in_gives_a_pair(here: Process) -> None:
    pair = await here.logged_in(await here.registered())

    assert (pair.token_type, pair.expires_in) == ("bearer", LIFETIME_S)
    assert pair.refresh_token not in pair.access_token
    with pytest.raises(TokenInvalid):
        await here.sessions.verify(VerifyToken(token=pair.refresh_token))
    assert await refused(here, pair.access_token)


async def test_a_wrong_password_and_an_unknown_account_are_answered_the_same(here: Process) -> None:
    user = await here.registered()
    answers = set()
    for email in (user.email, "nobody@example.com", "no address", ""):
        with pytest.raises(InvalidCredentials) as refusal:
            await here.sessions.log_in(email, "wrong password", HERE)
        assert refusal.value.headers.pop("RateLimit")  # one less each time
        answers.add((refusal.value.code, refusal.value.detail, str(refusal.value.headers)))

    assert len(answers) == 1


@pytest.mark.parametrize(("password", "forms"), [("wrong password", 1), ("wro\ufb03g password", 2)])
async def test_a_wrong_password_and_an_unknown_account_cost_the_same(
    here: Process, passwords: Passwords, monkeypatch: pytest.MonkeyPatch, password: str, forms: int
) -> None:
    """Also with a password that has two forms, which are both tried."""
    user = await here.registered()
    costs = []
    for email in (user.email, "nobody@example.com"):
        hasher = CountingHasher(passwords)
        with monkeypatch.context() as patched:
            patched.setattr(passwords, "_hasher", hasher)
            with pytest.raises(InvalidCredentials):
                await here.sessions.log_in(email, password, HERE)
        costs.append(hasher.compared)

    known, unknown = costs
    assert known == unknown
    assert len(known) == forms


async def test_a_login_renews_an_outdated_hash(here: Process) -> None:
    user = await here.registered()
    weak = PasswordHasher(1, 8_192, 1).hash(PASSWORD)
    await here.database.execute("update auth.users set password_hash = $2 where id = $1", user.id, weak)
    await here.logged_in(user)
    found = await here.stores.sessions.find_credentials(user.email)

    assert found is not None
    assert found.password_hash != weak
    assert await here.logged_in(user)


async def test_many_log_ins_at_once_renew_a_hash_and_all_succeed(here: Process) -> None:
    user = await here.registered()
    weak = PasswordHasher(1, 8_192, 1).hash(PASSWORD)
    await here.database.execute("update auth.users set password_hash = $2 where id = $1", user.id, weak)
    pairs = await asyncio.gather(*(here.logged_in(user) for _ in range(8)))

    assert len({pair.refresh_token for pair in pairs}) == 8
    assert len(await here.stores.sessions.all(user.id)) == 8


async def test_a_session_is_stored_without_its_token(here: Process) -> None:
    user = await here.registered()
    pair = await here.logged_in(user)
    for _ in range(2):
        row = await here.database.fetchrow("select * from auth.sessions where user_id = $1", user.id)
        assert row is not None
        assert pair.refresh_token not in str(dict(row))
        assert 29.9 < (row["expires_at"] - row["created_at"]).total_seconds() / 86_400 <= 30
        pair = await here.sessions.refresh(pair.refresh_token)


async def test_a_log_in_takes_the_accounts_own_expired_sessions_away(here: Process) -> None:
    ada, eve = await here.registered(), await here.registered()
    for user in (ada, eve):
        await here.logged_in(user)
    await here.database.execute("update auth.sessions set expires_at = now() - interval '1 second'")
    await here.logged_in(ada)
    rows = await here.database.fetch("select user_id from auth.sessions where user_id in ($1, $2)", ada.id, eve.id)

    assert sorted(row["user_id"] for row in rows) == [ada.id, eve.id]
    assert len(await here.stores.sessions.all(ada.id)) == 1
    assert await here.stores.sessions.all(eve.id) == []


async def test_a_session_goes_on_with_each_refresh(here: Process) -> None:
    user = await here.registered()
    pairs = [await here.logged_in(user)]
    for _ in range(5):
        pairs.append(await here.sessions.refresh(pairs[-1].refresh_token))

    assert len({pair.refresh_token for pair in pairs}) == 6
    assert all([await works(here, pair) for pair in pairs])
    (session,) = await here.stores.sessions.all(user.id)
    assert here.tokens.read(pairs[-1].access_token).session_id == session.id


async def test_a_refresh_brings_what_the_account_is_now(here: Process) -> None:
    user = await here.registered()
    pair = await here.logged_in(user)
    await here.stores.accounts.update(user.id, name="Countess", phone=None, language=None)
    await here.auth.set_access(SetAccess(email=user.email, access="staff"))
    renewed = await here.sessions.refresh(pair.refresh_token)
    holder = await here.sessions.verify(VerifyToken(token=renewed.access_token))

    assert (holder.name, holder.access) == ("Countess", "staff")


async def test_an_answer_that_was_lost_can_be_had_again(here: Process, neighbour: Process) -> None:
    """T1: from any process; the pair that was lost works as well."""
    pair = await here.logged_in(await here.registered())
    lost = await here.sessions.refresh(pair.refresh_token)
    again = await neighbour.sessions.refresh(pair.refresh_token)

    assert again.refresh_token == lost.refresh_token
    assert await works(here, lost)
    assert await works(here, again)
    assert await here.sessions.refresh(again.refresh_token)


@pytest.mark.parametrize("seconds", [9.0, 11.0])
async def test_an_answer_can_be_had_again_for_ten_seconds(here: Process, seconds: float) -> None:
    """The moments before and after the tenth second are left out: the machine may be slow."""
    pair = await here.logged_in(await here.registered())
    await here.sessions.refresh(pair.refresh_token)
    await grow_old(here, pair, seconds - 3 if seconds < 10 else seconds)

    assert await refused(here, pair.refresh_token) == (seconds > 10)


async def test_of_many_at_once_all_get_the_one_successor(here: Process, neighbour: Process) -> None:
    for _ in range(10):
        pair = await here.logged_in(await here.registered())
        processes = [here, neighbour] * 10
        pairs = await asyncio.gather(*(process.sessions.refresh(pair.refresh_token) for process in processes))

        assert len({one.refresh_token for one in pairs}) == 1
        assert await here.sessions.refresh(pairs[0].refresh_token)


@pytest.mark.parametrize("generations", [2, 3, 10])
async def test_an_older_token_ends_the_session_at_once(
    here: Process, neighbour: Process, generations: int, caplog: pytest.LogCaptureFixture
) -> None:
    user = await here.registered()
    stolen = newest = await here.logged_in(user)
    for _ in range(generations):
        newest = await here.sessions.refresh(newest.refresh_token)
    with caplog.at_level(logging.WARNING):
        assert await refused(here, stolen.refresh_token)

    assert await refused(here, newest.refresh_token)
    assert not await works(here, newest)
    await neighbour.revocations.sync()
    assert not await works(neighbour, newest)
    (line,) = [record for record in caplog.records if "reused" in record.message]
    assert vars(line)["user_id"] == str(user.id)
    assert stolen.refresh_token not in str(vars(line))


async def test_a_theft_ends_no_other_session(here: Process) -> None:
    user = await here.registered()
    other, stolen = await here.logged_in(user), await here.logged_in(user)
    newest = await here.sessions.refresh(stolen.refresh_token)
    await grow_old(here, newest, 11)

    assert await refused(here, stolen.refresh_token)
    assert await refused(here, newest.refresh_token)
    assert await works(here, other)
    assert await here.sessions.refresh(other.refresh_token)


async def test_a_guess_at_an_old_token_ends_nothing(here: Process) -> None:
    """Who knows a session's id, which access tokens show, cannot end it."""
    pair = await here.logged_in(await here.registered())
    for _ in range(3):
        pair = await here.sessions.refresh(pair.refresh_token)
    guess = pair.refresh_token[:22] + "AAAAA" + pair.refresh_token[27:]

    assert await refused(here, guess)
    assert await refused(here, pair.refresh_token[:-8] + "AAAAAAAA")
    assert await here.sessions.refresh(pair.refresh_token)


async def test_a_session_ends_after_thirty_days_whatever_was_refreshed(here: Process) -> None:
    user = await here.registered()
    pair = await here.sessions.refresh((await here.logged_in(user)).refresh_token)
    await here.database.execute("update auth.sessions set expires_at = now() where user_id = $1", user.id)

    assert await refused(here, pair.refresh_token)


@pytest.mark.parametrize("text", ["", "nonsense", "A" * 70, "_" * 70, "a" * 200])
async def test_what_is_no_refresh_token_is_refused(here: Process, text: str) -> None:
    assert await refused(here, text)


async def test_a_log_out_ends_this_session_everywhere_and_no_other(here: Process, neighbour: Process) -> None:
    user = await here.registered()
    left, kept = await here.logged_in(user), await here.logged_in(user)
    place = await here.auth.add_address(await here.signed_in(user), str(user.id), HOME, is_default=False)
    await here.sessions.log_out(await here.sessions.principal(left.access_token))

    assert not await works(here, left)
    assert await refused(here, left.refresh_token)
    ask = GetAddress(user_id=str(user.id), address_id=str(place.id), token=left.access_token)
    with pytest.raises(TokenInvalid):
        await here.auth.answer_address(ask)
    assert await works(neighbour, left), "it has not heard of it yet"
    await neighbour.revocations.sync()
    assert not await works(neighbour, left)
    assert await works(neighbour, kept)
    assert await here.sessions.refresh(kept.refresh_token)


async def test_other_processes_hear_of_a_revocation_by_themselves(here: Process, neighbour: Process) -> None:
    pair = await here.logged_in(await here.registered())
    polling = asyncio.create_task(neighbour.revocations.run())
    try:
        assert await works(neighbour, pair)
        await here.sessions.log_out(await here.sessions.principal(pair.access_token))
        async with asyncio.timeout(PATIENCE_S):
            while await works(neighbour, pair):
                await asyncio.sleep(0.05)
    finally:
        polling.cancel()


async def test_a_process_that_starts_later_knows_what_was_revoked(
    here: Process, database: Database, passwords: Passwords
) -> None:
    pair = await here.logged_in(await here.registered())
    await here.sessions.log_out(await here.sessions.principal(pair.access_token))
    for _ in range(5):
        await here.sessions.log_out(await here.somebody())
    late = Process(database, passwords)
    await late.revocations.sync()

    assert not await works(late, pair)


async def test_a_changed_level_ends_the_tokens_that_say_otherwise(here: Process, neighbour: Process) -> None:
    user = await here.registered("staff")
    pair = await here.logged_in(user)
    await here.auth.set_access(SetAccess(email=user.email, access="staff"))
    await neighbour.revocations.sync()
    assert await works(neighbour, pair), "nothing has changed"
    await here.auth.set_access(SetAccess(email=user.email, access="customer"))
    await neighbour.revocations.sync()

    assert not await works(neighbour, pair)
    renewed = await here.sessions.refresh(pair.refresh_token)
    holder = await neighbour.sessions.verify(VerifyToken(token=renewed.access_token))
    assert holder.access == "customer"


async def test_a_revocation_is_forgotten_when_its_tokens_have_expired(here: Process) -> None:
    pair = await here.logged_in(await here.registered())
    await here.sessions.log_out(await here.sessions.principal(pair.access_token))
    expires_in_s = await here.database.fetchval(
        "select extract(epoch from max(expires_at) - now()) from auth.revocations"
    )
    assert LIFETIME_S + 30 < expires_in_s < LIFETIME_S + 120
    assert await here.stores.revocations.purge() == 0
    await here.database.execute("update auth.revocations set expires_at = now() - interval '1 second'")

    assert await here.stores.revocations.purge() >= 1
    assert await here.stores.revocations.since(None) == []


async def test_refresh_token_signs_out_whatever_the_access_token_says(here: Process) -> None:
    user = await here.registered()
    pair, other = await here.logged_in(user), await here.logged_in(user)
    newer = await here.sessions.refresh(pair.refresh_token)
    await here.sessions.log_out_with(pair.refresh_token)

    for ended in (pair, newer):
        with pytest.raises(RefreshTokenInvalid):
            await here.sessions.refresh(ended.refresh_token)
        with pytest.raises(TokenInvalid):
            await here.sessions.principal(ended.access_token)
    assert await here.sessions.refresh(other.refresh_token)


async def test_made_up_refresh_token_signs_nobody_out(here: Process) -> None:
    pair = await here.logged_in(await here.registered())
    forged = RefreshToken.parse(pair.refresh_token)
    assert forged is not None
    for text in ("", "nonsense", str(msgspec.structs.replace(forged, secret=bytes(32)))):
        with pytest.raises(RefreshTokenInvalid):
            await here.sessions.log_out_with(text)
    assert await here.sessions.refresh(pair.refresh_token)


async def test_users_list_their_sessions_and_end_single_ones(here: Process) -> None:
    user = await here.registered()
    await here.sessions.log_in(user.email, PASSWORD, HERE, "Firefox on Windows")
    caller = await here.signed_in(user)
    found, current = await here.sessions.list(caller, caller.user_id)

    assert [session.device for session in found] == ["", "Firefox on Windows"]
    assert found[0].id == current
    await here.sessions.end_one(caller, caller.user_id, str(found[1].id))
    assert [session.id for session in (await here.sessions.list(caller, caller.user_id))[0]] == [current]
    with pytest.raises(NotFound):
        await here.sessions.end_one(caller, caller.user_id, str(found[1].id))


async def test_ending_all_other_sessions_keeps_the_callers(here: Process) -> None:
    user = await here.registered()
    other, caller = await here.logged_in(user), await here.signed_in(user)
    await here.sessions.end_others(caller, caller.user_id)

    with pytest.raises(RefreshTokenInvalid):
        await here.sessions.refresh(other.refresh_token)
    assert await here.sessions.principal(caller.token)


async def test_sessions_of_others_do_not_exist(here: Process) -> None:
    user, stranger = await here.registered(), await here.somebody()
    await here.logged_in(user)
    admin = await here.somebody("admin")
    (session,), _ = await here.sessions.list(admin, str(user.id))
    for refused in (
        here.sessions.list(stranger, str(user.id)),
        here.sessions.end_one(stranger, str(user.id), str(session.id)),
        here.sessions.end_one(stranger, stranger.user_id, str(session.id)),
        here.sessions.end_others(stranger, str(user.id)),
    ):
        with pytest.raises(NotFound):
            await refused
    await here.sessions.end_others(admin, str(user.id))
    assert (await here.sessions.list(admin, str(user.id)))[0] == []
