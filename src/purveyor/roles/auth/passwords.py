"""Password hashes: Argon2id (RFC 9106) with OWASP's parameters, in a bounded thread pool."""

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from purveyor.kit.errors import Unavailable
from purveyor.roles.auth.model import normal_password

T = TypeVar("T")

_MEMORY_KIB = 19_456
_ITERATIONS = 2
_LANES = 1
_THREADS = 2
_MAX_WAITING = 50


class Verdict(Enum):
    """The result of comparing a password with a stored hash."""

    WRONG = "wrong"
    RIGHT = "right"
    OUTDATED = "right, but the hash should be renewed: with current parameters, of the normal form"


class Passwords:
    """Hashes and checks passwords in two threads (each takes 19 MiB while it works).

    Raises ``Unavailable`` when 50 are waiting: a flood of logins must not starve other requests.
    """

    def __init__(self) -> None:
        self._hasher = PasswordHasher(_ITERATIONS, _MEMORY_KIB, _LANES)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="passwords")
        self._waiting = 0
        self._decoy = self._hasher.hash(secrets.token_urlsafe())

    async def hash(self, password: str) -> str:
        """The hash to store."""
        return await self._run(lambda: self._hasher.hash(normal_password(password)))

    async def check(self, password: str, stored: str | None) -> Verdict:
        """Compare with a hash. Without an account (``stored`` is ``None``) it takes the same time."""

        def compare() -> Verdict:
            against, normal = stored or self._decoy, normal_password(password)
            right = self._equal(normal, against)
            # Hashes from before passwords were normalized are of the typed text.
            as_typed = not right and normal != password and self._equal(password, against)
            if stored is None or not (right or as_typed):
                return Verdict.WRONG
            return Verdict.OUTDATED if as_typed or self._hasher.check_needs_rehash(stored) else Verdict.RIGHT

        return await self._run(compare)

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _equal(self, password: str, stored: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= _MAX_WAITING:
            raise Unavailable("Too many sign-ins at the moment. Try again in a few seconds.")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._waiting -= 1
