"""Staff who read and change the same orders at the same time, so that their changes compete."""

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import msgspec

from purveyor_drill.customers import Customer
from purveyor_drill.http_client import Answer, HttpClient
from purveyor_drill.journal import Journal
from purveyor_drill.observations import UNANSWERED, Operation, OperationKind
from purveyor_drill.processes import Application

WRITERS, READERS = 3, 2
ORDERS = 4
_REQUESTS_A_ROUND = 2 * (WRITERS + READERS)
_SHARE = 0.3
"""Requests for each order of the load."""
_LONGEST_ROUND_S = 5.0
_FRESH_SHARE = 0.5
"""The share of changes before which the client reads the order again."""
_STATES = ("unpaid", "paid", "refunded")
_PATCHES = {("unpaid", "paid"), ("paid", "refunded")}
"""The changes that are transitions. Every other one is a correction."""


def round_s(rate: float) -> float:
    """Length of a round beside a load of ``rate`` orders per second."""
    return min(_LONGEST_ROUND_S, _REQUESTS_A_ROUND / (_SHARE * rate))


class Desk:
    """Several clients with one account. In each round all of them turn to the same order, one of the first placed.

    Each client sends one request after the other and repeats none, so a client in trouble misses rounds.
    """

    def __init__(
        self,
        *,
        client: HttpClient,
        fronts: Sequence[Application],
        clerk: Customer,
        journal: Journal,
        every_s: float,
        seed: int,
    ) -> None:
        self._client = client
        self._fronts = itertools.cycle(fronts)
        self._clerk = clerk
        self._journal = journal
        self._every_s = every_s
        self._chance = random.Random(f"{seed} desk")
        self._numbers = itertools.count(1)
        self._orders: list[str] = []
        self._seen: dict[tuple[str, str], Operation] = {}
        """The last answer with a state, by client and order."""
        self._began = time.monotonic()
        self._epoch = time.time() - self._began

    async def run(self, over: asyncio.Event) -> None:
        """Work until ``over``, and until every request has its answer or none in time."""
        async with asyncio.TaskGroup() as group:
            for number in range(WRITERS):
                group.create_task(self._work(f"writer-{number + 1}", self._change, over))
            for number in range(READERS):
                group.create_task(self._work(f"reader-{number + 1}", self._read_twice, over))

    async def _work(self, name: str, turn: Callable[[str, str], Awaitable[None]], over: asyncio.Event) -> None:
        while not over.is_set():
            now = time.monotonic()
            number = int((now - self._began) / self._every_s) + 1
            with suppress(TimeoutError):
                async with asyncio.timeout(self._began + number * self._every_s - now):
                    await over.wait()
                    return
            if orders := self._known_orders():
                await turn(name, orders[number % len(orders)])

    def _known_orders(self) -> Sequence[str]:
        if len(self._orders) < ORDERS:
            known = (purchase.order_id for purchase in self._journal.purchases if purchase.order_id)
            self._orders = list(itertools.islice(known, ORDERS))
        return self._orders

    async def _read_twice(self, name: str, order_id: str) -> None:
        await self._send(name, "read", order_id)
        await self._send(name, "read", order_id)

    async def _change(self, name: str, order_id: str) -> None:
        """Change an order from the state that the client saw last, however old that is."""
        if (name, order_id) not in self._seen or self._chance.random() < _FRESH_SHARE:
            await self._send(name, "read", order_id)
        if seen := self._seen.get((name, order_id)):
            sets = self._chance.choice([state for state in _STATES if state != seen.state])
            await self._send(name, "change", order_id, seen=seen, sets=sets)

    async def _send(
        self, name: str, kind: OperationKind, order_id: str, *, seen: Operation | None = None, sets: str = ""
    ) -> None:
        front = next(self._fronts)
        await self._clerk.stay_logged_in(self._client)
        sent_at = self._now()
        operation = Operation(
            id=f"drill-{next(self._numbers)}",
            client=name,
            kind=kind,
            order_id=order_id,
            process=front.name,
            sent_at=sent_at,
            ended_at=sent_at,
            status=UNANSWERED,
            base=seen.version if seen else 0,
            sets=sets,
        )
        self._journal.invoked(operation)
        method, path, body = _request(order_id, seen, sets)
        headers = {"Authorization": f"Bearer {self._clerk.token}", "X-Request-ID": operation.id}
        headers |= {"If-Match": f'"{seen.version}"'} if seen else {}
        answer, error = await self._client.attempt(front.port, method, path, body=body, headers=headers)
        operation = msgspec.structs.replace(operation, ended_at=self._now(), error=error)
        if answer is not None:
            operation = _with_answer(operation, answer)
        self._journal.completed(operation)
        if operation.state:
            self._seen[name, order_id] = operation
        if operation.status == HTTPStatus.UNAUTHORIZED:
            await self._clerk.stay_logged_in(self._client, refused=True)

    def _now(self) -> float:
        """Seconds since 1970, by a clock that never goes back."""
        return self._epoch + time.monotonic()


def _request(order_id: str, seen: Operation | None, sets: str) -> tuple[str, str, Any]:
    """Method, path and body."""
    path = f"/api/orders/{order_id}"
    if seen is None:
        return "GET", path, None
    if (seen.state, sets) in _PATCHES:
        return "PATCH", path, {"payment_status": sets}
    return "POST", f"{path}/correction", {"payment_status": sets, "reason": "drill"}


def _with_answer(operation: Operation, answer: Answer) -> Operation:
    tag = answer.headers.get("etag", "").strip('"')
    return msgspec.structs.replace(
        operation,
        status=answer.status,
        retry_after="retry-after" in answer.headers,
        version=int(tag) if tag.isdecimal() else 0,
        state=answer.json()["payment_status"] if answer.status == HTTPStatus.OK else "",
    )
