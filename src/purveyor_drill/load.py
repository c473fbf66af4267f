"""The load: orders at times that are fixed beforehand, so that a stall of the system hides none of them."""

import asyncio
import hashlib
import itertools
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus

import msgspec

from purveyor_drill.customers import Customer
from purveyor_drill.http_client import Answer, HttpClient
from purveyor_drill.journal import Journal
from purveyor_drill.observations import UNANSWERED, Attempt, AttemptKind, Purchase
from purveyor_drill.processes import Application

RETRY_FOR_S = 30.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0
_CHECKED_SHARE = 0.05
"""The share of orders that is read back, and the share that is sent again after its 201."""
_LATE_REPEAT_S = 5.0
_FINAL = range(400, 500)
_TRANSIENT = {HTTPStatus.UNAUTHORIZED, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS}


class LoadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Orders per second, as a Poisson process; ``burst`` of them arrive together each time."""

    seconds: float
    rate: float
    seed: int
    burst: int = 1

    def arrivals(self) -> list[float]:
        """The time of every order in seconds from the beginning: the same for the same plan."""
        chance = random.Random(f"{self.seed} arrivals")
        moments: list[float] = []
        at = 0.0
        while True:
            at += chance.expovariate(self.rate / self.burst)
            if at >= self.seconds:
                return moments
            moments += [at] * self.burst


class Load:
    """Places orders at the processes of role orders in turn, until each has a final answer or is given up."""

    def __init__(
        self,
        plan: LoadPlan,
        *,
        client: HttpClient,
        fronts: Sequence[Application],
        customers: Sequence[Customer],
        products: Sequence[int],
        journal: Journal,
    ) -> None:
        self.sent = self.accepted = 0
        self._plan = plan
        self._client = client
        self._fronts = itertools.cycle(fronts)
        self._customers = customers
        self._products = products
        self._journal = journal
        self._chance = random.Random(f"{plan.seed} orders")

    async def run(self, stop: asyncio.Event) -> None:
        """Run until the last order is settled; no order begins after ``stop``."""
        began, began_at = asyncio.get_running_loop().time(), time.time()
        async with asyncio.TaskGroup() as group:
            for moment in self._plan.arrivals():
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(began + moment):
                        await stop.wait()
                if stop.is_set():
                    return
                purchase, customer = self._purchase(began_at + moment)
                look, repeat = (self._chance.random() < _CHECKED_SHARE for _ in range(2))
                group.create_task(self._place(purchase, customer, look=look, repeat=repeat))

    def _purchase(self, due_at: float) -> tuple[Purchase, Customer]:
        customer = self._chance.choice(self._customers)
        chosen = self._chance.sample(self._products, self._chance.randint(1, 4))
        purchase = Purchase(
            key=f"{self._chance.getrandbits(128):032x}",
            email=customer.email,
            due_at=due_at,
            quantities={product: self._chance.randint(1, 5) for product in chosen},
            attempts=[],
        )
        self._journal.planned(purchase)
        return purchase, customer

    async def _place(self, purchase: Purchase, customer: Customer, *, look: bool, repeat: bool) -> None:
        """Try with the same key until there is a final answer, for at most 30 s."""
        self.sent += 1
        give_up_at, pause_s = time.time() + RETRY_FOR_S, _FIRST_PAUSE_S
        while True:
            attempt = await self._attempt("order", purchase, customer)
            if attempt.status == HTTPStatus.CREATED:
                break
            if attempt.status in _FINAL and attempt.status not in _TRANSIENT:
                return
            if time.time() + pause_s > give_up_at:
                return
            await asyncio.sleep(pause_s * random.uniform(0.7, 1.3))
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)
        self.accepted += 1
        if look:
            await self._attempt("get", purchase, customer)
        if repeat:
            await asyncio.sleep(random.uniform(0, _LATE_REPEAT_S))
            await self._attempt("repeat", purchase, customer)

    async def _attempt(self, kind: AttemptKind, purchase: Purchase, customer: Customer) -> Attempt:
        front = next(self._fronts)
        number = len(purchase.attempts) + 1
        await customer.stay_logged_in(self._client)
        sent_at = time.time()
        self._journal.sending(kind, purchase.key, number, front.name, sent_at)
        answer, error = await self._send(kind, front, purchase, customer)
        created = answer is not None and answer.status == HTTPStatus.CREATED
        attempt = Attempt(
            kind=kind,
            key=purchase.key,
            number=number,
            process=front.name,
            sent_at=sent_at,
            elapsed_s=time.time() - sent_at,
            status=answer.status if answer is not None else UNANSWERED,
            error=error,
            retry_after=answer is not None and "retry-after" in answer.headers,
            replayed=answer is not None and answer.headers.get("idempotent-replayed") == "true",
            digest=hashlib.sha256(answer.body).hexdigest() if answer is not None and created else "",
        )
        if answer is not None and created and kind == "order":
            purchase.order_id = answer.json()["id"]
        self._journal.answered(purchase, attempt)
        if attempt.status == HTTPStatus.UNAUTHORIZED:
            await customer.stay_logged_in(self._client, refused=True)
        return attempt

    async def _send(
        self, kind: AttemptKind, front: Application, purchase: Purchase, customer: Customer
    ) -> tuple[Answer | None, str]:
        headers = {"Authorization": f"Bearer {customer.token}"}
        if kind == "get":
            path = f"/api/orders/{purchase.order_id}"
            return await self._client.attempt(front.port, "GET", path, headers=headers)
        items = [{"product_id": product, "quantity": pieces} for product, pieces in purchase.quantities.items()]
        headers["Idempotency-Key"] = purchase.key
        return await self._client.attempt(
            front.port, "POST", "/api/orders/", body={"items": items}, headers=headers
        )
