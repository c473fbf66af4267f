"""Back-pressure: from where on nothing more is taken on, and who is told."""

import pytest

from purveyor.kit.errors import EventBacklog, Unavailable
from purveyor.kit.events.outbox import Backlog
from purveyor.kit.metrics import REGISTRY


def made() -> Backlog:
    return Backlog("orders", max_events=100, max_age_s=60.0)


def metric(name: str) -> float | None:
    return REGISTRY.get_sample_value(f"purveyor_outbox_{name}", {"schema": "orders"})


async def test_below_both_limits_there_is_room() -> None:
    backlog = made()
    backlog.measured(99, 59.0)
    backlog.measured(99, 59.9)

    backlog.require_room()
    assert await backlog.check() == "events waiting: 99, oldest: 60 s"
    assert metric("full") == 0
    assert metric("unpublished_events") == 99


async def test_at_the_limit_of_events_nothing_more_is_taken_until_some_have_gone() -> None:
    backlog = made()
    backlog.measured(100, 1.0)

    with pytest.raises(EventBacklog) as caught:
        backlog.require_room()
    assert caught.value.status == 503
    assert int(caught.value.headers["Retry-After"]) > 0
    with pytest.raises(Unavailable, match=r"The event backlog is full \(events waiting: 100"):
        await backlog.check()
    assert metric("full") == 1

    backlog.measured(99, 1.0)
    backlog.require_room()
    assert metric("full") == 0


async def test_an_old_event_counts_when_it_is_still_there_at_the_next_look() -> None:
    """One that an operator sends again is old as well, and gone in a moment."""
    backlog = made()
    backlog.measured(1, 60.0)
    backlog.require_room()
    backlog.measured(0, 0.0)
    backlog.measured(1, 61.0)
    backlog.require_room()
    backlog.measured(1, 66.0)

    with pytest.raises(EventBacklog):
        backlog.require_room()
