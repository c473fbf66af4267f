"""Demo requests: customers register and order, staff process the orders."""

import asyncio
import random
import re
import secrets
from collections.abc import Sequence
from http import HTTPStatus
from itertools import count
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import httpx

from purveyor.cli.demo.people import CANCEL_REASONS, PAYMENT_METHODS, note, person
from purveyor.kit.errors import StartupError

_AT_ONCE = 6
_TIMEOUT_S = 30.0
_LOOPBACK_CLIENTS = 250
_MAILBOX_LOOKS = 60
_MAILBOX_PAUSE_S = 0.25
_CONFIRM_LINK = re.compile(r"#/confirm\?token=([\w-]+)")

Step = dict[str, str]
_PAID = {"payment_status": "paid"}
_FATES: tuple[tuple[int, str, tuple[Step, ...]], ...] = (
    (10, "pending", ()),
    (14, "confirmed", ({"status": "confirmed"},)),
    (6, "confirmed", ({"status": "confirmed", **_PAID},)),
    (16, "shipped", ({"status": "confirmed"}, {"status": "shipped", **_PAID})),
    (40, "delivered", ({"status": "confirmed"}, {"status": "shipped"}, {"status": "delivered", **_PAID})),
    (8, "cancelled", ()),
    (6, "cancelled", ({"status": "confirmed", **_PAID},)),
)
"""Weight, final status and staff's changes. The customer cancels a cancelled order after the last change."""


class Refused(StartupError):
    """The server answered with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Customer(NamedTuple):
    """A signed-in customer."""

    email: str
    token: str
    address_id: str


class Fate(NamedTuple):
    """The course of an order after it is placed."""

    ends: str
    steps: Sequence[Step]


def fate(chance: random.Random) -> Fate:
    """Draw the fate of an order."""
    _, ends, steps = chance.choices(_FATES, weights=[weight for weight, _, _ in _FATES])[0]
    return Fate(ends, steps)


class DemoShop:
    """Sends the requests, a few at a time, and waits where a rate limit asks to."""

    def __init__(self, url: str, chance: random.Random) -> None:
        self._url, self._chance = url, chance
        self._run = secrets.token_hex(2)
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._client = self._connect()

    async def products(self) -> list[int | str]:
        """Product ids of the first page that has any."""
        for page in count(1):
            found = await self._call("GET", f"/api/products?limit=100&page={page}")
            if found["products"] or not found["has_more"]:
                break
        if not found["products"]:
            raise StartupError(f"The server at {self._url} sells no products. Run app doctor there.")
        return [item["id"] for item in found["products"]]

    async def join(self, number: int, password: str) -> Customer:
        """Register, sign in, confirm the email address and save a postal address.

        Registrations are rate-limited by network address. For a local server each customer uses another address
        of 127.0.0.0/8.
        """
        new = person(self._chance, number, self._run, password)
        email = new.registration["email"]
        async with self._connect(f"127.0.1.{number % _LOOPBACK_CLIENTS + 2}") as client:
            user = await self._call("POST", "/register", client=client, json=new.registration)
            token = await self._log_in(client, email, password)
            await self._confirm(client, email)
        kept = await self._call("POST", f"/user/{user['id']}/addresses", token, json=new.address)
        return Customer(email, token, kept["id"])

    async def _confirm(self, client: httpx.AsyncClient, email: str) -> None:
        """Open the link in the welcome email, if the server has a development mailbox.

        Otherwise the address stays unconfirmed, and most emails to it are held.
        """
        for _ in range(_MAILBOX_LOOKS):
            try:
                letters = await self._call("GET", f"/mailbox/messages?q={quote(email)}", client=client)
            except Refused:
                return
            links = (_CONFIRM_LINK.search(letter["text"]) for letter in letters)
            if link := next(filter(None, links), None):
                await self._call("POST", "/email/confirm", client=client, json={"token": link[1]})
                return
            await asyncio.sleep(_MAILBOX_PAUSE_S)

    async def sign_in(self, email: str, password: str) -> str:
        """Sign in and return an access token."""
        return await self._log_in(self._client, email, password)

    async def live(self, customer: Customer, products: Sequence[int | str], staff: str, fate: Fate) -> None:
        """Place an order for a few products and process it to its final status."""
        order = await self._order(customer, products)
        path, version = f"/api/orders/{order['id']}", order["version"]
        for step in fate.steps:
            headers = {"If-Match": f'"{version}"'}
            version = (await self._call("PATCH", path, staff, json=step, headers=headers))["version"]
        if fate.ends == "cancelled":
            reason = {"reason": self._chance.choice(CANCEL_REASONS)}
            await self._call("POST", f"{path}/cancel", customer.token, json=reason)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _connect(self, local_address: str | None = None) -> httpx.AsyncClient:
        here = (urlsplit(self._url).hostname or "").startswith("127.")
        transport = httpx.AsyncHTTPTransport(local_address=local_address if here else None, trust_env=False)
        return httpx.AsyncClient(base_url=self._url, timeout=_TIMEOUT_S, transport=transport, trust_env=False)

    async def _order(self, customer: Customer, products: Sequence[int | str]) -> dict[str, Any]:
        chosen = self._chance.sample(products, k=min(len(products), self._chance.choice((1, 1, 2, 2, 3, 5))))
        body: dict[str, Any] = {
            "items": [
                {"product_id": product, "quantity": self._chance.choice((1, 1, 1, 2, 3))} for product in chosen
            ],
            "payment_method": self._chance.choice(PAYMENT_METHODS),
            "shipping_address_id": customer.address_id,
            "note": note(self._chance),
        }
        key = {"Idempotency-Key": secrets.token_hex(16)}
        placed: dict[str, Any] = await self._call("POST", "/api/orders/", customer.token, json=body, headers=key)
        return placed

    async def _log_in(self, client: httpx.AsyncClient, email: str, password: str) -> str:
        body = {"email": email, "password": password}
        answer = await self._call("POST", "/login", client=client, json=body)
        token: str = answer["access_token"]
        return token

    async def _call(
        self, method: str, path: str, token: str = "", *, client: httpx.AsyncClient | None = None, **rest: Any
    ) -> Any:
        """Send a request and retry it on 429 and 503. Raises ``Refused``."""
        headers = rest.pop("headers", {}) | ({"Authorization": f"Bearer {token}"} if token else {})
        while True:
            async with self._slots:
                answer = await (client or self._client).request(method, path, headers=headers, **rest)
            if answer.status_code not in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
                break
            await asyncio.sleep(float(answer.headers.get("Retry-After", "1")))
        if answer.is_error:
            raise Refused(
                answer.status_code,
                f"The answer to {method} {path} was {answer.status_code}: {answer.text[:300]}",
            )
        return answer.json() if answer.content else None
