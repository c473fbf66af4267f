"""One order, one trace from the click to the inbox, as a collector of OpenTelemetry sees it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from collector import CollectedSpan, Collector, collecting
from mailboxes import MailFolder
from own_processes import own_processes
from purveyor.registry import ROLES
from purveyor_drill.servers.process import free_port
from real_servers import require_servers
from running import Running, public_client
from server_shapes import PATIENT, SECRET
from shop import Shop, an_address
from waiting import Missing, until

CLICK = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE_ID, CLICK_ID = CLICK.split("-")[1:3]
UNHURRIED = PATIENT | {"ASK_TIMEOUT_S": "60"}
ENTRY = ("POST /api/orders", "place order")


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as made:
        yield made


@asynccontextmanager
async def embedded(folder: Path, collector: Collector) -> AsyncIterator[Shop]:
    """Every role in one process, with nothing else installed."""
    async with own_processes(folder, **UNHURRIED, **collector.variables) as house:
        house.start("all", "serve", ",".join(ROLES))
        await house.ready("all")
        async with public_client(house.ports["all"]) as client:
            mails = MailFolder(folder / "data/mailbox").read
            yield Shop(Running({"/": client}, house.settings, folder, mails))


@asynccontextmanager
async def split(folder: Path, collector: Collector) -> AsyncIterator[Shop]:
    """Accounts and emails in one process, orders in another: asks over HTTP, events over RabbitMQ."""
    servers = require_servers()
    async with AsyncExitStack() as stack:
        place = servers.place() | SECRET | UNHURRIED | collector.variables
        house = await stack.enter_async_context(own_processes(folder, **place))
        house.ports["people"] = free_port()
        house.start("people", "serve", "auth,email")
        auth = f"http://127.0.0.1:{house.ports['people']}"
        house.start("orders", "serve", "orders,catalog", {"AUTH_SERVICE": auth})
        await house.ready("people", "orders")
        clients = {
            "/": await stack.enter_async_context(public_client(house.ports["people"])),
            "/api": await stack.enter_async_context(public_client(house.ports["orders"])),
        }
        yield Shop(Running(clients, house.settings, folder, servers.mails.read, shows_mailbox=False))


Start = Callable[[Path, Collector], AbstractAsyncContextManager[Shop]]


def way(spans: Mapping[str, CollectedSpan], name: str) -> list[str]:
    """The names of a span and all above it, from the click."""
    by_id = {span.span_id: span for span in spans.values()}
    span, names = spans[name], [name]
    while span.parent_id != CLICK_ID:
        span = by_id[span.parent_id]
        names.insert(0, span.name)
    return names


def said(spans: Iterable[CollectedSpan]) -> str:
    """Everything that spans tell beside their times and ids."""
    return " ".join(f"{span.name} {span.attributes}" for span in spans)


@pytest.mark.parametrize(("start", "asked"), [(embedded, []), (split, ["POST /verify-token"])])
async def test_order_is_one_trace_from_click_to_inbox(
    tmp_path: Path, collector: Collector, start: Start, asked: Sequence[str]
) -> None:
    async with start(tmp_path, collector) as shop:
        ada = await shop.customer()
        address = an_address()
        placed = await shop.place(ada, headers={"traceparent": CLICK}, shipping_address=address)
        assert placed.status_code == 201, placed.text

        def spans() -> dict[str, CollectedSpan]:
            return {span.name: span for span in collector.spans if span.trace_id == TRACE_ID}

        await until(lambda: Missing({"send mail", "publish order.created", *ENTRY} - spans().keys()))
        collector.is_away = True
        await shop.place(ada)
        await shop.mails(ada.email, at_least=2)

    assert way(spans(), "send mail") == [*ENTRY, "publish order.created", "process order.created", "send mail"]
    for name in asked:
        assert way(spans(), name)[-2].startswith("ask ")
    secrets = [ada.email, ada.name, ada.token, ada.id, "127.0.0.1", *map(str, address.values())]
    assert [secret for secret in secrets if len(secret) > 2 and secret in said(collector.spans)] == []
    assert {span.failed for span in spans().values()} == {False}


async def test_every_worker_process_exports(tmp_path: Path, collector: Collector) -> None:
    async with own_processes(tmp_path, **PATIENT, **collector.variables) as house:
        house.start("catalog", "serve", "catalog", workers=2)
        await house.ready("catalog")
        async with public_client(house.ports["catalog"]) as client:

            async def both() -> bool:
                asking = [client.get("/catalog/products", headers={"connection": "close"}) for _ in range(8)]
                await asyncio.gather(*asking)
                return len({span.instance for span in collector.spans}) == 2

            await until(both)
    assert {span.service for span in collector.spans} == {"purveyor-catalog"}
