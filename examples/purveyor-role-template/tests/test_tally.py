"""Role tally on an embedded PostgreSQL."""

import asyncio
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest
from purveyor_role_template.contract import OrderDay, OrderDays, Tally, TallyOrders
from purveyor_role_template.role import ROLE

from purveyor.host import Host, choose_roles
from purveyor.kit.clock import now
from purveyor.kit.events.message import Envelope, encode
from purveyor.registry import ROLES
from purveyor.roles.orders.contract import OrderCreated
from purveyor.settings import Sources

ORDER = OrderCreated(
    order_number=1,
    user_email="ada@example.com",
    user_name="Ada",
    total_amount=Decimal(10),
    items=(),
    payment_method="card",
)


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    sources = Sources(environ={"DATA_DIR": str(tmp_path)}, dotenv=None)
    async with Host(choose_roles(["auth", "tally"]), sources).running() as running:
        yield running


async def test_order_is_counted_once_however_often_its_event_is_delivered(host: Host) -> None:
    first, second = (Envelope.about(ORDER, subject=str(number)) for number in (1, 2))
    count = host.actors["tally"].subscriptions[OrderCreated]
    await count(ORDER, first)
    await count(ORDER, first)
    assert await host.events.publish([first, second]) == [None, None]

    async with asyncio.timeout(30):
        while not (days := await host.port(Tally).days()) or days[0].orders < 2:
            await asyncio.sleep(0.05)
    assert days == (OrderDay(date=str(now().date()), orders=2),)


def test_role_is_found_by_its_entry_point() -> None:
    assert ROLES["tally"].build is ROLE.build


def test_messages_keep_their_members() -> None:
    """Contracts only grow: members may come, none may go."""
    assert json.loads(encode(TallyOrders(days=7))) == {"days": 7}
    reply = OrderDays(days=(OrderDay(date="2026-01-31", orders=12),))
    assert json.loads(encode(reply)) == {"days": [{"date": "2026-01-31", "orders": 12}]}
