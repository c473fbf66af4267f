"""An event that was published and that nobody recorded is noticed; nothing else is."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from purveyor.kit.clock import now
from purveyor.kit.errors import Unavailable
from purveyor.kit.ids import new_id
from purveyor.kit.metrics import EVENTS_UNACCOUNTED
from purveyor.roles.orders.unaccounted import IN_TRANSIT, UnaccountedEvents


class Broker:
    """An outbox, a mail ledger and dead letters with what a test puts into them."""

    def __init__(self) -> None:
        self.outbox: list[str] = []
        self.recorded: set[str] = set()
        self.dead: set[str] = set()
        self.asked_until: list[datetime] = []
        self.is_away = False

    async def published(self, types: Sequence[str], before: datetime, after_id: str, limit: int) -> Sequence[str]:
        assert list(types) == ["order.created"]
        self.asked_until.append(before)
        return [each for each in sorted(self.outbox) if each > after_id][:limit]

    async def unrecorded(self, event_ids: Sequence[str]) -> Sequence[str]:
        if self.is_away:
            raise Unavailable
        return [each for each in event_ids if each not in self.recorded]

    async def dead_letters(self) -> Sequence[Any]:
        return [SimpleNamespace(event_id=each) for each in self.dead]


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def events(broker: Broker) -> UnaccountedEvents:
    EVENTS_UNACCOUNTED.set(0)
    port: Any = broker
    return UnaccountedEvents(port, port, broker.dead_letters, ["order.created"])


def unaccounted() -> float:
    (metric,) = EVENTS_UNACCOUNTED.collect()
    return metric.samples[0].value


async def test_vanished_event_is_counted_until_it_is_recorded(broker: Broker, events: UnaccountedEvents) -> None:
    lost, mailed = str(new_id()), str(new_id())
    broker.outbox, broker.recorded = [lost, mailed], {mailed}

    await events.look()
    assert unaccounted() == 1
    broker.outbox = []  # the next look no longer meets it among what is new
    await events.look()
    assert unaccounted() == 1
    broker.recorded.add(lost)
    await events.look()
    assert unaccounted() == 0


async def test_dead_letter_is_accounted_for(broker: Broker, events: UnaccountedEvents) -> None:
    broker.outbox = [str(new_id())]
    broker.dead = set(broker.outbox)

    await events.look()
    assert unaccounted() == 0


async def test_every_event_is_examined_however_many_there_are(broker: Broker, events: UnaccountedEvents) -> None:
    broker.outbox = [str(new_id()) for _ in range(1203)]

    await events.look()
    assert unaccounted() == 1203


async def test_events_in_transit_are_left_out(broker: Broker, events: UnaccountedEvents) -> None:
    await events.look()
    assert all(until <= now() - IN_TRANSIT + timedelta(seconds=1) for until in broker.asked_until)


async def test_role_email_that_is_down_changes_nothing(broker: Broker, events: UnaccountedEvents) -> None:
    broker.outbox = [str(new_id())]
    await events.look()
    broker.is_away = True

    await events.look()
    assert unaccounted() == 1
