"""The people of these tests: a customer and somebody of the staff, over the API and in the browser."""

import asyncio
import itertools
import sys
from dataclasses import dataclass
from typing import Any

import httpx

from browser.page import Page
from own_processes import Processes, environment

PASSWORD = "correct horse battery"
ADDRESS = {
    "recipient": "Ada Lovelace",
    "line1": "12 St James's Square",
    "city": "London",
    "postal_code": "SW1Y 4JH",
    "country": "GB",
}
_numbers = itertools.count(1)


def new_email(stem: str) -> str:
    """An address that nobody has yet."""
    return f"{stem}-{next(_numbers)}@example.com"


@dataclass
class Person:
    """Somebody with an account, as a program would act for them."""

    client: httpx.AsyncClient
    email: str
    id: str
    token: str

    async def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Ask the API; anything but success is an error."""
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        answer = await self.client.request(method, path, headers=headers, **options)
        assert answer.is_success, answer.text
        return answer

    async def place(self, product_id: int = 1, quantity: int = 1) -> dict[str, Any]:
        """Place an order."""
        body = {"items": [{"product_id": product_id, "quantity": quantity}], "shipping_address": ADDRESS}
        order: dict[str, Any] = (await self.call("POST", "/api/orders/", json=body)).json()
        return order

    async def orders(self) -> list[dict[str, Any]]:
        """One's own orders."""
        found: list[dict[str, Any]] = (await self.call("GET", "/api/orders/")).json()["orders"]
        return found

    async def change(self, order_id: str, **members: str) -> None:
        """As staff: move an order on from whatever it is."""
        etag = (await self.call("GET", f"/api/orders/{order_id}")).headers["etag"]
        await self.call("PATCH", f"/api/orders/{order_id}", json=members, headers={"If-Match": etag})

    async def sign_in(self, page: Page, then: str = "#/") -> None:
        """Sign in on the page, and go on to a view."""
        await page.open("/#/sign-in")
        await page.fill("Email", self.email)
        await page.fill("Password", PASSWORD)
        await page.click("button", "Sign in")
        await page.shows("/")
        await page.go(then)


async def new_person(client: httpx.AsyncClient, stem: str = "customer", name: str = "Ada Lovelace") -> Person:
    """Open an account."""
    email = new_email(stem)
    opened = await client.post("/register", json={"email": email, "password": PASSWORD, "name": name})
    assert opened.status_code == 201, opened.text
    return Person(client, email, opened.json()["id"], await _token(client, email))


async def new_staff(client: httpx.AsyncClient, processes: Processes, role: str = "staff") -> Person:
    """Open an account, and make it one of the staff from the console."""
    person = await new_person(client, "staff", "Grace Hopper")
    console = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "purveyor", "user", "role", person.email, role),
        env=environment(processes.settings),
        cwd=processes.folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await console.communicate()
    assert console.returncode == 0, said.decode()
    person.token = await _token(client, person.email)
    return person


async def _token(client: httpx.AsyncClient, email: str) -> str:
    answer = await client.post("/login", json={"email": email, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])
