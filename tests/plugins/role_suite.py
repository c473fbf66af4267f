"""The suite of role tally, in every shape. ``test_role_template.py`` runs it where the package is installed."""

import json
from collections import Counter

import pytest
from purveyor_role_template.contract import OrderDay, Tally

from purveyor.host import Host
from purveyor.kit.mode import Mode
from purveyor.settings import Sources
from running import Running
from shop import Customer, Shop
from waiting import until


async def by_route(shop: Shop, staff: Customer) -> Counter[str]:
    answer = await shop.raw("GET", "/api/tally", staff)
    assert answer.status_code == 200, answer.text
    return Counter({day["date"]: day["orders"] for day in answer.json()["days"]})


async def by_ask(shop: Shop) -> Counter[str]:
    """Ask the process that runs the role, as another process would."""
    running = shop._deployment
    assert isinstance(running, Running)
    address = str(running.clients.get("/api/tally", running.clients["/"]).base_url)
    sources = Sources(environ={**running.settings, "TALLY_SERVICE": address}, dotenv=None)
    async with Host([], sources, mode=Mode.CONSOLE).running() as host:
        days = await host.port(Tally).days()
    assert all(isinstance(day, OrderDay) for day in days)
    return Counter({day.date: day.orders for day in days})


@pytest.mark.events
async def test_each_order_is_counted_once(shop: Shop) -> None:
    staff, customer = await shop.staff(), await shop.customer()
    before = await by_route(shop, staff)
    for _ in range(3):
        assert (await shop.place(customer, [(1, 2)])).status_code == 201

    async def all_counted() -> bool:
        return (await by_route(shop, staff)).total() >= before.total() + 3

    await until(all_counted)
    await shop.confirmed()  # every mail of an order was sent, and every event delivered
    after = await by_route(shop, staff)
    assert after.total() == before.total() + 3
    assert await by_ask(shop) == after


async def test_only_staff_may_count(shop: Shop) -> None:
    assert (await shop.raw("GET", "/api/tally")).status_code == 401
    answer = await shop.raw("GET", "/api/tally", await shop.customer())
    assert (answer.status_code, answer.json()["type"]) == (403, "/problems/forbidden")


async def test_number_of_days_is_checked(shop: Shop) -> None:
    answer = await shop.raw("GET", "/api/tally?days=0", await shop.staff())
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/days")


async def test_documents_and_health_of_the_process_show_the_role(shop: Shop) -> None:
    documents = [answer.json() for answer in await shop.everywhere("/openapi.json")]
    (document,) = [each for each in documents if "/api/tally" in each["paths"]]
    assert document["paths"]["/api/tally"]["get"]["tags"] == ["tally"]
    assert "tally" in {tag["name"] for tag in document["tags"]}
    events = [answer.json() for answer in await shop.everywhere("/asyncapi.json")]
    assert all("from queue order.created.tally." in json.dumps(each) for each in events)
    health = [answer.json() for answer in await shop.everywhere("/health/ready")]
    assert sum("tally" in each["roles"] for each in health) == 1
