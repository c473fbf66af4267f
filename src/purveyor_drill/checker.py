"""The judge: whether what was found keeps the promises. Every invariant is one function over the facts."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from purveyor_drill import invariants_mails, invariants_orders, invariants_system
from purveyor_drill.observations import Facts

_SHOWN = 20

Invariant = Callable[[Facts], Iterator[str]]
"""Gives one sentence for each violation, with the id to trace."""

INVARIANTS: Mapping[str, tuple[str, Invariant]] = {
    "I1": ("an order answered 201 is there exactly once, a refused one never", invariants_orders.accepted_once),
    "I2": ("orders and their events are one to one", invariants_orders.events_one_to_one),
    "I3": ("nothing is left in hand, no dead letters", invariants_mails.nothing_in_hand),
    "I4": ("events, ledger and mails match: none lost, no ghosts", invariants_mails.none_lost),
    "I5": ("doubled mails are recorded, bounded and equal to the byte", invariants_mails.duplicates_bounded),
    "I6": ("one ledger record per event, kind and recipient", invariants_mails.one_record),
    "I7": ("amounts agree in order, event and mail", invariants_orders.amounts_agree),
    "I8": ("the same key gives the same answer to the byte", invariants_orders.replays_equal),
    "I9": ("no 500; every 503 in time, with Retry-After", invariants_system.refusals_in_order),
    "I10": ("no secret in logs, events or mails", invariants_system.nothing_leaked),
    "I11": ("descriptors, memory and transactions come back", invariants_system.resources_return),
}


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What one invariant found."""

    code: str
    title: str
    violations: int
    examples: tuple[str, ...]
    """At most 20."""

    @property
    def holds(self) -> bool:
        """Whether nothing violates it."""
        return self.violations == 0


def check(facts: Facts) -> Sequence[Verdict]:
    """Judge by every invariant."""
    verdicts = []
    for code, (title, invariant) in INVARIANTS.items():
        violations = list(invariant(facts))
        verdicts.append(
            Verdict(code=code, title=title, violations=len(violations), examples=tuple(violations[:_SHOWN]))
        )
    return verdicts
