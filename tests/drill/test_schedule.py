"""The schedule of faults: repeatable, dense enough, and never two faults of one target at a time."""

from collections import Counter, defaultdict

import pytest

from purveyor_drill.load import LoadPlan
from purveyor_drill.schedule import RATES, schedule

SPLIT = {
    "process": ["auth", "orders-1", "orders-2", "mails-1", "mails-2"],
    "postgres": ["postgres"],
    "rabbitmq": ["rabbitmq"],
    "redis": ["redis"],
    "smtp": ["smtp"],
    "network": ["link to database", "link to smtp"],
}


def test_the_same_seed_gives_the_same_schedule():
    assert schedule(7, 60, SPLIT) == schedule(7, 60, SPLIT)
    assert schedule(7, 60, SPLIT) != schedule(8, 60, SPLIT)


def test_the_same_seed_gives_the_same_load():
    plan = LoadPlan(seconds=30, rate=50, seed=7)
    assert plan.arrivals() == plan.arrivals()
    assert plan.arrivals() != LoadPlan(seconds=30, rate=50, seed=8).arrivals()
    assert 1200 < len(plan.arrivals()) < 1800


def test_a_burst_arrives_at_one_moment():
    moments = LoadPlan(seconds=30, rate=50, seed=7, burst=5).arrivals()
    assert set(Counter(moments).values()) == {5}
    assert 1200 < len(moments) < 1800


@pytest.mark.parametrize("seed", range(20))
def test_a_target_has_one_fault_at_a_time(seed):
    ends: defaultdict[str, float] = defaultdict(float)
    for fault in schedule(seed, 120, SPLIT):
        assert ends[fault.target] <= fault.at_s < 120
        ends[fault.target] = fault.at_s + fault.lasts_s


def test_an_hour_has_every_fault_as_often_as_promised():
    counts = Counter((fault.action, fault.target) for fault in schedule(1, 3600, SPLIT))
    kills = sum(
        number for (action, target), number in counts.items() if action == "kill" and target in SPLIT["process"]
    )
    assert kills >= 0.95 * RATES["process"]["kill"].per_hour
    assert counts["kill", "postgres"] >= 55
    assert counts["kill", "rabbitmq"] >= 35
    assert counts["kill", "smtp"] >= 35
    for link in SPLIT["network"]:
        for action in RATES["network"]:
            assert counts[action, link] >= 18


def test_a_minute_has_forty_kills():
    for seed in range(10):
        faults = schedule(seed, 60, SPLIT)
        assert sum(fault.action == "kill" for fault in faults) >= 36
        assert len({fault.target for fault in faults}) >= 8


def test_only_some_faults():
    faults = schedule(1, 600, SPLIT, only=("freeze",))
    assert {fault.action for fault in faults} == {"freeze"}
    assert not schedule(1, 600, {}, only=("freeze",))
