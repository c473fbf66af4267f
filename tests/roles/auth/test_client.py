"""The client of auth: how long it uses an answer, and what it does while auth is away."""

import base64
import time
from typing import Any

import pytest

from purveyor.kit.errors import RemoteFailure, TokenInvalid, Unavailable
from purveyor.roles.auth.client import Identity
from purveyor.roles.auth.contract import GetProfile, Profile, VerifiedToken


class Auth:
    """Answers as role auth does, or as a test says."""

    def __init__(self) -> None:
        self.asked = 0
        self.trouble: Exception | None = None
        self.access = "customer"
        self.lives_s = 600
        self.says: VerifiedToken | None = None
        self.profile = Profile(email="a@example.com", name="Ada")

    async def ask(self, message: Any) -> Any:
        self.asked += 1
        if self.trouble is not None:
            raise self.trouble
        if isinstance(message, GetProfile):
            return self.profile
        if self.says is not None:
            return self.says
        ends = int(time.time()) + self.lives_s
        return VerifiedToken(sub="1", user_id="1", email="a@example.com", name="Ada", access=self.access, exp=ends)


class Clock:
    """The time that the client sees; it passes only when a test says so."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return 1000.0 + self.ahead_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def auth() -> Auth:
    return Auth()


@pytest.fixture
def identity(auth: Auth, clock: Clock) -> Identity:
    return Identity(auth, clock=clock)


async def test_an_answer_counts_for_a_moment_and_is_then_asked_for_again(
    auth: Auth, identity: Identity, clock: Clock
) -> None:
    for _ in range(10):
        assert (await identity.verify("token")).access == "customer"
    assert auth.asked == 1
    auth.access = "staff"
    clock.ahead_s += Identity.FRESH_S + 0.1

    assert (await identity.verify("token")).access == "staff"
    assert auth.asked == 2
    assert Identity.FRESH_S + 1.0 < 5, "with the second after which auth itself hears of a revocation"


async def test_a_revoked_token_stops_working_and_stays_stopped(
    auth: Auth, identity: Identity, clock: Clock
) -> None:
    await identity.verify("token")
    auth.trouble = TokenInvalid()
    clock.ahead_s += Identity.FRESH_S + 0.1
    with pytest.raises(TokenInvalid):
        await identity.verify("token")
    auth.trouble = Unavailable()
    with pytest.raises(Unavailable):
        await identity.verify("token")


async def test_who_is_not_vouched_for_by_name_is_nobody(auth: Auth, identity: Identity, clock: Clock) -> None:
    await identity.verify("token")
    clock.ahead_s += Identity.FRESH_S + 0.1
    auth.says = VerifiedToken(user_id="1", active=False)
    with pytest.raises(TokenInvalid):
        await identity.verify("token")
    auth.trouble = Unavailable()
    with pytest.raises(Unavailable):
        await identity.verify("token")
    auth.trouble, auth.says = None, VerifiedToken()
    with pytest.raises(RemoteFailure):
        await identity.verify("token")


async def test_while_auth_is_away_the_last_answer_counts_a_while(
    auth: Auth, identity: Identity, clock: Clock
) -> None:
    await identity.verify("token")
    auth.trouble = Unavailable()
    for _ in range(int(Identity.STALE_S) - 1):
        clock.ahead_s += 1
        assert (await identity.verify("token")).user_id == "1"
    clock.ahead_s += 2
    with pytest.raises(Unavailable):
        await identity.verify("token")
    with pytest.raises(Unavailable):
        await identity.verify("another token")


async def test_who_is_away_is_not_asked_for_every_request(auth: Auth, identity: Identity, clock: Clock) -> None:
    await identity.verify("token")
    auth.trouble = Unavailable()
    clock.ahead_s += Identity.FRESH_S + 0.1
    for _ in range(50):
        await identity.verify("token")
    assert auth.asked == 2
    clock.ahead_s += 1.1
    auth.trouble, auth.access = None, "staff"

    assert (await identity.verify("token")).access == "staff", "it is asked again within about a second"


async def test_no_answer_outlives_its_token(auth: Auth, identity: Identity, clock: Clock) -> None:
    auth.lives_s = 2
    await identity.verify("token")
    auth.trouble = Unavailable()
    clock.ahead_s += 2.1

    with pytest.raises(Unavailable):
        await identity.verify("token")


async def test_the_memory_is_bounded(auth: Auth, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Identity, "_CACHE_SIZE", 10)
    identity = Identity(auth)
    for number in range(50):
        await identity.verify(f"token {number}")

    assert len(identity._verified) == 10


async def test_who_is_vouched_for_by_id_alone_is_asked_for_by_id(auth: Auth, identity: Identity) -> None:
    auth.says = VerifiedToken(user_id=17)
    holder = await identity.verify("token")
    assert (holder.user_id, holder.email, holder.name) == ("17", "a@example.com", "Ada")
    assert (await identity.verify("token"), auth.asked) == (holder, 2)
    auth.profile = Profile(name="Ada")
    with pytest.raises(RemoteFailure):
        await identity.verify("another token")


async def test_the_last_known_profile_counts_while_auth_is_away(
    auth: Auth, identity: Identity, clock: Clock
) -> None:
    caller = await identity.verify("token")
    auth.profile = Profile(email="a@example.com", name="Ada", email_confirmed=True)
    known = await identity.profile(caller, "1")
    assert known.email_confirmed
    auth.trouble = Unavailable()
    assert await identity.profile(caller, "1") == known
    assert await identity.profile(caller, "2") == Profile()
    auth.trouble, auth.profile = None, Profile(email="a@example.com", name="Ada")
    assert await identity.profile(caller, "1") == known, "auth is not asked again at once"
    clock.ahead_s += Identity.PROFILE_PAUSE_S
    assert not (await identity.profile(caller, "1")).email_confirmed


async def test_a_token_says_that_an_address_is_confirmed_while_auth_is_away(
    auth: Auth, identity: Identity
) -> None:
    claims = base64.urlsafe_b64encode(b'{"email_verified":true}').decode().rstrip("=")
    caller = await identity.verify(f"e30.{claims}.x")
    auth.trouble = Unavailable()
    assert await identity.profile(caller, "1") == Profile(email="a@example.com", email_confirmed=True)
    assert await identity.profile(caller, "2") == Profile()


async def test_profiles_are_not_remembered_without_bound(
    auth: Auth, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Identity, "_CACHE_SIZE", 3)
    caller = await identity.verify("token")
    for number in range(5):
        await identity.profile(caller, str(number))
    assert list(identity._profiles) == ["2", "3", "4"]
