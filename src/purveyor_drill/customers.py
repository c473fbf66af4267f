"""The customers of a drill: accounts made beforehand, and access tokens that are renewed when they end."""

import asyncio
import secrets
import time
from collections.abc import Sequence
from http import HTTPStatus

from purveyor_drill.http_client import NoAnswer, WireClient
from purveyor_drill.processes import Application
from purveyor_drill.servers.process import StartFailed

_RENEW_BEFORE_END = 0.5
_TRIES = 20
_AGAIN_S = 0.5
_MANY = 8


class Customer:
    """Somebody with an account. ``auth``: a process with role auth."""

    def __init__(self, number: int, domain: str, password: str, auth: Application) -> None:
        self.email = f"customer-{number}@{domain}"
        self.token = ""
        self._password = password
        self._auth = auth
        self._renew_at = 0.0
        self._renewing = asyncio.Lock()

    async def register(self, client: WireClient) -> None:
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
                pass  # the next try tells
            await asyncio.sleep(_AGAIN_S)
        raise StartFailed(f"{self.email} could not be registered: {refusal}")

    async def renew(self, client: WireClient, *, refused: bool = False) -> None:
        """Log in again when half of the token's life is over, or when it was refused; else do nothing.

        Raises ``NoAnswer``. When the answer is another one, the token stays what it was.
        """
        if not refused and time.monotonic() < self._renew_at:
            return
        async with self._renewing:
            if not refused and time.monotonic() < self._renew_at:
                return  # another order of the same customer did it meanwhile
            login = {"email": self.email, "password": self._password}
            answer = await client.request(self._auth.port, "POST", "/login", body=login)
            if answer.status == HTTPStatus.OK:
                fresh = answer.json()
                self.token = fresh["access_token"]
                self._renew_at = time.monotonic() + fresh["expires_in"] * _RENEW_BEFORE_END


async def register(
    client: WireClient, number: int, domain: str, password: str, auth: Application
) -> Sequence[Customer]:
    """Open so many accounts, a few at a time. Raises ``StartFailed``."""
    customers = [Customer(place, domain, password, auth) for place in range(1, number + 1)]
    gate = asyncio.Semaphore(_MANY)

    async def one(customer: Customer) -> None:
        async with gate:
            await customer.register(client)

    await asyncio.gather(*map(one, customers))
    return customers


def new_password() -> str:
    """One for all accounts of a run: a canary, which must not show up anywhere."""
    return f"canary-password-{secrets.token_hex(12)}"
