"""Starts the private servers and the services, and measures the services in turn."""

import asyncio
import os
import random
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import asyncpg
import msgspec

from purveyor_drill.bench import machine
from purveyor_drill.bench.ceiling import find_pgbench, measure_ceiling
from purveyor_drill.bench.load import Load, Result
from purveyor_drill.bench.results import CLOSED, HALF, Run, Slot
from purveyor_drill.bench.stand_ins import MailSink, ProductApi
from purveyor_drill.bench.targets import STOPPED, Embedded, Monolith, Peer, Purveyor, Servers, Target
from purveyor_drill.servers.postgres import PostgresServer
from purveyor_drill.servers.process import StartFailed
from purveyor_drill.servers.rabbitmq import RabbitServer
from purveyor_drill.servers.redis import RedisServer
from purveyor_drill.servers.server import Server

GET, LIST, LIST_ALL, LIST_NONE = (
    "GET one order",
    "list of 20",
    "list, filter: all match",
    "list, filter: none match",
)
_LOGIN_CONNECTIONS = 8
VERIFY, LOGIN = "POST /verify-token", f"POST /login, {_LOGIN_CONNECTIONS} connections"
_ORDERS = "/api/orders/"
_WARM_UP_S = 1.0
_BACKLOG_WITHIN_S = 180.0
_BACKLOG_EVENTS = 20_000
_POLL_S = 0.1
_RELAY_POLL_S = 0.05


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The extent of a run. Times are in seconds."""

    rounds: int
    seconds: float
    """Length of each load of orders."""
    path_seconds: float
    """Length of each load on another path."""
    drain_s: float
    """Time after a load for the outbox and the emails."""
    customers: int
    connections: int = 32
    folder: Path
    """Folder for databases and logs."""
    peer_python: Path
    """Python with the packages of the peer."""
    peer_source: Path


class _Bench:
    """The targets, once they run, and what has been measured."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.slots: dict[str, dict[str, list[Slot]]] = defaultdict(lambda: defaultdict(list))
        self.relayed: dict[str, list[float]] = defaultdict(list)
        self.start_s: dict[str, list[float]] = defaultdict(list)
        self.backlog_emails: list[float] = []
        self.backlog_left = 0
        self.ceiling: list[float] = []
        self.postgres, self.redis, self.rabbit = PostgresServer(durable=True), RedisServer(), RabbitServer()

    async def open(self, stack: AsyncExitStack) -> None:
        """Start everything. Raises ``StartFailed``."""
        servers = await self._open_servers(stack)
        sinks = MailSink(), MailSink()
        for sink in sinks:
            await sink.open()
            stack.callback(sink.close)
        plan, folder = self.plan, self.plan.folder
        self.peer = Peer(servers, plan.peer_python, plan.peer_source, folder / "peer")
        self.monolith = Monolith(servers, folder / "monolith", sinks[0])
        self.embedded = Embedded(folder / "embedded", sinks[1])
        self.targets: Sequence[Target] = (self.peer, self.monolith, self.embedded)
        for target in self.targets:
            _say(f"starting {target.name}")
            stack.push_async_callback(target.stop)
            await target.start()
            if isinstance(target, Purveyor):
                await target.prepare(stack, plan.customers)
            else:
                await target.register(plan.customers)

    async def _open_servers(self, stack: AsyncExitStack) -> Servers:
        _say("starting PostgreSQL, Redis and RabbitMQ")
        servers: Sequence[Server] = (self.postgres, self.redis, self.rabbit)
        for server in servers:
            if reason := server.available():
                raise StartFailed(f"{server.name}: {reason}")
            if not server.ours:
                raise StartFailed(f"{server.name} is given by {server.variable}: a benchmark loads only its own")
            stack.push_async_callback(asyncio.to_thread, server.stop)
            await asyncio.to_thread(server.start)
        products = ProductApi()
        await products.open()
        stack.callback(products.close)
        virtual_hosts = [await asyncio.to_thread(self.rabbit.create_vhost, name) for name in ("purveyor", "peer")]
        return Servers(
            database=self.postgres.create_database("purveyor"),
            peer_database=self.postgres.create_database("peer"),
            redis=self.redis.url,
            rabbitmq=virtual_hosts[0],
            peer_rabbitmq=virtual_hosts[1],
            products=products.url,
            pids={server.name: server.pid for server in servers},
        )

    async def warm_up(self) -> None:
        for target in self.targets:
            await target.log_in()
            await send(self._orders(target, _WARM_UP_S))
            if isinstance(target, Purveyor):
                await self._settle(target)

    async def measure_round(self) -> None:
        """Measure each path of each target once."""
        await self._log_in()
        await self._measure_orders()
        await self._log_in()
        await self._measure_paths()
        if find_pgbench():
            _say("pgbench")
            dsn = self.postgres.create_database("ceiling")
            seconds = max(1, round(self.plan.path_seconds))
            self.ceiling.append(await measure_ceiling(dsn, self.plan.folder, seconds))

    async def _log_in(self) -> None:
        for target in self.targets:
            await target.log_in()

    async def _measure_orders(self) -> None:
        for measurement in (CLOSED, HALF):
            for target in self.targets:
                await self._measure_order(measurement, target, target.name)
                if target is self.monolith:
                    self.monolith.stop_worker()
                    try:
                        await self._measure_order(measurement, target, STOPPED, emails=False)
                    finally:
                        self.monolith.continue_worker()
                    await self._measure_backlog(measurement)

    async def _measure_order(self, measurement: str, target: Target, name: str, *, emails: bool = True) -> None:
        _say(f"{measurement}: {name}")
        half = self.slots[CLOSED][name][-1].result.per_second / 2 if measurement == HALF else 0.0
        load = msgspec.structs.replace(self._orders(target, self.plan.seconds), rate=half)
        self.slots[measurement][name].append(await self._measure(target, load, emails=emails))
        if emails and isinstance(target, Purveyor):
            await self._settle(target)

    def _orders(self, target: Target, seconds: float) -> Load:
        return Load(
            port=target.port,
            method="POST",
            paths=[_ORDERS],
            tokens=target.tokens,
            bodies=order_bodies(),
            with_keys=True,
            connections=self.plan.connections,
            seconds=seconds,
        )

    async def _measure_backlog(self, measurement: str) -> None:
        """Measure the worker alone on the emails of the orders that were placed while it was stopped."""
        placed = self.slots[measurement][STOPPED][-1].result.succeeded
        sink, began = self.monolith.sink, time.monotonic()
        wanted = self._accepted + placed
        while True:
            await asyncio.sleep(_POLL_S)
            if sink.accepted >= wanted or time.monotonic() > began + _BACKLOG_WITHIN_S:
                break
        self.backlog_left = max(self.backlog_left, wanted - sink.accepted)
        if measurement == CLOSED and sink.accepted >= wanted:
            self.backlog_emails.append(placed / (sink.last_at - began))
        await self._settle(self.monolith)

    async def _measure_paths(self) -> None:
        for measurement in (GET, LIST, LIST_ALL, LIST_NONE, VERIFY, LOGIN):
            for target in self.targets:
                _say(f"{measurement}: {target.name}")
                load = await self._path(measurement, target)
                self.slots[measurement][target.name].append(await self._measure(target, load))

    async def _path(self, measurement: str, target: Target) -> Load:
        plan = self.plan
        load = Load(
            port=target.port,
            method="GET",
            paths=[_ORDERS],
            tokens=target.tokens[:1],
            connections=plan.connections,
            seconds=plan.path_seconds,
        )
        replace = msgspec.structs.replace
        if measurement == GET:
            return replace(load, paths=[f"{_ORDERS}{number}" for number in await target.order_ids()])
        if measurement == VERIFY:
            return replace(load, method="POST", paths=["/verify-token"], port=target.login_port())
        if measurement == LOGIN:
            bodies = [msgspec.json.encode(body).decode() for body in target.credentials()]
            load = replace(load, method="POST", paths=["/login"], port=target.login_port(), bodies=bodies)
            return replace(load, tokens=[], connections=_LOGIN_CONNECTIONS)
        filters = {LIST: "", LIST_ALL: "?status=pending", LIST_NONE: "?status=cancelled"}
        return replace(load, paths=[_ORDERS + filters[measurement]])

    async def _measure(self, target: Target, load: Load, *, emails: bool = True) -> Slot:
        """Send a load, and wait for what it leaves in the outbox and, with ``emails``, for the emails."""
        roots = target.parts()
        sink = target.sink if isinstance(target, Purveyor) else None
        self._accepted = sink.accepted if sink else 0
        before, busy, own = machine.cpu_s(roots), machine.busy_s(), time.process_time()
        began = time.monotonic()
        result = await send(load)
        ended = time.monotonic()
        loaded = machine.cpu_s(roots)
        ours = sum(loaded.values()) - sum(before.values()) + result.cpu_s + time.process_time() - own
        foreign = (machine.busy_s() - busy - ours) / (ended - began) / (os.cpu_count() or 1)
        outbox_s = emails_s = None
        events_left = emails_left = 0
        if isinstance(target, Purveyor) and load.with_keys:
            wanted = self._accepted + result.succeeded if emails else 0
            outbox_s, events_left = await self._drain(target, ended, wanted)
            if emails:
                emails_left = max(0, wanted - target.sink.accepted)
                last_at = time.monotonic() if emails_left else target.sink.last_at
                emails_s = max(0.0, last_at - ended)
        used = machine.cpu_s(roots)
        return Slot(
            result=result,
            cpu_ms={name: (used[name] - before[name]) * 1000 / max(1, result.succeeded) for name in roots},
            foreign=max(0.0, foreign),
            outbox_s=outbox_s,
            emails_s=emails_s,
            events_left=events_left,
            emails_left=emails_left,
        )

    async def _drain(self, target: Purveyor, ended: float, wanted: int) -> tuple[float, int]:
        """Wait for events and emails; the seconds until the outbox was empty, and the events left."""
        outbox_s: float | None = None
        while True:
            left = await target.database.unpublished()
            elapsed = time.monotonic() - ended
            outbox_s = outbox_s if outbox_s is not None or left else elapsed
            if (not left and target.sink.accepted >= wanted) or elapsed > self.plan.drain_s:
                return elapsed if outbox_s is None else outbox_s, left
            await asyncio.sleep(_POLL_S)

    async def _settle(self, target: Purveyor) -> None:
        """Wait until no event and no email waits, so that the next load begins with nothing to do."""
        deadline = time.monotonic() + _BACKLOG_WITHIN_S
        while await target.database.unpublished() or await target.database.pending():
            if time.monotonic() > deadline:
                return  # what waits makes a later load invalid
            await asyncio.sleep(_POLL_S)

    async def measure_relay(self) -> None:
        """Measure the relay on a backlog of published events; consumers know them all already."""
        self.monolith.stop_worker()
        for _ in range(self.plan.rounds):
            for target in (self.monolith, self.embedded):
                _say(f"relay from a backlog: {target.name}")
                self.relayed[target.name].append(await _relay(target.dsn))
        self.monolith.continue_worker()

    async def measure_start(self) -> None:
        for _ in range(self.plan.rounds):
            for target in self.targets:
                _say(f"start: {target.name}")
                await target.stop()
                self.start_s[target.name].append(await target.start())


async def compare(plan: Plan) -> Run:
    """Measure every target in turn. Raises ``StartFailed``, and ``OSError`` if a load breaks off."""
    bench = _Bench(plan)
    async with AsyncExitStack() as stack:
        await bench.open(stack)
        disk = machine.file_system(bench.postgres.folder)
        await bench.warm_up()
        for number in range(plan.rounds):
            _say(f"round {number + 1} of {plan.rounds}")
            await bench.measure_round()
        memory = {target.name: machine.memory_mb(target.parts()) for target in bench.targets}
        await bench.measure_relay()
        await bench.measure_start()
    return Run(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        version=version("purveyor"),
        cores=os.cpu_count() or 1,
        disk=disk,
        durable=disk not in machine.IN_MEMORY,
        connections=plan.connections,
        slots=bench.slots,
        relayed=bench.relayed,
        backlog_emails=bench.backlog_emails,
        backlog_left=bench.backlog_left,
        start_s=bench.start_s,
        memory_mb=memory,
        ceiling=bench.ceiling,
    )


def _say(what: str) -> None:
    print(f"bench: {what}", file=sys.stderr, flush=True)


def order_bodies() -> list[str]:
    """Orders of one to three lines, the same in every run."""
    choice = random.Random(1)
    orders = [
        [
            {"product_id": choice.randint(1, 100), "quantity": choice.randint(1, 4)}
            for _ in range(choice.randint(1, 3))
        ]
        for _ in range(64)
    ]
    return [msgspec.json.encode({"items": lines}).decode() for lines in orders]


async def send(load: Load) -> Result:
    """Run a load in a process of its own. Raises ``OSError`` if it breaks off."""
    argument = msgspec.json.encode(load).decode()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "purveyor_drill.bench.load", argument, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise OSError(f"a load on {load.paths[0]} broke off")
    return msgspec.json.decode(output, type=Result)


async def _relay(dsn: str) -> float:
    """Events per second, from the first that is published again until the last."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(
            """
            update orders.outbox set published_at = null, next_attempt_at = now()
            where id in (select id from orders.outbox order by id desc limit $1)""",
            _BACKLOG_EVENTS,
        )
        count = "select count(*) from orders.outbox where published_at is null"
        total = first = left = await connection.fetchval(count)
        began = start = moment = time.monotonic()
        while left:
            await asyncio.sleep(_RELAY_POLL_S)
            left, moment = await connection.fetchval(count), time.monotonic()
            if first == total and 0 < left < total:
                first, start = left, moment
            if moment > began + _BACKLOG_WITHIN_S:
                raise OSError(f"{left} of {total} events of a backlog were not published")
        return float(first / (moment - start)) if total else 0.0
    finally:
        await connection.close()
