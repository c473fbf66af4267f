"""Service tokens: what passes, and what does not."""

import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest

from purveyor.kit.errors import ServiceTokenInvalid
from purveyor.kit.service_tokens import LIFETIME_S, ServiceTokens

SECRET = "a secret for service tokens that is more than long enough"
TOKENS = ServiceTokens(SECRET)


def forged(secret: str = SECRET, *, kind: str = "service+jwt", algorithm: str = "HS256", **claims: Any) -> str:
    """A token with these claims instead of the right ones; ``None`` leaves one out."""
    now = int(time.time())
    made = {"iss": "purveyor", "sub": "shop", "aud": "email", "iat": now, "exp": now + 60} | claims
    present = {name: value for name, value in made.items() if value is not None}
    return jwt.encode(present, secret, algorithm=algorithm, headers={"typ": kind})


def test_a_token_tells_who_asks() -> None:
    assert TOKENS.read(TOKENS.sign(asking="shop", asked="email"), asked="email") == "shop"
    assert TOKENS.read(forged(), asked="email") == "shop"


def test_a_token_lives_for_a_minute_at_most() -> None:
    claims = jwt.decode(TOKENS.sign(asking="shop", asked="email"), options={"verify_signature": False})

    assert 0 < claims["exp"] - claims["iat"] <= LIFETIME_S == 60


@pytest.mark.parametrize(
    "made",
    [
        lambda: "",
        lambda: "no.jwt.here",
        lambda: TOKENS.sign(asking="shop", asked="orders"),
        lambda: ServiceTokens("another secret that is long enough as well").sign(asking="shop", asked="email"),
        lambda: forged(iat=int(time.time()) - 180, exp=int(time.time()) - 120),
        lambda: forged(exp=int(time.time()) + 3600),
        lambda: forged(iat=int(time.time()) + 3600, exp=int(time.time()) + 3660),
        lambda: forged(sub=None),
        lambda: forged(aud=None),
        lambda: forged(exp=None),
        lambda: forged(iss="somebody"),
        lambda: forged(kind="at+jwt"),
        lambda: forged(algorithm="HS384"),
        lambda: forged("", algorithm="none"),
    ],
    ids=[
        "empty",
        "form",
        "audience",
        "secret",
        "expired",
        "too long",
        "future",
        "nobody",
        "no audience",
        "for ever",
        "issuer",
        "access token",
        "algorithm",
        "unsigned",
    ],
)
def test_any_other_token_is_refused(made: Callable[[], str]) -> None:
    token = made()  # now: a token that has expired is refused anyway

    with pytest.raises(ServiceTokenInvalid):
        TOKENS.read(token, asked="email")
