"""The shop as a test sees it: what customers, staff and operators can do, whatever the shape that serves them."""

import email
import email.policy
import json
import re
import secrets
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from email.message import EmailMessage
from functools import cached_property
from typing import Any, Protocol

import httpx

from waiting import PATIENCE_S, Missing, until

PASSWORD = "a long enough password"

Items = Sequence[tuple[int, int]]
"""Product ids, each with a quantity."""


@dataclass(frozen=True)
class Customer:
    """Somebody with an account; ``token`` is empty until they log in."""

    id: str
    email: str
    name: str
    password: str
    token: str = ""
    refresh_token: str = ""


class Mail:
    """A mail that left the shop."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    @cached_property
    def message(self) -> EmailMessage:
        return email.message_from_bytes(self.content, policy=email.policy.default)

    @cached_property
    def to(self) -> str:
        return str(self.message["To"].addresses[0].addr_spec)

    @cached_property
    def subject(self) -> str:
        return str(self.message["Subject"])

    @cached_property
    def is_about_account(self) -> bool:
        """The subject of an order's mail has its number; no other has one."""
        return not any(character.isdigit() for character in self.subject)

    @property
    def message_id(self) -> str:
        return str(self.message["Message-ID"])

    @cached_property
    def text(self) -> str:
        return self._part("plain")

    @cached_property
    def html(self) -> str:
        return self._part("html")

    def _part(self, kind: str) -> str:
        part = self.message.get_body((kind,))
        return str(part.get_content()) if part else ""


@dataclass(frozen=True)
class SentEvent:
    """One server-sent event."""

    id: str
    event: str
    data: Any


class EventSource:
    """The events of an answer (HTML standard, section 9.2); comments are left out."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self._lines = answer.aiter_lines()

    async def rest(self) -> None:
        """Read until the stream ends."""
        async for _ in self._lines:
            continue

    async def next(self) -> SentEvent:
        """The next event; raises ``StopAsyncIteration`` at the end of the stream."""
        fields: dict[str, str] = {}
        while True:
            line = await anext(self._lines)
            name, _, value = line.partition(": ")
            if name:
                fields[name] = value
            elif "data" in fields:
                return SentEvent(fields["id"], fields["event"], json.loads(fields["data"]))
            elif not line:
                fields = {}


class Deployment(Protocol):
    """A running shape."""

    shows_mailbox: bool
    """Whether mails are shown under ``/mailbox``."""
    clients: Mapping[str, httpx.AsyncClient]
    """Who serves the paths that begin so."""

    async def mails(self) -> Sequence[Mail]:
        """Every mail that was handed over, oldest first."""
        ...

    async def console(self, *arguments: str) -> str:
        """Run ``app`` with these arguments; what it prints."""
        ...


class Shop:
    """Every method is one request and returns the answer as it is, unless it says otherwise."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self.shows_mailbox = deployment.shows_mailbox
        self._unconfirmed: dict[str, str] = {}
        self._addresses: set[str] = set()

    async def raw(self, method: str, path: str, by: Customer | None = None, **request: Any) -> httpx.Response:
        """Any request at all; ``request`` is what httpx takes."""
        headers = httpx.Headers(request.pop("headers", None))
        if by is not None:
            headers["authorization"] = f"Bearer {by.token}"
        client = self._client(path)
        return await client.request(method, path, headers=headers, **request)

    def _client(self, path: str) -> httpx.AsyncClient:
        clients = self._deployment.clients
        return clients[max((prefix for prefix in clients if path.startswith(prefix)), key=len)]

    async def everywhere(self, path: str) -> list[httpx.Response]:
        """``GET`` a path from every process that serves the public."""
        clients = {id(client): client for client in self._deployment.clients.values()}
        return [await client.get(path) for client in clients.values()]

    async def register(self, **members: Any) -> httpx.Response:
        """Open an account; what is not given is made up, ``None`` leaves a member out."""
        given = {"email": fresh_email(), "password": PASSWORD, "name": "Ada Lovelace"} | members
        self._addresses.add(given["email"])
        return await self.raw("POST", "/register", json={k: v for k, v in given.items() if v is not None})

    async def login(self, email: str, password: str, *, address: str = "", form: bool = False) -> httpx.Response:
        """Log in from a network ``address``: without one, from one that nobody else has."""
        headers = {"x-forwarded-for": address or fresh_address()}
        if form:
            fields = {"username": email, "password": password}
            return await self.raw("POST", "/login", headers=headers, data=fields)
        return await self.raw("POST", "/login", headers=headers, json={"email": email, "password": password})

    async def customer(self, **members: Any) -> Customer:
        """A new customer who has logged in."""
        password = members.get("password", PASSWORD)
        answer = await self.register(**members)
        assert answer.status_code == 201, answer.text
        account = answer.json()
        made = Customer(account["id"], account["email"], account["name"], password)
        return await self.logged_in(made)

    async def logged_in(self, customer: Customer) -> Customer:
        """The same person with a new token."""
        answer = await self.login(customer.email, customer.password)
        assert answer.status_code == 200, answer.text
        return renewed(customer, answer)

    async def staff(self, role: str = "staff") -> Customer:
        """A new employee who has logged in."""
        employee = await self.customer(name="Grace Hopper")
        await self._deployment.console("user", "role", employee.email, role)
        return await self.logged_in(employee)

    async def refresh(self, refresh_token: str) -> httpx.Response:
        """Exchange a refresh token for the next pair."""
        return await self.raw("POST", "/token/refresh", json={"refresh_token": refresh_token})

    async def log_out(self, by: Customer) -> httpx.Response:
        """End the session."""
        return await self.raw("POST", "/logout", by)

    async def change_password(self, by: Customer, current: str, new: str) -> httpx.Response:
        """Change one's password, from a network that nobody else has."""
        body = {"current_password": current, "new_password": new}
        headers = {"x-forwarded-for": fresh_address()}
        return await self.raw("POST", "/password", by, json=body, headers=headers)

    async def forgot(self, email: str) -> httpx.Response:
        """Ask for a mail to set a new password."""
        return await self.raw("POST", "/password/forgot", json={"email": email})

    async def reset(self, token: str, password: str) -> httpx.Response:
        """Set a new password with the token from the mail."""
        return await self.raw("POST", "/password/reset", json={"token": token, "password": password})

    async def personal_data(self, by: Customer, user_id: str = "") -> httpx.Response:
        """Everything that is held on a person, oneself without an id, as far as it has come."""
        return await self.raw("GET", f"/user/{user_id or by.id}/export", by)

    async def erase(self, by: Customer, user_id: str = "") -> httpx.Response:
        """Delete an account, one's own without an id."""
        answer = await self.raw("DELETE", f"/user/{user_id or by.id}", by)
        if answer.status_code == 204:  # who is gone gets no mail any more
            self._unconfirmed = {
                number: buyer for number, buyer in self._unconfirmed.items() if buyer != (user_id or by.id)
            }
        return answer

    async def erasures(self) -> str:
        """What an operator is told of deleted accounts."""
        return await self._deployment.console("user", "erasures")

    async def users(self, by: Customer, **filters: Any) -> httpx.Response:
        """As staff: a page of users."""
        return await self.raw("GET", "/users", by, params=filters)

    async def change_access(self, by: Customer, user_id: str, role: str) -> httpx.Response:
        """As an admin: say what somebody may do."""
        return await self.raw("PATCH", f"/user/{user_id}/access", by, json={"role": role})

    async def verify(self, token: str, *, in_body: bool = False) -> httpx.Response:
        """Ask whose token it is."""
        if in_body:
            return await self.raw("POST", "/verify-token", json={"token": token})
        return await self.raw("POST", "/verify-token", headers={"authorization": f"Bearer {token}"})

    async def profile(self, by: Customer, user_id: str = "") -> httpx.Response:
        """Read a profile, one's own without an id."""
        return await self.raw("GET", f"/user/{user_id or by.id}", by)

    async def change_profile(self, by: Customer, user_id: str = "", **members: Any) -> httpx.Response:
        """Change members of a profile, one's own without an id."""
        return await self.raw("PATCH", f"/user/{user_id or by.id}", by, json=members)

    async def addresses(self, by: Customer, user_id: str = "") -> httpx.Response:
        """The addresses of a profile, one's own without an id."""
        return await self.raw("GET", f"/user/{user_id or by.id}/addresses", by)

    async def add_address(self, by: Customer, user_id: str = "", **members: Any) -> httpx.Response:
        """Add an address; what is not given is made up."""
        return await self.raw("POST", f"/user/{user_id or by.id}/addresses", by, json=an_address() | members)

    async def address(
        self, by: Customer, address_id: str, *, method: str = "GET", user_id: str = "", **members: Any
    ) -> httpx.Response:
        """One address; with ``method="PUT"`` replaced as a whole, with ``DELETE`` deleted."""
        sent = {"json": an_address() | members} if method == "PUT" else {}
        return await self.raw(method, f"/user/{user_id or by.id}/addresses/{address_id}", by, **sent)

    async def place(
        self,
        by: Customer,
        items: Items = ((1, 1),),
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> httpx.Response:
        """Place an order, with an ``Idempotency-Key`` where there is one."""
        body = {"items": [{"product_id": product, "quantity": quantity} for product, quantity in items]}
        sent_headers = dict(headers or {}) | ({} if key is None else {"idempotency-key": key})
        answer = await self.raw("POST", "/api/orders/", by, json=body | members, headers=sent_headers)
        if answer.status_code == 201:
            order = answer.json()
            self._unconfirmed[str(order["order_number"])] = order["user_id"]
        return answer

    async def placed(self, by: Customer, items: Items = ((1, 1),), **members: Any) -> httpx.Response:
        """Place an order as a good client does: again, under the same key, while the shop is overloaded."""
        key = uuid.uuid4().hex

        async def answered() -> httpx.Response | None:
            answer = await self.place(by, items, key=key, **members)
            return None if answer.status_code in {409, 503} else answer

        return await until(answered)

    async def confirmed(self) -> None:
        """Wait until every order placed here has a mail; then nobody has been sent one twice."""

        async def confirmed() -> Missing:
            for mail in await self._deployment.mails():
                if number := re.search(r"\d+", mail.subject):
                    self._unconfirmed.pop(number[0], None)
            return Missing(self._unconfirmed)

        await until(confirmed)
        mails = [mail for mail in await self._deployment.mails() if mail.to in self._addresses]
        assert [found for found in Counter(mail.message_id for mail in mails).items() if found[1] > 1] == []

    async def get(self, by: Customer, order_id: str, *, if_none_match: str | None = None) -> httpx.Response:
        """Read one order."""
        headers = {} if if_none_match is None else {"if-none-match": if_none_match}
        return await self.raw("GET", f"/api/orders/{order_id}", by, headers=headers)

    async def change(
        self, by: Customer, order_id: str, *, if_match: str | None = '"1"', **members: Any
    ) -> httpx.Response:
        """As staff: put an order into another state."""
        headers = {} if if_match is None else {"if-match": if_match}
        return await self.raw("PATCH", f"/api/orders/{order_id}", by, headers=headers, json=members)

    async def cancel(
        self, by: Customer, order_id: str, reason: str | None = None, *, if_match: str | None = None
    ) -> httpx.Response:
        """Cancel an order; without a reason the request has no body at all."""
        headers = {} if if_match is None else {"if-match": if_match}
        sent = {} if reason is None else {"json": {"reason": reason}}
        return await self.raw("POST", f"/api/orders/{order_id}/cancel", by, headers=headers, **sent)

    async def timeline(self, by: Customer, order_id: str) -> httpx.Response:
        """What happened to an order."""
        return await self.raw("GET", f"/api/orders/{order_id}/timeline", by)

    async def happened(self, by: Customer, order_id: str, *what: str) -> Any:
        """The entries of a timeline, once each ``what`` is among them."""
        entries: list[Any] = []

        async def happened() -> Missing:
            entries[:] = (await self.timeline(by, order_id)).json()["entries"]
            return Missing(set(what) - {entry["what"] for entry in entries})

        await until(happened)
        return entries

    @asynccontextmanager
    async def live(
        self, by: Customer | None, order_id: str, last_event_id: str | None = None, *, ticket: str = ""
    ) -> AsyncIterator["EventSource"]:
        """What happens to an order, while it happens."""
        path = f"/api/orders/{order_id}/live{'?ticket=' if ticket else ''}{ticket}"
        headers = {"authorization": f"Bearer {by.token}"} if by else {}
        headers |= {} if last_event_id is None else {"last-event-id": last_event_id}
        async with self._client(path).stream("GET", path, headers=headers, timeout=PATIENCE_S) as answer:
            yield EventSource(answer)

    async def export(self, by: Customer, **filters: Any) -> httpx.Response:
        """All orders as a CSV file."""
        return await self.raw("GET", "/api/orders/export.csv", by, params=filters)

    async def list(self, by: Customer, **filters: Any) -> httpx.Response:
        """Read a page of orders."""
        return await self.raw("GET", "/api/orders/", by, params=filters)

    async def products(self, **filters: Any) -> httpx.Response:
        """Read a page of what can be ordered."""
        return await self.raw("GET", "/api/products", params=filters)

    async def product(self, product_id: object) -> httpx.Response:
        """Read one product."""
        return await self.raw("GET", f"/api/products/{product_id}")

    async def prices(self) -> dict[int, Decimal]:
        """The price of every product."""
        found: dict[int, Decimal] = {}
        page = 1
        while True:
            listed = exact(await self.products(page=page, limit=100))
            found |= {product["id"]: product["price"] for product in listed["products"]}
            page += 1
            if not listed["has_more"]:
                return found

    async def mails(self, to: str, *, at_least: int = 1, account: bool = False) -> Sequence[Mail]:
        """Every mail to an address about orders, once there are ``at_least`` so many; fails when they do not come.

        With ``account`` those about the account instead. That none comes twice is found out at the end.
        """
        found: list[Mail] = []

        async def came() -> Missing:
            found[:] = [
                mail
                for mail in await self._deployment.mails()
                if mail.to == to and mail.is_about_account is account
            ]
            return Missing(range(len(found), at_least))

        await until(came)
        return found

    async def mailed_token(self, to: str, *, to_reset: bool = False) -> str:
        """The newest token that was mailed to confirm an address, or one to set a new password."""
        written = r"^\s*([\w-]{43})\s*$" if to_reset else r"(?:confirm\?token=|: )([\w-]{43})\s*$"

        async def tokens() -> list[str]:
            mails = await self.mails(to, account=True)
            return [token for mail in mails for token in re.findall(written, mail.text, re.M)]

        return (await until(tokens))[-1]

    async def trace(self, order: object) -> str:
        """What an operator is told of an order's way."""
        return await self._deployment.console("trace", str(order))


def renewed(customer: Customer, answer: httpx.Response) -> Customer:
    """The same person with the tokens of an answer."""
    pair = answer.json()
    return replace(customer, token=pair["access_token"], refresh_token=pair["refresh_token"])


def fresh_email() -> str:
    """An address that nobody has yet."""
    return f"customer-{uuid.uuid4().hex}@example.com"


def fresh_address() -> str:
    """A network address that, in all likelihood, nobody has used yet."""
    return ".".join(str(1 + secrets.randbelow(254)) for _ in range(4))  # Hypothesis seeds the module random


def an_address() -> dict[str, Any]:
    """A postal address that is in order."""
    return {
        "recipient": "Ada Lovelace",
        "line1": "12 St James's Square",
        "city": "London",
        "postal_code": "SW1Y 4JH",
        "country": "GB",
    }


def exact(answer: httpx.Response) -> Any:
    """The body of an answer, its numbers exactly as they were written."""
    return json.loads(answer.content, parse_float=Decimal)


def problem(
    answer: httpx.Response, status: int, code: str, *pointers: str, more: Collection[str] = ()
) -> dict[str, Any]:
    """Check that the answer is this problem (RFC 9457), with these pointers and ``more`` members; its body."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    expected = {"type", "title", "status", "detail", "instance", "request_id"}
    assert set(body) - {"errors"} == expected | set(more)
    assert body["type"] == f"/problems/{code}"
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert body["instance"] == answer.request.url.raw_path.partition(b"?")[0].decode()
    assert body["request_id"] == answer.headers["x-request-id"]
    assert tuple(error["pointer"] for error in body.get("errors", ())) == pointers
    if status == 401:
        assert answer.headers["www-authenticate"].startswith("Bearer")
    if status in (429, 503):
        assert int(answer.headers["retry-after"]) >= 1
    return body
