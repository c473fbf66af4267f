"""The invariant of orders that several clients change at once: I12.

The versions of an order are one sequence, so no search for a linearization (Herlihy and Wing, 1990) is needed. A
history is linearizable if each change made the version after its base, a version has one state in all answers, and
no operation shows an older version than one that had ended before it was sent.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from heapq import heappop, heappush
from http import HTTPStatus

from purveyor_drill.observations import Observations, Operation, OrderHistory

_FIRST_VERSION = 1
_USUAL_REFUSALS = {
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.CONFLICT,
    HTTPStatus.PRECONDITION_FAILED,
    HTTPStatus.TOO_MANY_REQUESTS,
}


def linearizable(observed: Observations) -> Iterator[str]:
    """I12: each order's history explains what every client saw, and has every acknowledged change once."""
    by_order: defaultdict[str, list[Operation]] = defaultdict(list)
    for operation in observed.operations:
        by_order[operation.order_id].append(operation)
    stored = {history.order_id: history for history in observed.histories}
    for order_id, operations in by_order.items():
        if history := stored.get(order_id):
            yield from (f"order {order_id}: {anomaly}" for anomaly in anomalies(history, operations))
        else:
            yield f"order {order_id} was accepted and is not stored"


def anomalies(history: OrderHistory, operations: Sequence[Operation]) -> Iterator[str]:
    """Everything about one order that no sequence of its changes explains.

    A change with an unknown outcome may be in the history or not.
    """
    stored = {name: version for version, name in enumerate(history.changes, _FIRST_VERSION + 1)}
    made = {
        operation.id: stored.get(operation.id, operation.version)
        for operation in operations
        if operation.kind == "change" and (operation.outcome == "ok" or operation.id in stored)
    }
    """The version that each change made."""
    yield from _unexplained_changes(history, operations)
    for operation in operations:
        yield from _wrong_answer(operation, stored)
        if operation.id in made and made[operation.id] != operation.base + 1:
            yield (
                f"{_name(operation)} was based on version {operation.base} and made version {made[operation.id]}: "
                "an update is lost"
            )
    yield from _two_winners(operations)
    yield from _two_states(history, operations, made)
    yield from _out_of_order(operations, made)


def _unexplained_changes(history: OrderHistory, operations: Sequence[Operation]) -> Iterator[str]:
    if history.version != _FIRST_VERSION + len(history.changes):
        yield f"version {history.version} is stored with {len(history.changes)} changes"
    sent = {operation.id for operation in operations if operation.kind == "change"}
    for name, number in Counter(history.changes).items():
        if name not in sent:
            yield f"change {name} is stored and no client sent it"
        if number > 1:
            yield f"change {name} is stored {number} times"


def _wrong_answer(operation: Operation, stored: Mapping[str, int]) -> Iterator[str]:
    """Find an answer that contradicts the history, or that no client should get."""
    kept = stored.get(operation.id)
    if operation.outcome == "fail":
        if kept is not None:
            yield f"{_name(operation)} was refused with {operation.status} and is stored as version {kept}"
        if operation.status not in _USUAL_REFUSALS:
            yield f"{_name(operation)} was refused with {operation.status}"
        if operation.status == HTTPStatus.PRECONDITION_FAILED and operation.version == operation.base:
            yield f"{_name(operation)} was refused although version {operation.base} was current"
    elif operation.kind == "change" and operation.outcome == "ok":
        if kept is None:
            yield f"{_name(operation)} was acknowledged as version {operation.version} and is missing"
        elif kept != operation.version:
            yield f"{_name(operation)} was acknowledged as version {operation.version}, stored is {kept}"


def _two_winners(operations: Sequence[Operation]) -> Iterator[str]:
    winners: defaultdict[int, list[str]] = defaultdict(list)
    for operation in operations:
        if operation.kind == "change" and operation.outcome == "ok":
            winners[operation.version].append(_name(operation))
    for version, names in winners.items():
        if len(names) > 1:
            yield f"version {version} was acknowledged to {' and to '.join(names)}"


def _two_states(history: OrderHistory, operations: Sequence[Operation], made: Mapping[str, int]) -> Iterator[str]:
    states: defaultdict[int, set[str]] = defaultdict(set)
    states[history.version].add(history.payment_status)
    for operation in operations:
        if operation.id in made:
            states[made[operation.id]].add(operation.sets)
        if operation.state:
            states[operation.version].add(operation.state)
    for version, shown in states.items():
        if len(shown) > 1:
            yield f"version {version} was {' and '.join(sorted(shown))}"


def _out_of_order(operations: Sequence[Operation], made: Mapping[str, int]) -> Iterator[str]:
    """Find operations that show less than what had been shown before they began."""
    running: list[tuple[float, int, str]] = []
    newest = 0
    newest_of: defaultdict[str, int] = defaultdict(int)
    for operation in sorted(operations, key=lambda operation: operation.sent_at):
        while running and running[0][0] < operation.sent_at:
            _, version, client = heappop(running)
            newest = max(newest, version)
            newest_of[client] = max(newest_of[client], version)
        shown = made.get(operation.id, operation.version)
        if not shown:
            continue
        seen = newest_of[operation.client]
        if shown < seen:
            yield f"{_name(operation)} shows version {shown}, but its client had seen version {seen}"
        elif shown < newest:
            yield f"{_name(operation)} shows version {shown}, but version {newest} had been shown before"
        elif operation.id in made and shown == newest:
            yield f"{_name(operation)} made version {shown}, which had been shown before it was sent"
        if operation.version:
            heappush(running, (operation.ended_at, operation.version, operation.client))


def _name(operation: Operation) -> str:
    return f"{operation.kind} {operation.id} of {operation.client}"
