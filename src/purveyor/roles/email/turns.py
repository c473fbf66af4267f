"""Order of emails: each after the earlier ones about its order, within the quota of its mailbox."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from purveyor.kit.limits.memory import Rate
from purveyor.roles.auth.contract import UserErased
from purveyor.roles.email.contract import HELD
from purveyor.roles.orders.contract import (
    OrderCancelled,
    OrderConfirmed,
    OrderCreated,
    OrderDelivered,
    OrderShipped,
)

FIRST = OrderCreated.type
"""The first mail about an order. It is never dropped: every order has its mail."""
FIRST_WITHIN_S = 600.0
"""Seconds for which later emails of an order wait for the first one, whose event may be a dead letter."""
GAP_WITHIN_S = 2.0
"""Seconds to wait for an earlier email that is not recorded yet. Some steps, such as an undo, send none."""
WAITING = ("pending", "retry", "claimed", "data")
"""The states of a mail that holds back the later ones. A failed or parked mail does not."""
SUPERSEDED_BY: Mapping[str, tuple[str, ...]] = {
    OrderConfirmed.type: (OrderShipped.type, OrderDelivered.type, OrderCancelled.type),
    OrderShipped.type: (OrderDelivered.type,),
}
"""Later emails that make a delayed one about an order pointless. One that may have been sent is never dropped.

A mail is delayed if it or an earlier one about its order was tried in vain or held, or if a later one has left.
"""

UNCONFIRMED = Rate(5, 3600)
"""Limit of emails to an unconfirmed mailbox, over all accounts."""

FAREWELL = UserErased.type
"""The last mail to a deleted account. It outlives the erasure until it is sent."""


def held_error(quota: Rate) -> str:
    """Return the error of a mail that waits for its quota."""
    return f"{HELD}emails to an unconfirmed address are limited to {quota}"


RELEASED = "held until the address was confirmed"
"""The error of a mail that was held and is due. It still counts as delayed."""


def superseded_kinds(kind: str) -> list[str]:
    """Return the kinds of earlier mails that a mail of this kind makes pointless."""
    return [earlier for earlier, later in SUPERSEDED_BY.items() if kind in later]


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A mail among those about its order."""

    kind: str
    recipient: str
    sequence: int
    state: str
    attempts: int
    error: str
    next_attempt_at: datetime


class Turn(msgspec.Struct, frozen=True):
    """When a claimed mail can be sent: from ``wait_until`` on, or never if it is superseded."""

    wait_until: datetime | None = None
    superseded_by: str = ""


def turn_of(
    mail: Place, others: Sequence[Place], *, waited_since: datetime | None, resends: int, now: datetime
) -> Turn:
    """Return whose turn it is among the mails of an order, as the SQL of the PostgreSQL ledger does.

    ``waited_since`` is the time of a mail that was never tried. It is ``None`` for others. ``mail`` is as it was
    before the claim.
    """
    same = [other for other in others if other.recipient == mail.recipient and other.sequence > 0]
    earlier = [other for other in same if other.sequence < mail.sequence and other.state in WAITING]
    if earlier:
        return Turn(wait_until=max(other.next_attempt_at for other in earlier))
    has_first = mail.sequence == 1 or any(other.kind == FIRST for other in others)
    if not has_first and waited_since and now - waited_since < timedelta(seconds=FIRST_WITHIN_S):
        return Turn(wait_until=now)
    before = [other for other in same if other.sequence < mail.sequence]
    has_all = len({other.sequence for other in before}) == mail.sequence - 1
    if not has_all and waited_since and now - waited_since < timedelta(seconds=GAP_WITHIN_S):
        return Turn(wait_until=now)
    is_delayed = mail.attempts > 0 or bool(mail.error) or any(other.attempts > 1 for other in before)
    later = [other for other in same if other.sequence > mail.sequence]
    pointless = [
        other
        for other in later
        if other.kind in SUPERSEDED_BY.get(mail.kind, ()) and (is_delayed or other.state not in WAITING)
    ]
    if pointless and not resends:
        return Turn(superseded_by=min(pointless, key=lambda other: other.sequence).kind)
    return Turn()
