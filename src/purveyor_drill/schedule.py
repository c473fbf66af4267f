"""The random schedule of faults: the same seed, length and targets give the same faults at the same moments."""

import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

import msgspec

Group = Literal["process", "postgres", "embedded", "rabbitmq", "redis", "mongodb", "smtp", "network"]
Action = Literal[
    "kill", "term", "freeze", "restart", "flush", "answers", "refuse", "blackhole", "latency", "reset"
]

ACTIONS: tuple[Action, ...] = (
    "kill",
    "term",
    "freeze",
    "restart",
    "flush",
    "answers",
    "refuse",
    "blackhole",
    "latency",
    "reset",
)
ANSWERS = ("greeting 421", "mail 451", "dot 452", "close after dot", "reset after dot", "hang at data", "slow 250")
"""What the SMTP sink can be told to do."""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One fault; ``at_s`` from the beginning of the load; ``lasts_s`` until it is lifted, or started again."""

    at_s: float
    action: Action
    target: str
    lasts_s: float
    detail: str = ""

    @property
    def name(self) -> str:
        """As reports call it."""
        return f"{self.action} {self.target}"


class Kind(msgspec.Struct, frozen=True):
    """How often in an hour of one target, and for how long in seconds, from and to."""

    per_hour: float
    shortest_s: float
    longest_s: float
    rest_s: float = 2.0
    """How long the target is then left alone, so that it is up before the next fault meets it."""


RATES: Mapping[Group, Mapping[Action, Kind]] = {
    # Of all processes together: the other groups have one target each.
    "process": {
        "kill": Kind(2500, 0.1, 1.0, 3.0),
        "term": Kind(150, 0.0, 0.0, 4.0),
        "freeze": Kind(100, 1.0, 10.0),
    },
    "postgres": {"kill": Kind(60, 0.1, 1.0, 5.0), "freeze": Kind(60, 1.0, 5.0, 4.0)},
    "embedded": {"kill": Kind(60, 0.0, 0.0, 6.0), "freeze": Kind(60, 1.0, 5.0, 4.0)},
    "rabbitmq": {"kill": Kind(40, 0.1, 2.0, 10.0), "freeze": Kind(40, 1.0, 5.0, 5.0)},
    "redis": {"kill": Kind(20, 0.1, 2.0), "freeze": Kind(20, 1.0, 5.0), "flush": Kind(20, 0.0, 0.0)},
    "mongodb": {"restart": Kind(20, 0.1, 1.0, 5.0), "freeze": Kind(20, 1.0, 5.0, 4.0)},
    "smtp": {"kill": Kind(40, 0.2, 2.0, 4.0), "freeze": Kind(20, 1.0, 5.0), "answers": Kind(80, 0.0, 0.0)},
    "network": {
        "refuse": Kind(20, 1.0, 5.0),
        "blackhole": Kind(20, 1.0, 5.0, 4.0),
        "latency": Kind(20, 1.0, 5.0),
        "reset": Kind(20, 0.0, 0.0, 1.0),
    },
}
_OF_PROCESSES: tuple[Action, ...] = ("kill", "term", "freeze")
_SPARSE_S = 3.0
"""A short run has room for one fault of a server or the network in so many seconds."""
_LEAD_S = 1.0


def schedule(
    seed: int, seconds: float, targets: Mapping[Group, Sequence[str]], only: Collection[Action] = ACTIONS
) -> list[Fault]:
    """The faults of a run, in their order.

    Each kind comes as often as ``RATES`` says, in a short run once; a target has one fault at a time.
    """
    chance = random.Random(seed)
    of_processes: list[tuple[Fault, float]] = []
    for action in _OF_PROCESSES:
        of_processes += _draw(chance, seconds=seconds, group="process", action=action, targets=targets, only=only)
    of_servers: list[tuple[Fault, float]] = []
    for group, kinds in RATES.items():
        if group != "process":
            for action in kinds:
                for target in targets.get(group, ()):
                    of_servers += _draw(
                        chance, seconds=seconds, group=group, action=action, targets={group: [target]}, only=only
                    )
    room = max(1, int(seconds / _SPARSE_S))
    if len(of_servers) > room:
        of_servers = chance.sample(of_servers, room)
    return _without_overlaps(of_processes + of_servers, seconds)


def _draw(
    chance: random.Random,
    *,
    seconds: float,
    group: Group,
    action: Action,
    targets: Mapping[Group, Sequence[str]],
    only: Collection[Action],
) -> list[tuple[Fault, float]]:
    """Faults of one kind, each with how long its target then rests."""
    kind = RATES[group][action]
    candidates = targets.get(group, ())
    if not candidates or action not in only:
        return []
    drawn = []
    for _ in range(max(1, round(kind.per_hour * seconds / 3600))):
        fault = Fault(
            at_s=round(chance.uniform(_LEAD_S, max(_LEAD_S, seconds * 0.95)), 3),
            action=action,
            target=chance.choice(candidates),
            lasts_s=round(chance.uniform(kind.shortest_s, kind.longest_s), 3),
            detail=chance.choice(ANSWERS) if action == "answers" else "",
        )
        drawn.append((fault, kind.rest_s))
    return drawn


def _without_overlaps(drawn: Iterable[tuple[Fault, float]], seconds: float) -> list[Fault]:
    """Move what meets a target that has a fault already to the end of that; drop what then comes too late."""
    free_at: dict[str, float] = {}
    planned = []
    for fault, rest_s in sorted(drawn, key=lambda entry: (entry[0].at_s, entry[0].target, entry[0].action)):
        at_s = max(fault.at_s, free_at.get(fault.target, 0.0))
        if at_s >= seconds:
            continue
        free_at[fault.target] = at_s + fault.lasts_s + rest_s
        planned.append(msgspec.structs.replace(fault, at_s=round(at_s, 3)))
    return sorted(planned, key=lambda fault: fault.at_s)
