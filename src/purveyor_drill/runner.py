"""Runs a drill: load and faults together, then a wait until all is settled, then the collection."""

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http import HTTPStatus
from pathlib import Path

import msgspec

from purveyor_drill.collect import SETTLE_S, Collector, preflight
from purveyor_drill.customers import new_password, register
from purveyor_drill.desk import Desk, round_s
from purveyor_drill.http_client import HttpClient
from purveyor_drill.injector import SLOTS, Injector, inject_on_schedule
from purveyor_drill.invariants_system import still_held
from purveyor_drill.journal import Journal
from purveyor_drill.load import Load, LoadPlan
from purveyor_drill.observations import CLIENT, Doubt, Observations, Sample
from purveyor_drill.processes import Application, sample
from purveyor_drill.report import Report, Run, judge
from purveyor_drill.schedule import ACTIONS, Fault, schedule
from purveyor_drill.servers.process import StartFailed
from purveyor_drill.testbed import Testbed, open_testbed, servers_of

CUSTOMERS = 20
_SAMPLE_EVERY_S = 1.0
_SUPERVISE_EVERY_S = 0.5
_REST_S = 2.0
_RELEASED_WITHIN_S = 60.0
_PRODUCTS = 100
_TOKEN = "eyJhbGciOi"
"""The first characters of every access token (RFC 7515: the header in base64url)."""


class Progress(msgspec.Struct, kw_only=True):
    """Progress of a drill."""

    stage: str
    elapsed_s: float = 0.0
    sent: int = 0
    accepted: int = 0
    mails: int = 0
    faults: int = 0
    latest: str = ""


Observer = Callable[[Progress], None]
"""Is called once a second and at each stage."""


async def drill(
    options: Run,
    *,
    folder: Path,
    observe: Observer,
    stop: asyncio.Event,
    given: Mapping[str, str] | None = None,
) -> Report:
    """Run a drill and judge it. Its journal and the logs of its processes stay in ``folder``.

    ``given``: the URLs of servers to use, by setting. Raises ``Missing`` if a server is not installed,
    ``StartFailed`` if one does not come up.
    """
    planned: list[Fault] = []

    def plan(running: Testbed) -> Sequence[Fault]:
        planned.extend(schedule(options.seed, options.seconds, running.targets(), options.only or ACTIONS))
        return planned

    testbed = open_testbed(
        options.shape,
        logs=folder / "logs",
        policy=options.policy,
        given=given,
        servers=tuple(given) if given is not None else servers_of(options.shape, options.ledger, options.broker),
        preflight=preflight,
    )
    observe(Progress(stage=f"starting shape {options.shape}"))
    load = LoadPlan(seconds=options.seconds, rate=options.rate, seed=options.seed)
    observed = await run(testbed, load, folder=folder, observe=observe, stop=stop, plan=plan)
    return judge(options, planned, observed)


async def run(
    testbed: AbstractAsyncContextManager[Testbed],
    load: LoadPlan,
    *,
    folder: Path,
    observe: Observer,
    stop: asyncio.Event,
    plan: Callable[[Testbed], Sequence[Fault]],
    customers: int = CUSTOMERS,
    settle_s: float = SETTLE_S,
) -> Observations:
    """Run load on a testbed with the faults that ``plan`` gives for it. Raises as ``drill``."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    async with testbed as running:
        faults = plan(running)
        runner = Runner(running, observe, stop, settle_s)
        return await runner.run(load, faults, folder / "journal.jsonl", customers)


class Runner:
    """One drill on one running testbed. ``stop`` ends the load early; all that follows it still happens.

    ``settle_s``: how long pending work may take after the load, in seconds.
    """

    def __init__(self, testbed: Testbed, observe: Observer, stop: asyncio.Event, settle_s: float) -> None:
        self._settle_s = settle_s
        self._testbed = testbed
        self._observe = observe
        self._stop = stop
        self._samples: list[Sample] = []
        self._deaths: list[str] = []
        self._domain = f"drill-{secrets.token_hex(5)}.example.com"  # RFC 2606: no mail can ever be delivered
        self._canaries = {**testbed.canaries, "the password": new_password(), "an access token": _TOKEN}

    async def run(self, plan: LoadPlan, faults: Sequence[Fault], journal: Path, customers: int) -> Observations:
        """Load with faults until the plan is over, then wait and collect.

        Raises ``StartFailed`` if the testbed cannot be prepared.
        """
        began_at = time.time()
        collector = Collector(self._testbed, self._domain, began_at)
        self._observe(Progress(stage="opening accounts"))
        injector = Injector(self._testbed, collector.at_data)
        with Journal(journal) as notes:
            async with _in_background(self._sampling()), _in_background(self._supervising(injector)):
                async with HttpClient() as client:  # closed before the last samples of descriptors
                    auth = self._testbed.running("auth")[0]
                    password = self._canaries["the password"]
                    *known, clerk = await register(client, customers + 1, self._domain, password, auth)
                    async with collector.database() as database:
                        await database.confirm_customers()
                        await database.make_admin(clerk.email)
                    for customer in (*known, clerk):
                        await customer.renew(client, refused=True)  # the token says that the address is confirmed
                    fronts = self._testbed.running("orders")
                    load = Load(
                        plan,
                        client=client,
                        fronts=fronts,
                        customers=known,
                        products=await self._products(client),
                        journal=notes,
                    )
                    desk = Desk(
                        client=client,
                        fronts=fronts,
                        clerk=clerk,
                        journal=notes,
                        every_s=round_s(plan.rate),
                        seed=plan.seed,
                    )
                    await self._load_with_faults(load, desk, injector, faults)
                ended_at = time.time()
                self._observe(Progress(stage="waiting for pending work"))
                settled_in_s = await collector.settle(self._settle_s)
                await self._rest()
        self._observe(Progress(stage="collecting"))
        observed = await self._collect(collector, injector, notes)
        return msgspec.structs.replace(observed, began_at=began_at, ended_at=ended_at, settled_in_s=settled_in_s)

    async def _products(self, client: HttpClient) -> Sequence[int]:
        front = self._testbed.running("orders")[0]
        answer = await client.request(front.port, "GET", f"/api/products?limit={_PRODUCTS}")
        if answer.status != HTTPStatus.OK:
            raise StartFailed(f"no products to order: {answer.status} {answer.body[:200]!r}")
        return [product["id"] for product in answer.json()["products"]]

    async def _load_with_faults(self, load: Load, desk: Desk, injector: Injector, faults: Sequence[Fault]) -> None:
        """Every fault that is still active is lifted as soon as the load has ended."""
        injecting = asyncio.create_task(inject_on_schedule(faults, injector.inject, self._stop))
        over = asyncio.Event()
        working = asyncio.create_task(desk.run(over))
        async with _in_background(self._reporting(load, injector)):
            try:
                await load.run(self._stop)
            finally:
                injector.lift_now.set()
                over.set()
                await injecting
                await working

    async def _collect(self, collector: Collector, injector: Injector, notes: Journal) -> Observations:
        mails, leaks = await asyncio.to_thread(collector.mails, self._canaries)
        async with collector.database() as database:
            await database.make_customers()
            orders, events = await database.orders(), await database.events()
            histories = await database.histories(sorted({each.order_id for each in notes.operations}))
            stuck = await database.stuck_transactions()
        return Observations(
            policy=self._testbed.policy,
            purchases=notes.purchases,
            operations=notes.operations,
            histories=histories,
            orders=orders,
            events=events,
            ledger=await collector.ledger(),
            mails=mails,
            injected=injector.injected,
            doubts=injector.doubts,
            skipped=injector.skipped,
            samples=self._samples,
            waiting=await collector.waiting(),
            stuck_transactions=stuck,
            leaks=leaks + await collector.leaks(self._canaries, events),
            own_deaths=self._deaths,
        )

    async def _reporting(self, load: Load, injector: Injector) -> None:
        began, counted, mails = time.monotonic(), 0, 0
        while True:
            counted, mails = _count_lines(self._testbed.sink.mails_file, counted, mails)
            latest = injector.injected[-1] if injector.injected else None
            self._observe(
                Progress(
                    stage="load and faults",
                    elapsed_s=time.monotonic() - began,
                    sent=load.sent,
                    accepted=load.accepted,
                    mails=mails,
                    faults=len(injector.injected),
                    latest=f"{latest.action} {latest.target} {latest.detail}".strip() if latest else "",
                )
            )
            await asyncio.sleep(1.0)

    async def _rest(self) -> None:
        """Until resources are released, at most 60 s: pools keep connections for a while."""
        give_up_at = time.monotonic() + _RELEASED_WITHIN_S
        while True:
            await asyncio.sleep(_REST_S)
            self._sample()
            if time.monotonic() > give_up_at or not any(still_held(self._samples)):
                return

    async def _sampling(self) -> None:
        while True:
            self._sample()
            await asyncio.sleep(_SAMPLE_EVERY_S)

    def _sample(self) -> None:
        running = {one.name: one.pid for one in self._testbed.applications.values() if one.alive}
        at = time.time()  # one moment for all: the last one tells which processes lived to the end
        for name, pid in {**running, CLIENT: os.getpid()}.items():
            if (taken := sample(name, pid, at)) is not None:
                self._samples.append(taken)

    async def _supervising(self, injector: Injector) -> None:
        """Restart processes that ended by themselves, as a supervisor would, and record it."""
        while True:
            await asyncio.sleep(_SUPERVISE_EVERY_S)
            for application in self._testbed.applications.values():
                if not application.alive and not application.busy.locked():
                    await self._revive(application, injector)

    async def _revive(self, application: Application, injector: Injector) -> None:
        async with application.busy:
            self._deaths.append(application.name)
            if application in self._testbed.senders():
                cause = f"{application.name} ended by itself"
                injector.doubts.append(Doubt(at=time.time(), cause=cause, sender_died=True, mails=SLOTS))
            await application.start()


@asynccontextmanager
async def _in_background(work: Awaitable[None]) -> AsyncIterator[None]:
    """Run something endless as long as the context lasts. Its error is raised at the end."""
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _count_lines(path: Path, offset: int, known: int) -> tuple[int, int]:
    """Return the offset up to which the file was read, and the number of lines so far."""
    with path.open("rb") as file:
        file.seek(offset)
        fresh = file.read()
    return offset + len(fresh), known + fresh.count(b"\n")
