"""The customers of a drill: accounts opened beforehand, and access tokens that are renewed in time."""

import asyncio
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus

from purveyor_drill.http_client import ATTEMPT_TIMEOUT_S, HttpClient, NoAnswer
from purveyor_drill.processes import Application
from purveyor_drill.servers.process import StartFailed

_RENEW_BEFORE_END = 0.5
_TRIES = 20
_RETRY_S = 0.5
_CONCURRENT = 8


class Customer:
    """A customer with an account. ``auth``: a process with role auth."""

    def __init__(self, number: int, domain: str, password: str, auth: Application) -> None:
        self.email = f"customer-{number}@{domain}"
        self.token = ""
        self._password = password
        self._auth = auth
        self._renew_at = 0.0
        self._renewing = asyncio.Lock()

    async def register(self, client: HttpClient) -> None:
        """Open the account and log in. Raises ``StartFailed``."""
        body = {"email": self.email, "password": self._password, "name": "Drill Customer", "language": "en"}
        refusal = "no answer"
        for _ in range(_TRIES):
            try:
                answer = await client.request(self._auth.port, "POST", "/register", body=body)
                if answer.status in {HTTPStatus.CREATED, HTTPStatus.CONFLICT}:
                    await self.renew(client)
                    if self.token:
                        return
                refusal = f"{answer.status} {answer.body[:200]!r}"
            except NoAnswer:
                pass
            await asyncio.sleep(_RETRY_S)
        raise StartFailed(f"{self.email} could not be registered: {refusal}")

    async def renew(self, client: HttpClient, *, refused: bool = False) -> None:
        """Log in again if half of the token's life is over, or if it was refused.

        Raises ``NoAnswer``. The token stays the same if the login is refused.
        """
        if not refused and time.monotonic() < self._renew_at:
            return
        async with self._renewing:
            if not refused and time.monotonic() < self._renew_at:
                return  # another order of the same customer has just renewed it
            login = {"email": self.email, "password": self._password}
            answer = await client.request(self._auth.port, "POST", "/login", body=login)
            if answer.status == HTTPStatus.OK:
                fresh = answer.json()
                self.token = fresh["access_token"]
                self._renew_at = time.monotonic() + fresh["expires_in"] * _RENEW_BEFORE_END

    async def stay_logged_in(self, client: HttpClient, *, refused: bool = False) -> None:
        """Like ``renew``, for at most 6 s. The token stays the same if there is no answer."""
        with suppress(NoAnswer, TimeoutError):
            async with asyncio.timeout(ATTEMPT_TIMEOUT_S):
                await self.renew(client, refused=refused)


async def register(
    client: HttpClient, number: int, domain: str, password: str, auth: Application
) -> Sequence[Customer]:
    """Open so many accounts, eight at a time. Raises ``StartFailed``."""
    customers = [Customer(place, domain, password, auth) for place in range(1, number + 1)]
    gate = asyncio.Semaphore(_CONCURRENT)

    async def one(customer: Customer) -> None:
        async with gate:
            await customer.register(client)

    await asyncio.gather(*map(one, customers))
    return customers


def new_password() -> str:
    """A canary for all accounts of a run: it must not show up anywhere."""
    return f"canary-password-{secrets.token_hex(12)}"
