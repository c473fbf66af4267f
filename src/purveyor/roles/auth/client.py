"""Client of role auth for the other roles: who holds an access token, and where they live."""

import base64
import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import ClassVar

import msgspec

from purveyor.kit.cache import Cache, Lifetime
from purveyor.kit.errors import NotFound, Problem, RemoteFailure, TokenInvalid, Unavailable
from purveyor.kit.events.transport import Asker
from purveyor.kit.role import Port
from purveyor.roles.auth.contract import (
    ACCESS_LEVELS,
    Account,
    Address,
    Erasure,
    GetAddress,
    GetProfile,
    ListErasures,
    OpenAccount,
    Principal,
    Profile,
    SetAccess,
    VerifiedToken,
    VerifyToken,
)

_CLOCKS_DIFFER_S = 30
_MAX_LENGTH = 320  # of an email address: 64 + 1 + 255 characters (RFC 3696)


class _Verified(msgspec.Struct, frozen=True):
    principal: Principal
    asked_at: float


class Identity(Port):
    """Identifies the holder of an access token. Answers are cached, and used for a while when auth is away."""

    role = "auth"
    setting = "AUTH_SERVICE"
    asks = (VerifyToken, GetProfile, GetAddress)

    FRESH_S: ClassVar = 3.0
    """Seconds for which an answer is used. Auth learns of a revocation within 1 s, so both stay below 5 s."""
    STALE_S: ClassVar = 30.0
    """Seconds for which an answer is used while auth is unavailable."""
    PROFILE_PAUSE_S: ClassVar = 5.0
    """Seconds without requests for profiles after auth was unavailable."""
    _CACHE_SIZE: ClassVar = 10_000

    def __init__(self, asker: Asker, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(asker)
        self._clock = clock
        self._profiles_from = -math.inf
        self._profiles: dict[str, Profile] = {}
        self._verified: Cache[str, _Verified] = Cache(
            self._verify,
            lifetime=self._lifetime,
            stale_on=Unavailable,
            max_entries=self._CACHE_SIZE,
            clock=clock,
            share_loads=False,  # a task for each new token would cost more than the check itself
        )

    async def verify(self, token: str) -> Principal:
        """The holder of an access token. Raises as ``principal_of``, and ``Unavailable`` while auth is away."""
        return (await self._verified.get(token)).principal

    async def address(self, principal: Principal, address_id: str) -> Address:
        """One of the principal's own addresses. Raises ``NotFound``."""
        ask = GetAddress(user_id=principal.user_id, address_id=address_id, token=principal.token)
        return await self._asker.ask(ask)

    async def profile(self, caller: Principal, user_id: str) -> Profile:
        """The current profile of the caller, or of any user if the caller is staff.

        While auth is away, the last known one counts, else what the caller's token says, so that a confirmed
        address stays confirmed. Empty where auth does not tell, as a foreign service without profiles.
        """
        told = user_id == caller.user_id and _claims(caller.token).email_verified
        known = self._profiles.get(user_id, Profile(email=caller.email if told else "", email_confirmed=told))
        if self._clock() < self._profiles_from:
            return known
        try:
            profile = await self._asker.ask(GetProfile(user_id=user_id, token=caller.token))
            return self._remember(
                user_id,
                Profile(
                    email=_foreign(profile.email or ""),
                    name=_foreign(profile.name or ""),
                    language=_foreign(profile.language or ""),
                    email_confirmed=profile.email_confirmed,
                ),
            )
        except Unavailable:
            self._profiles_from = self._clock() + self.PROFILE_PAUSE_S  # an order must not wait for each timeout
            return known
        except Problem:
            return self._remember(user_id, Profile())

    def _remember(self, user_id: str, profile: Profile) -> Profile:
        self._profiles.pop(user_id, None)  # the latest last
        if profile.email:
            self._profiles[user_id] = profile
        if len(self._profiles) > self._CACHE_SIZE:
            del self._profiles[next(iter(self._profiles))]
        return profile

    async def _verify(self, token: str) -> _Verified:
        asked_at = self._clock()
        principal = principal_of(await self._asker.ask(VerifyToken(token=token)), token)
        if not principal.email:
            principal = await self._with_profile(principal)
        return _Verified(principal, asked_at)

    def _lifetime(self, verified: _Verified) -> Lifetime:
        """Counted from the question: the answer may have been true only then."""
        age_s = self._clock() - verified.asked_at
        left_s = verified.principal.expires_at - time.time()
        return Lifetime(self.FRESH_S - age_s, min(self.STALE_S - age_s, left_s))

    async def _with_profile(self, principal: Principal) -> Principal:
        """Ask for name and email address, for a foreign auth service that verifies a token by id alone."""
        try:
            profile = await self._asker.ask(GetProfile(user_id=principal.user_id, token=principal.token))
        except NotFound:
            profile = Profile()
        if not profile.email:
            raise RemoteFailure(
                "The auth service returned no email address for the token's user. Check AUTH_SERVICE."
            )
        name = _foreign(profile.name or principal.name or profile.email)
        return msgspec.structs.replace(principal, email=_foreign(profile.email), name=name)


def principal_of(verified: VerifiedToken, token: str) -> Principal:
    """The principal that auth vouches for.

    Raises ``TokenInvalid`` for an invalid token and ``RemoteFailure`` for an answer that names nobody.
    """
    if not verified.active or (verified.exp and verified.exp + _CLOCKS_DIFFER_S <= time.time()):
        raise TokenInvalid
    if not (identity := verified.user_id or verified.id or verified.sub):
        raise RemoteFailure("The auth service returned no user ID for the token. Check AUTH_SERVICE.")
    email = _foreign(verified.email or "")
    return Principal(
        user_id=_foreign(str(identity)),
        email=email,
        name=_foreign(verified.name or email),
        access=verified.access if verified.access in ACCESS_LEVELS else "customer",
        language=_claims(token).language,
        expires_at=float(verified.exp or time.time() + Identity.STALE_S),
        token=token,
    )


class _Claims(msgspec.Struct):
    language: str = ""
    email_verified: bool = False


def _claims(token: str) -> _Claims:
    """Read the claims of our own token without verifying it: auth has done that."""
    with suppress(IndexError, ValueError, UnicodeDecodeError, msgspec.MsgspecError):
        claims = base64.urlsafe_b64decode(token.split(".")[1] + "==")  # excess padding is ignored
        return msgspec.json.decode(claims, type=_Claims)
    return _Claims()


def _foreign(text: str) -> str:
    """Text of another service that can be stored. Raises ``RemoteFailure``."""
    if len(text) > _MAX_LENGTH or "\x00" in text:
        raise RemoteFailure("The auth service returned invalid data about the token's user. Check AUTH_SERVICE.")
    return text


class AccountAdmin(Port):
    """Accounts as the operator sees them."""

    role = "auth"
    setting = "AUTH_SERVICE"
    asks = (OpenAccount, SetAccess, ListErasures)

    async def open(self, *, email: str, name: str, password: str, access: str) -> Account:
        return await self._asker.ask(OpenAccount(email=email, name=name, password=password, access=access))

    async def set_access(self, email: str, access: str) -> Account:
        return await self._asker.ask(SetAccess(email=email, access=access))

    async def erasures(self, *, unfinished: bool, limit: int) -> tuple[Erasure, ...]:
        return (await self._asker.ask(ListErasures(unfinished=unfinished, limit=limit))).erasures
