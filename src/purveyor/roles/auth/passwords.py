"""Password hashes: Argon2id (RFC 9106) with OWASP's parameters, off the event loop, never without bound."""

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from purveyor.kit.errors import Unavailable

T = TypeVar("T")

_MEMORY_KIB = 19_456
_ITERATIONS = 2
_LANES = 1
_THREADS = 2
_MAX_WAITING = 50


class Passwords:
    """Hashes and checks passwords in two threads (each takes 19 MiB while it works).

    Raises ``Unavailable`` when 50 wait already: a flood of logins must not starve everything else.
    """

    def __init__(self) -> None:
        self._hasher = PasswordHasher(_ITERATIONS, _MEMORY_KIB, _LANES)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="passwords")
        self._waiting = 0
        self._decoy = self._hasher.hash(secrets.token_urlsafe())

    async def hash(self, password: str) -> str:
        """The hash to store."""
        return await self._run(lambda: self._hasher.hash(password))

    async def matches(self, password: str, stored: str | None) -> bool:
        """Whether the password is right; takes the same time when there is no account (``stored`` is ``None``)."""

        def verify() -> bool:
            try:
                return self._hasher.verify(stored or self._decoy, password) and stored is not None
            except (VerificationError, InvalidHashError):
                return False

        return await self._run(verify)

    def is_outdated(self, stored: str) -> bool:
        """Whether the hash was made with other parameters and should be made anew at this login."""
        return self._hasher.check_needs_rehash(stored)

    def close(self) -> None:
        """Let the threads end."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= _MAX_WAITING:
            raise Unavailable("Too many people are logging in at this moment.")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._waiting -= 1
