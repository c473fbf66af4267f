"""Runs a drill: load and faults together, then rest, then the gathering of facts."""

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Protocol

import msgspec

from purveyor_drill.collect import Reader
from purveyor_drill.customers import Customer, new_password, register
from purveyor_drill.http_client import WireClient
from purveyor_drill.injector import SLOTS, Injector, play
from purveyor_drill.invariants_system import still_held
from purveyor_drill.journal import Journal
from purveyor_drill.load import Load, LoadPlan
from purveyor_drill.observations import CLIENT, Doubt, Facts, Purchase, Sample
from purveyor_drill.processes import Application, sample
from purveyor_drill.schedule import Fault
from purveyor_drill.servers.process import StartFailed
from purveyor_drill.testbed import House

_SAMPLE_EVERY_S = 1.0
_WATCH_EVERY_S = 0.5
_REST_S = 2.0
_RETURNED_WITHIN_S = 60.0
_PRODUCTS = 100
_TOKEN = "eyJhbGciOi"
"""How every access token begins (RFC 7515: the header in base64url)."""


class Progress(msgspec.Struct, kw_only=True):
    """How far a drill is."""

    stage: str
    elapsed_s: float = 0.0
    sent: int = 0
    accepted: int = 0
    mails: int = 0
    faults: int = 0
    latest: str = ""


class Observer(Protocol):
    """Is told how far a drill is, once a second and at each stage."""

    def __call__(self, progress: Progress) -> None:
        """Show it."""
        ...


class Conductor:
    """One drill on one running house. ``stop``: end the load early, and go on with what follows it.

    ``settle_s``: how long to wait for the rest after the load, in seconds.
    """

    def __init__(self, house: House, observe: Observer, stop: asyncio.Event, settle_s: float) -> None:
        self._settle_s = settle_s
        self._house = house
        self._observe = observe
        self._stop = stop
        self._samples: list[Sample] = []
        self._deaths: list[str] = []
        self._domain = f"drill-{secrets.token_hex(5)}.example.com"  # RFC 2606: nobody can ever receive there
        self._canaries = {**house.canaries, "the password": new_password(), "an access token": _TOKEN}

    async def run(self, plan: LoadPlan, faults: Sequence[Fault], journal: Path, customers: int) -> Facts:
        """Load with faults until the plan is over, and what there is to be known of it.

        Raises ``StartFailed`` when the house cannot be prepared.
        """
        began_at = time.time()
        reader = Reader(self._house, self._domain, began_at)
        self._observe(Progress(stage="opening accounts"))
        injector = Injector(self._house, reader.at_data)
        with Journal(journal) as notes:
            async with _beside(self._sampling()), _beside(self._keeping(injector)):
                async with WireClient() as client:  # its connections are none of the house's at rest
                    known = await self._prepare(client, customers)
                    load = Load(
                        plan,
                        client=client,
                        fronts=self._house.running("orders"),
                        customers=known,
                        products=await self._products(client),
                        journal=notes,
                    )
                    await self._both(load, injector, plan, faults)
                ended_at = time.time()
                self._observe(Progress(stage="waiting for the rest"))
                settled_in_s = await reader.settle(self._settle_s)
                await self._rest()
        self._observe(Progress(stage="gathering facts"))
        facts = await self._facts(reader, injector, notes.purchases)
        return msgspec.structs.replace(facts, began_at=began_at, ended_at=ended_at, settled_in_s=settled_in_s)

    async def _prepare(self, client: WireClient, customers: int) -> Sequence[Customer]:
        auth = self._house.running("auth")[0]
        return await register(client, customers, self._domain, self._canaries["the password"], auth)

    async def _products(self, client: WireClient) -> Sequence[int]:
        front = self._house.running("orders")[0]
        answer = await client.request(front.port, "GET", f"/api/products?limit={_PRODUCTS}")
        if answer.status != HTTPStatus.OK:
            raise StartFailed(f"no products to order: {answer.status} {answer.body[:200]!r}")
        return [product["id"] for product in answer.json()["products"]]

    async def _both(self, load: Load, injector: Injector, plan: LoadPlan, faults: Sequence[Fault]) -> None:
        """Load and faults; what then still holds is lifted at once when the load has ended early."""
        playing = asyncio.create_task(play(faults, injector.inject, self._stop))
        async with _beside(self._reporting(load, injector)):
            try:
                await load.run(self._stop)
            finally:
                injector.hurried.set()
                await playing

    async def _facts(self, reader: Reader, injector: Injector, purchases: list[Purchase]) -> Facts:
        events = await reader.events()
        mails, leaks = await reader.mails(self._canaries)
        async with reader.database() as database:
            stuck = await database.stuck_transactions()
        return Facts(
            policy=self._house.policy,
            purchases=purchases,
            orders=await reader.orders(),
            events=events,
            ledger=await reader.ledger(),
            mails=mails,
            injected=injector.injected,
            doubts=injector.doubts,
            skipped=injector.skipped,
            samples=self._samples,
            waiting=await reader.waiting(),
            stuck_transactions=stuck,
            leaks=leaks + await reader.leaks(self._canaries, events),
            own_deaths=self._deaths,
        )

    async def _reporting(self, load: Load, injector: Injector) -> None:
        began, counted, mails = time.monotonic(), 0, 0
        while True:
            counted, mails = _count_lines(self._house.sink.mails_file, counted, mails)
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
        """Until what was taken under load is given back, at most 60 s: pools let go of it after a while."""
        rested_at = time.monotonic() + _RETURNED_WITHIN_S
        while True:
            await asyncio.sleep(_REST_S)
            self._sample()
            if time.monotonic() > rested_at or not any(still_held(self._samples)):
                return

    async def _sampling(self) -> None:
        while True:
            self._sample()
            await asyncio.sleep(_SAMPLE_EVERY_S)

    def _sample(self) -> None:
        running = {one.name: one.pid for one in self._house.applications.values() if one.alive}
        at = time.time()  # one moment for all: the last tells which of them were still there at the end
        for name, pid in {**running, CLIENT: os.getpid()}.items():
            if (taken := sample(name, pid, at)) is not None:
                self._samples.append(taken)

    async def _keeping(self, injector: Injector) -> None:
        """Start again what ended by itself, as a supervisor would, and note it."""
        while True:
            await asyncio.sleep(_WATCH_EVERY_S)
            for application in self._house.applications.values():
                if not application.alive and not application.busy.locked():
                    await self._revive(application, injector)

    async def _revive(self, application: Application, injector: Injector) -> None:
        async with application.busy:
            self._deaths.append(application.name)
            if application in self._house.senders():
                cause = f"{application.name} died by itself"
                injector.doubts.append(Doubt(at=time.time(), cause=cause, sender_died=True, mails=SLOTS))
            await application.start()


@asynccontextmanager
async def _beside(work: Awaitable[None]) -> AsyncIterator[None]:
    """Run something endless as long as the context lasts. An error in it is raised at the end."""
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _count_lines(path: Path, offset: int, known: int) -> tuple[int, int]:
    """How far the file was read, and how many lines it has so far."""
    with path.open("rb") as file:
        file.seek(offset)
        fresh = file.read()
    return offset + len(fresh), known + fresh.count(b"\n")
