"""What the API answers while a server is away, and that all is well again by itself afterwards."""

import asyncio
import json
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from own_processes import Processes, own_processes
from purveyor.registry import ROLES
from purveyor_drill.servers.postgres import PostgresServer
from purveyor_drill.servers.rabbitmq import RabbitServer
from running import public_client

FEW_EVENTS = 12
BODY = {"items": [{"product_id": 1, "quantity": 1}]}


class Installation:
    """Every role in one process, and a customer who has logged in."""

    def __init__(self, processes: Processes, client: httpx.AsyncClient) -> None:
        self.processes = processes
        self._client = client
        self._headers: dict[str, str] = {}

    async def log_in(self) -> None:
        account = {"email": "ada@example.com", "password": "a long enough password", "name": "Ada"}
        assert (await self._client.post("/register", json=account)).status_code == 201
        del account["name"]
        answer = await self._client.post("/login", json=account)
        self._headers = {"authorization": f"Bearer {answer.json()['access_token']}"}

    async def place(self, key: str = "") -> httpx.Response:
        headers = self._headers | ({"idempotency-key": key} if key else {})
        return await self._client.post("/api/orders/", json=BODY, headers=headers)

    async def orders(self) -> httpx.Response:
        return await self._client.get("/api/orders/", headers=self._headers)

    async def health(self) -> Any:
        return (await self._client.get("/health/ready")).json()

    async def metric(self, line: str) -> float:
        text = (await self._client.get("/metrics")).text
        return next(float(found.rpartition(" ")[2]) for found in text.splitlines() if found.startswith(line))

    @property
    def log(self) -> list[dict[str, Any]]:
        (path,) = (self.processes.folder / "all").glob("*.log")
        lines = path.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    @property
    def mails(self) -> int:
        return len(list((self.processes.folder / "data" / "mailbox").glob("*.eml")))


@asynccontextmanager
async def installation(folder: Path, **settings: str) -> AsyncIterator[Installation]:
    async with own_processes(folder, **settings) as processes:
        processes.start("all", "serve", ",".join(ROLES))
        await processes.ready("all")
        async with public_client(processes.ports["all"]) as client:
            made = Installation(processes, client)
            await made.log_in()
            yield made


async def until(condition: Callable[[], Any], within_s: float = 40.0) -> None:
    async with asyncio.timeout(within_s):
        while not await condition():
            await asyncio.sleep(0.1)


@pytest.fixture(scope="module")
async def postgres() -> AsyncIterator[PostgresServer]:
    if reason := PostgresServer.available():
        pytest.skip(f"no PostgreSQL: {reason}")
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="module")
async def site(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Installation]:
    """An installation whose user of the database is no superuser, so that it can run out of connections."""
    url = postgres.create_database("shop")
    connection = await asyncpg.connect(url)
    await connection.execute("create role shop login password 'tests'; alter database shop owner to shop")
    await connection.close()
    async with installation(
        tmp_path_factory.mktemp("shop"), DATABASE_URL=url.replace("//app:", "//shop:")
    ) as made:
        yield made


async def refused(site: Installation) -> list[float]:
    """Ten orders and ten lists at once, while the database is away; how long each took, in seconds."""

    async def timed(call: Callable[[], Any]) -> float:
        began = time.monotonic()
        answer = await call()
        assert answer.status_code == 503, answer.text
        assert int(answer.headers["retry-after"]) > 0
        return time.monotonic() - began

    return await asyncio.gather(
        *[timed(call) for _ in range(10) for call in (lambda: site.place(secrets.token_hex(8)), site.orders)]
    )


async def well(site: Installation) -> bool:
    return (await site.place()).status_code == 201 and (await site.orders()).status_code == 200


async def test_a_frozen_database_is_told_in_time_and_leaves_no_stuck_connection(
    site: Installation, postgres: PostgresServer
) -> None:
    assert await asyncio.gather(*[well(site) for _ in range(5)]), "the pool has connections"
    postgres.freeze()
    try:
        first, later = await refused(site), await refused(site)
        assert (await site.health())["status"] == "down"
    finally:
        postgres.thaw()

    assert sorted(first)[len(first) // 2] < 2.5  # of 20: a busy machine may hold up some
    assert sorted(later)[len(later) // 2] < 2.5
    await until(lambda: well(site))
    assert all(await asyncio.gather(*[well(site) for _ in range(20)]))


async def test_a_database_that_was_killed_is_used_again_without_anybodys_help(
    site: Installation, postgres: PostgresServer
) -> None:
    postgres.kill()
    try:
        await refused(site)
    finally:
        postgres.restart()

    await until(lambda: well(site))


async def test_without_connections_to_be_had_it_says_so_and_lives(
    site: Installation, postgres: PostgresServer
) -> None:
    connection = await asyncpg.connect(postgres.url)
    try:
        await connection.execute("alter role shop connection limit 0")
        await connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'shop'")
        await until(lambda: _is_refused(site))
        await refused(site)
        assert (await site.health())["status"] == "down"
    finally:
        await connection.execute("alter role shop connection limit -1")
        await connection.close()

    await until(lambda: well(site))


async def _is_refused(site: Installation) -> bool:
    return (await site.orders()).status_code == 503


@pytest.fixture(scope="module")
async def rabbit() -> AsyncIterator[RabbitServer]:
    if reason := RabbitServer.available():
        pytest.skip(f"no RabbitMQ: {reason}")
    with RabbitServer() as server:
        yield server


@pytest.fixture(scope="module")
async def brokered(
    rabbit: RabbitServer, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Installation]:
    async with installation(
        tmp_path_factory.mktemp("brokered"),
        DATABASE_URL=postgres.create_database("brokered"),
        RABBITMQ_URL=rabbit.url,
        EVENT_BACKLOG_MAX_EVENTS=str(FEW_EVENTS),
    ) as made:
        yield made


async def orders_go_on_until_the_backlog_is_full(site: Installation, key: str) -> int:
    """How many were accepted, the first one with this key."""
    accepted = 0
    assert (await site.place(key)).status_code == 201
    async with asyncio.timeout(60):
        while (answer := await site.place()).status_code == 201:
            accepted += 1
            await asyncio.sleep(0.2)
    assert answer.status_code == 503
    assert answer.json()["type"] == "/problems/event-backlog"
    assert int(answer.headers["retry-after"]) > 0
    assert accepted + 1 >= FEW_EVENTS
    return accepted + 1


async def quiet(site: Installation, seconds: float) -> tuple[float, float]:
    """Lines in the log, and seconds of CPU time, per second."""
    (pid,) = [child.pid for child in site.processes._children.values()]
    lines, cpu, began = len(site.log), _cpu_s(pid), time.monotonic()
    await asyncio.sleep(seconds)
    passed = time.monotonic() - began
    return (len(site.log) - lines) / passed, (_cpu_s(pid) - cpu) / passed


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("fault", ["dead", "short-of-memory"])
async def test_without_a_broker_orders_go_on_up_to_a_bound_and_no_event_is_lost(
    brokered: Installation, rabbit: RabbitServer, fault: str
) -> None:
    mails = brokered.mails
    if fault == "dead":
        rabbit.kill()
    else:
        rabbit.rabbitmqctl("set_vm_memory_high_watermark", "absolute", "1")
    try:
        accepted = await orders_go_on_until_the_backlog_is_full(brokered, fault)
        again = await brokered.place(fault)
        health = await brokered.health()
        lines_per_s, cpu_share = await quiet(brokered, 3.0)
    finally:
        if fault == "dead":
            rabbit.restart()
        else:
            rabbit.rabbitmqctl("set_vm_memory_high_watermark", "absolute", "512MiB")

    assert again.status_code == 201, "what was accepted stays accepted"
    assert health["status"] == "degraded"
    assert {"rabbitmq", "event backlog"} <= {
        name for name, found in health["dependencies"].items() if found["status"] == "degraded"
    }
    assert lines_per_s < 5 * len([queue for role in ROLES.values() for queue in role.queues()])
    assert cpu_share < 0.5

    async def has_room() -> bool:
        return (await brokered.place()).status_code == 201

    async def all_mailed() -> bool:
        return brokered.mails >= mails + accepted + 1

    await until(has_room)
    await until(all_mailed)
    assert await brokered.metric('purveyor_outbox_full{schema="orders"}') == 0
