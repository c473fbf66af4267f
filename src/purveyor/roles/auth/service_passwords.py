"""The use cases of passwords: change it, and set a new one when it is forgotten."""

import hashlib
import secrets
from collections.abc import Callable
from datetime import timedelta

from purveyor.kit.clock import now
from purveyor.kit.errors import TokenInvalid
from purveyor.kit.ratelimit import Decision
from purveyor.roles.auth import model
from purveyor.roles.auth.contract import PasswordResetRequested, Principal
from purveyor.roles.auth.errors import ResetTokenInvalid, WrongPassword
from purveyor.roles.auth.events import about
from purveyor.roles.auth.model import User
from purveyor.roles.auth.passwords import Passwords, Verdict
from purveyor.roles.auth.ports import PasswordBook
from purveyor.roles.auth.service_sessions import Sessions
from purveyor.roles.auth.throttle import Throttle

_RESET_LIFETIME = timedelta(minutes=30)


class PasswordChanges:
    """``committed`` is called when an event was stored: it wakes the relay."""

    def __init__(
        self,
        book: PasswordBook,
        passwords: Passwords,
        sessions: Sessions,
        throttle: Throttle,
        *,
        password_min_length: int,
        committed: Callable[[], None],
    ) -> None:
        self._book = book
        self._passwords = passwords
        self._sessions = sessions
        self._throttle = throttle
        self._min_length = password_min_length
        self._committed = committed

    async def change(self, caller: Principal, current: str, new: str, network: str) -> Decision:
        """Replace the caller's password; their other sessions end.

        Guesses at the present one are limited as log-ins are; the answer is how many are left. Raises
        ``WrongPassword``, ``InvalidInput``, ``TooManyLogins``.
        """
        token = self._sessions.read(caller.token)
        model.check_password(new, self._min_length, "/new_password")
        known = await self._book.find(token.user_id)
        if known is None:
            raise TokenInvalid
        async with self._throttle.attempt(known.user.email, network) as limit:
            if await self._passwords.check(current, known.password_hash) is Verdict.WRONG:
                raise WrongPassword
            if not await self._book.change(known, await self._passwords.hash(new), token.session_id):
                raise WrongPassword  # it was changed while this one was checked
        await self._sessions.heed_revocations()
        return limit

    async def forgot(self, email: str) -> None:
        """Send a token to set a new password, if there is an account with this address; at most 3 an hour.

        Whoever asks cannot tell whether there is one, not by the time it takes either.
        """
        user = await self._book.find_owner(model.account_name(email))
        token = secrets.token_urlsafe(32)
        event = about(user, _reset_requested(user, token)) if user else None
        if await self._book.request_reset(user, _hash(token), event):
            self._committed()

    async def reset(self, token: str, password: str) -> None:
        """Set a new password; all sessions end. Raises ``ResetTokenInvalid``, ``InvalidInput``."""
        model.check_password(password, self._min_length)
        if not await self._book.can_reset(_hash(token)):  # before a hash is made for anybody
            raise ResetTokenInvalid
        user = await self._book.reset(_hash(token), await self._passwords.hash(password))
        if user is None:
            raise ResetTokenInvalid
        await self._throttle.forgive(user.email)
        await self._sessions.heed_revocations()


def _reset_requested(user: User, token: str) -> PasswordResetRequested:
    return PasswordResetRequested(
        user_id=str(user.id),
        user_email=user.email,
        user_name=user.name,
        token=token,
        expires_at=now() + _RESET_LIFETIME,
    )


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
