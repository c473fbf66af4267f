"""The desk works whole where each role runs in a process of its own, and so does the console."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import pytest_asyncio

from browser.people import Person, new_person, new_staff
from own_processes import Processes, own_processes
from purveyor_drill.servers.process import free_port
from running import Running, public_client

_PATIENCE_S = 60


@dataclass
class Apart:
    """The processes by their roles, and a client of each."""

    processes: Processes
    clients: dict[str, httpx.AsyncClient] = field(default_factory=dict)
    staff: Person | None = None

    async def desk(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Ask the shop's process as staff."""
        assert self.staff is not None
        headers = {"Authorization": f"Bearer {self.staff.token}"}
        return await self.clients["shop"].request(method, path, headers=headers, **options)

    async def console(self, *arguments: str) -> str:
        """Run ``app`` with the settings that all processes share."""
        running = Running(self.clients, self.processes.settings, self.processes.folder, list)
        return await running.console(*arguments)


@pytest_asyncio.fixture(scope="module")
async def apart(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Apart]:
    ports = {role: free_port() for role in ("auth", "orders", "email", "shop")}
    peers = {
        f"{role.upper()}_SERVICE": f"http://127.0.0.1:{port}" for role, port in ports.items() if role != "shop"
    }
    async with own_processes(tmp_path_factory.mktemp("apart"), **peers) as processes:
        processes.ports.update(ports)
        for role in ports:
            processes.start(role, "serve", role)
        await processes.ready(*ports)
        made = Apart(processes)
        async with AsyncExitStack() as stack:
            for role, port in ports.items():
                made.clients[role] = await stack.enter_async_context(public_client(port))
            made.staff = await new_staff(made.clients["auth"], processes)
            yield made


@pytest_asyncio.fixture(scope="module")
async def order(apart: Apart) -> dict[str, Any]:
    """An order, placed by a customer."""
    customer = await new_person(apart.clients["auth"])
    customer.client = apart.clients["orders"]
    return await customer.place()


async def until(look: Callable[[], Awaitable[Any]]) -> Any:
    """What there is, once there is something."""
    async with asyncio.timeout(_PATIENCE_S):
        while not (found := await look()):
            await asyncio.sleep(0.1)
    return found


async def sent_mail(apart: Apart, order: dict[str, Any], at_least: int = 0) -> Any:
    async def look() -> Any:
        answer = await apart.desk("GET", "/api/mails", params={"order_id": order["id"], "state": "sent"})
        assert answer.status_code == 200, answer.text
        return [mail for mail in answer.json()["mails"] if mail["resends"] >= at_least]

    (mail,) = await until(look)
    return mail


async def test_mails_of_an_order_are_listed_and_sent_again(apart: Apart, order: dict[str, Any]) -> None:
    mail = await sent_mail(apart, order)
    assert mail["order_number"] == order["order_number"]

    again = await apart.desk("POST", f"/api/mails/{mail['event_id']}/resend")
    assert again.status_code == 202
    assert (await sent_mail(apart, order, at_least=1))["message_id"] == mail["message_id"]


async def test_what_other_roles_refuse_arrives_as_their_problem(apart: Apart) -> None:
    resent = await apart.desk("POST", "/api/mails/no-such-event/resend")
    listed = await apart.desk("GET", "/api/mails", params={"order_id": "no-such-order"})

    assert (resent.status_code, resent.json()["type"]) == (404, "/problems/not-found")
    assert (listed.status_code, listed.json()["type"]) == (404, "/problems/not-found")


async def test_dead_letters_are_listed(apart: Apart) -> None:
    answer = await apart.desk("GET", "/api/dead-letters")

    assert (answer.status_code, answer.json()) == (200, {"dead_letters": []})


async def test_pages_and_mailbox_are_served_by_the_shop(apart: Apart, order: dict[str, Any]) -> None:
    await sent_mail(apart, order)
    shop = apart.clients["shop"]

    assert (await shop.get("/")).status_code == 200
    config = (await shop.get("/static/shop/config.json")).json()
    assert (config["development"], config["mailbox"]) == (True, True)
    assert "<title>Mailbox" in (await shop.get("/mailbox")).text
    assert str(order["order_number"]) in (await shop.get("/mailbox/messages")).text
    assert (await shop.get("/mailbox/previews")).json()


async def test_console_asks_the_processes(apart: Apart, order: dict[str, Any]) -> None:
    mail = await sent_mail(apart, order)

    assert mail["event_id"] in await apart.console("mail", "list")
    assert "Subject: " in await apart.console("mail", "show", mail["event_id"])
    assert "mail sent" in await apart.console("trace", order["id"])
    assert "auth at 127.0.0.1" in await apart.console("doctor", "--roles", "shop")


async def test_without_a_service_token_nobody_is_answered(apart: Apart) -> None:
    assert apart.staff is not None
    for role, ask in (("email", "ListMails"), ("orders", "TraceOrder"), ("auth", "SetAccess")):
        for headers in ({}, {"Authorization": f"Bearer {apart.staff.token}"}):
            answer = await apart.clients[role].post(f"/internal/{role}/{ask}", json={}, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["content-type"] == "application/problem+json"


async def test_desk_says_that_a_role_is_away(apart: Apart) -> None:
    await apart.processes.end("email")

    answer = await apart.desk("GET", "/api/mails")

    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
    assert (await apart.clients["shop"].get("/")).status_code == 200
    assert (await apart.clients["shop"].get("/static/shop/config.json")).json()["mailbox"] is False
