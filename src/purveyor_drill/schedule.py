"""The random schedule of faults: the same seed, length and targets give the same faults at the same moments."""

import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, get_args

import msgspec

Group = Literal["process", "postgres", "embedded", "rabbitmq", "nats", "redis", "mongodb", "smtp", "network"]
Action = Literal[
    "kill", "term", "freeze", "restart", "flush", "answers", "refuse", "blackhole", "latency", "reset"
]

ACTIONS: tuple[Action, ...] = get_args(Action)
ANSWERS = ("greeting 421", "mail 451", "dot 452", "close after dot", "reset after dot", "hang at data", "slow 250")
"""The ways in which the SMTP sink can misbehave."""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One fault: ``at_s`` counts from the beginning of the load, ``lasts_s`` until it is lifted."""

    at_s: float
    action: Action
    target: str
    lasts_s: float
    detail: str = ""

    @property
    def name(self) -> str:
        return f"{self.action} {self.target}"


class Rate(msgspec.Struct, frozen=True):
    """Frequency per hour for one target, and duration in seconds."""

    per_hour: float
    shortest_s: float
    longest_s: float
    rest_s: float = 2.0
    """A pause for the target, so that it is up before its next fault."""


RATES: Mapping[Group, Mapping[Action, Rate]] = {
    # For all processes together: each other group has one target.
    "process": {
        "kill": Rate(2500, 0.1, 1.0, 3.0),
        "term": Rate(150, 0.0, 0.0, 4.0),
        "freeze": Rate(100, 1.0, 10.0),
    },
    "postgres": {"kill": Rate(60, 0.1, 1.0, 5.0), "freeze": Rate(60, 1.0, 5.0, 4.0)},
    "embedded": {"kill": Rate(60, 0.0, 0.0, 6.0), "freeze": Rate(60, 1.0, 5.0, 4.0)},
    "rabbitmq": {"kill": Rate(40, 0.1, 2.0, 10.0), "freeze": Rate(40, 1.0, 5.0, 5.0)},
    "nats": {"kill": Rate(40, 0.1, 2.0, 10.0), "freeze": Rate(40, 1.0, 5.0, 5.0)},
    "redis": {
        "kill": Rate(20, 0.1, 2.0),
        "freeze": Rate(20, 1.0, 5.0),
        "flush": Rate(20, 0.0, 0.0),
    },
    "mongodb": {"restart": Rate(20, 0.1, 1.0, 5.0), "freeze": Rate(20, 1.0, 5.0, 4.0)},
    "smtp": {
        "kill": Rate(40, 0.2, 2.0, 4.0),
        "freeze": Rate(20, 1.0, 5.0),
        "answers": Rate(80, 0.0, 0.0),
    },
    "network": {
        "refuse": Rate(20, 1.0, 5.0),
        "blackhole": Rate(20, 1.0, 5.0, 4.0),
        "latency": Rate(20, 1.0, 5.0),
        "reset": Rate(20, 0.0, 0.0, 1.0),
    },
}
_SPARSE_S = 3.0
"""A short run injects one fault of a server or the network in so many seconds."""
_LEAD_S = 1.0


def schedule(
    seed: int, seconds: float, targets: Mapping[Group, Sequence[str]], only: Collection[Action] = ACTIONS
) -> list[Fault]:
    """The faults of a run, in order of time.

    Each kind occurs as often as in ``RATES``, at least once; a target has one fault at a time.
    """
    chance = random.Random(seed)
    of_processes: list[tuple[Fault, float]] = []
    for action in RATES["process"]:
        if action in only:
            of_processes += _draw(chance, seconds, "process", action, targets.get("process", ()))
    of_servers: list[tuple[Fault, float]] = []
    for group, kinds in RATES.items():
        for action in kinds:
            if group != "process" and action in only:
                for target in targets.get(group, ()):
                    of_servers += _draw(chance, seconds, group, action, [target])
    room = max(1, int(seconds / _SPARSE_S))
    if len(of_servers) > room:
        of_servers = chance.sample(of_servers, room)
    return _without_overlaps(of_processes + of_servers, seconds)


def _draw(
    chance: random.Random, seconds: float, group: Group, action: Action, targets: Sequence[str]
) -> list[tuple[Fault, float]]:
    """Faults of one kind, each with the pause that its target then needs."""
    rate = RATES[group][action]
    drawn = []
    for _ in range(max(1, round(rate.per_hour * seconds / 3600)) if targets else 0):
        fault = Fault(
            at_s=round(chance.uniform(_LEAD_S, max(_LEAD_S, seconds * 0.95)), 3),
            action=action,
            target=chance.choice(targets),
            lasts_s=round(chance.uniform(rate.shortest_s, rate.longest_s), 3),
            detail=chance.choice(ANSWERS) if action == "answers" else "",
        )
        drawn.append((fault, rate.rest_s))
    return drawn


def _without_overlaps(drawn: Iterable[tuple[Fault, float]], seconds: float) -> list[Fault]:
    """Move a fault whose target already has one to the end of that; drop it if it is then too late."""
    free_at: dict[str, float] = {}
    planned = []
    for fault, rest_s in sorted(drawn, key=lambda entry: (entry[0].at_s, entry[0].target, entry[0].action)):
        at_s = max(fault.at_s, free_at.get(fault.target, 0.0))
        if at_s >= seconds:
            continue
        free_at[fault.target] = at_s + fault.lasts_s + rest_s
        planned.append(msgspec.structs.replace(fault, at_s=round(at_s, 3)))
    return sorted(planned, key=lambda fault: fault.at_s)
