"""The use cases around an order's history: reading it, and noting what became of its mails."""

from collections.abc import Callable
from uuid import UUID

from purveyor.kit.errors import NotFound
from purveyor.kit.ids import parse_id
from purveyor.kit.message import Envelope
from purveyor.roles.auth.contract import Principal
from purveyor.roles.email.contract import MailSettled
from purveyor.roles.orders.history import MailOutcome, Timeline
from purveyor.roles.orders.ports import Histories


class Timelines:
    """Histories of orders. ``committed`` is called with the id of an order whose history has grown."""

    def __init__(self, histories: Histories, *, committed: Callable[[UUID], None]) -> None:
        self._histories = histories
        self._committed = committed

    async def read(self, caller: Principal, order_id: str) -> Timeline:
        """See ``read``."""
        return await read(self._histories, caller, order_id)

    async def note_mail(self, settled: MailSettled, envelope: Envelope) -> None:
        """Handle ``mail.settled``. A mail about no order of ours (a foreign publisher's) has no history."""
        order_id = parse_id(envelope.subject)
        if order_id is None:
            return
        mail = MailOutcome(
            event_id=settled.event_id,
            kind=settled.kind,
            state=settled.state,
            attempts=settled.attempts,
            resends=settled.resends,
            smtp_reply=settled.smtp_reply,
            error=settled.error,
        )
        await self._histories.add_mail(order_id, mail, envelope.occurred_at)
        self._committed(order_id)


async def read(histories: Histories, caller: Principal, order_id: str) -> Timeline:
    """What happened to one's own order, to any for staff. Raises ``NotFound``."""
    found = parse_id(order_id)
    if found is None:
        raise NotFound("There is no such order.")
    return await histories.timeline(found, None if caller.is_staff else caller.user_id)
