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


class Verdict(Enum):
    """The result of comparing a password with a stored hash."""

    WRONG = "wrong"
    RIGHT = "right"
    OUTDATED = "right, but the hash should be renewed: with current parameters, of the normal form"


class Work(Enum):
    """Purpose of a password hash, with the number of queue places reserved for it."""

    LOGIN = 25
    REGISTRATION = 10
    CHANGE = 15


class Passwords:
    """Hashes and checks passwords in two threads (each takes 19 MiB while it works).

    Raises ``Unavailable`` when all places of a kind of work are taken: a flood of registrations must not keep
    anybody from signing in, and no flood may starve other requests.
    """

    def __init__(self) -> None:
        self._hasher = PasswordHasher(_ITERATIONS, _MEMORY_KIB, _LANES)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="passwords")
        self._waiting = dict.fromkeys(Work, 0)
        self._decoy = self._hasher.hash(secrets.token_urlsafe())

    async def hash(self, password: str, work: Work) -> str:
        """The hash to store."""
        return await self._run(lambda: self._hasher.hash(normal_password(password)), work)

    async def check(self, password: str, stored: str | None, work: Work = Work.LOGIN) -> Verdict:
        """Compare with a hash. Without an account (``stored`` is ``None``) it takes the same time."""

        def compare() -> Verdict:
            against, normal = stored or self._decoy, normal_password(password)
            right = self._equal(normal, against)
            # Hashes from before passwords were normalized are of the typed text.
            as_typed = not right and normal != password and self._equal(password, against)
            if stored is None or not (right or as_typed):
                return Verdict.WRONG
            return Verdict.OUTDATED if as_typed or self._hasher.check_needs_rehash(stored) else Verdict.RIGHT

        return await self._run(compare, work)

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _equal(self, password: str, stored: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, compute: Callable[[], T], work: Work) -> T:
        if self._waiting[work] >= work.value:
            raise Unavailable(f"Too many requests of this kind ({work.name.lower()}). Try again in a few seconds.")
        self._waiting[work] += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, compute)
        finally:
            self._waiting[work] -= 1
