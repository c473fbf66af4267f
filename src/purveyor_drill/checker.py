"""Judges what was observed. Every invariant is one function over the observations."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from purveyor_drill import invariants_histories, invariants_mails, invariants_orders, invariants_system
from purveyor_drill.observations import Observations

_SHOWN = 20

Invariant = Callable[[Observations], Iterator[str]]
"""Yields one sentence for each violation, with the id to trace."""

INVARIANTS: Mapping[str, tuple[str, Invariant]] = {
    "I1": ("an order answered 201 is stored exactly once, a refused one never", invariants_orders.accepted_once),
    "I2": ("orders and their events are one to one", invariants_orders.events_one_to_one),
    "I3": ("no work is left pending, no dead letters", invariants_mails.nothing_in_hand),
    "I4": ("events, ledger and mails match: none lost, none unexplained", invariants_mails.none_lost),
    "I5": (
        "no duplicate mail goes unrecorded; all are bounded and identical",
        invariants_mails.duplicates_bounded,
    ),
    "I6": ("one ledger record per event, kind and recipient", invariants_mails.one_record),
    "I7": ("amounts agree in order, event and mail", invariants_orders.amounts_agree),
    "I8": ("the same key gives the identical answer", invariants_orders.replays_equal),
    "I9": ("no 500; every 503 in time and with Retry-After", invariants_system.refusals_in_order),
    "I10": ("no secret in logs, events or mails", invariants_system.nothing_leaked),
    "I11": ("descriptors, memory and transactions are released", invariants_system.resources_return),
    "I12": (
        "no change of an order is lost, and its versions never go backwards",
        invariants_histories.linearizable,
    ),
}


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one invariant."""

    code: str
    title: str
    violations: int
    examples: tuple[str, ...]
    """At most 20."""

    @property
    def holds(self) -> bool:
        """True if there is no violation."""
        return self.violations == 0


def check(observed: Observations) -> Sequence[Verdict]:
    """Judge by every invariant."""
    verdicts = []
    for code, (title, invariant) in INVARIANTS.items():
        violations = list(invariant(observed))
        verdicts.append(
            Verdict(code=code, title=title, violations=len(violations), examples=tuple(violations[:_SHOWN]))
        )
    return verdicts
