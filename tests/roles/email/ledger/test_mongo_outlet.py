"""The outlet's queue of a ledger in MongoDB."""

from collections.abc import Sequence

import pytest

from purveyor.kit.clock import now
from purveyor.kit.errors import Unavailable
from purveyor.kit.events.message import Envelope
from purveyor.kit.ids import new_id
from purveyor.roles.email.ledger.mongo import MongoLedger
from purveyor.roles.email.ledger.mongo_outlet import MongoOutletQueue
from purveyor.roles.email.ports import Ledger
from roles.email.ledger.support import only_mongo

pytestmark = [
    only_mongo,
    pytest.mark.usefixtures("patient"),
]


class Publisher:
    def __init__(self) -> None:
        self.refuses: set[str] = set()

    async def publish(self, envelopes: Sequence[Envelope]) -> Sequence[Exception | None]:
        return [Unavailable() if sent.type in self.refuses else None for sent in envelopes]


def event(kind: str) -> Envelope:
    at = now().replace(microsecond=0)
    return Envelope(id=new_id(), type=kind, body=b"{}", occurred_at=at, subject="order-1", sequence=2)


async def test_confirmed_events_are_kept_in_order_until_they_are_done(ledger: Ledger) -> None:
    assert isinstance(ledger, MongoLedger)
    publisher = Publisher()
    queue = MongoOutletQueue(ledger, publisher)
    await queue.publish([event("before it is on")])
    assert not await queue.is_on()
    await queue.switch_on()
    first, second, third = event("a"), event("b"), event("a")
    publisher.refuses = {"b"}
    await queue.publish([first, second])
    await queue.publish([first, third])

    async with queue.take(10, ()) as taken, queue.take(10, ()) as other:
        assert (list(taken.events), list(other.events)) == ([first, third], [])
        taken.done.append(first.id)
    async with queue.take(10, ()) as taken, queue.take(10, ["a"]) as other:
        assert (list(taken.events), list(other.events)) == ([third], [])
    async with queue.take(10, ["a"]) as taken:
        assert list(taken.events) == []
    assert (await queue.waiting())[0] == 1


async def test_another_process_knows_that_it_is_on_until_it_is_switched_off(ledger: Ledger) -> None:
    assert isinstance(ledger, MongoLedger)
    await MongoOutletQueue(ledger, Publisher()).switch_on()
    queue = MongoOutletQueue(ledger, Publisher())
    assert await queue.is_on()
    await queue.publish([event("a")])
    assert (await queue.waiting())[0] == 1

    await queue.switch_off()
    await queue.publish([event("a")])
    assert (await queue.is_on(), await queue.waiting()) == (False, (0, 0.0))
