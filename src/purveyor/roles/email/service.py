"""The use cases of role email: an event becomes a mail in the ledger; operators look, resend and resolve."""

from collections.abc import Callable
from email.utils import parseaddr
from uuid import NAMESPACE_URL, UUID, uuid5

from purveyor.kit.errors import Conflict, NotFound
from purveyor.kit.message import Envelope
from purveyor.kit.transport import Undeliverable
from purveyor.roles.email.contract import (
    ListMails,
    MailRecord,
    MailRecords,
    MailShown,
    ResendMail,
    ResolveMail,
    ShowMail,
)
from purveyor.roles.email.mime import compose, message_id
from purveyor.roles.email.ports import Ledger, NewMail
from purveyor.roles.email.rendering import Line, OrderMail, Renderer
from purveyor.roles.orders.contract import OrderCreated


class Mails:
    """Writes mails into the ledger. ``recorded`` is called when one was: it wakes the sender."""

    def __init__(self, ledger: Ledger, sender: str, recorded: Callable[[], None]) -> None:
        self._ledger = ledger
        self._sender = sender
        self._recorded = recorded
        shop, address = parseaddr(sender)
        self._renderer = Renderer(shop=shop or "Purveyor")
        self._domain = address.rpartition("@")[2] or "purveyor.local"

    async def order_created(self, event: OrderCreated, envelope: Envelope) -> None:
        """Confirm an order. Raises ``Undeliverable`` for an event that no mail can be made of."""
        event_id = _event_id(envelope, event)
        try:
            rendered = self._renderer.render(event.type, _order_mail(event, envelope), envelope.language)
            parts = {
                "message_id": message_id(event_id, self._domain),
                "sender": self._sender,
                "recipient": event.user_email,
                "date": envelope.occurred_at,
                "rendered": rendered,
            }
            try:
                message = compose(recipient_name=event.user_name, **parts)  # type: ignore[arg-type]
            except ValueError:  # a foreign publisher's name may be unfit for a header: the address will do
                message = compose(recipient_name="", **parts)  # type: ignore[arg-type]
        except ValueError as error:
            raise Undeliverable(str(error)) from error
        await self._ledger.record(
            NewMail(
                event_id=str(event_id),
                kind=event.type,
                order_number=event.order_number,
                recipient=event.user_email,
                subject=rendered.subject,
                message_id=message_id(event_id, self._domain),
                message=message,
                created_at=envelope.occurred_at,
            )
        )
        self._recorded()

    async def list(self, ask: ListMails) -> MailRecords:
        """See ``ListMails``."""
        return MailRecords(mails=tuple(await self._ledger.list(ask.state, ask.event_ids, ask.limit)))

    async def show(self, ask: ShowMail) -> MailShown:
        """See ``ShowMail``."""
        found = await self._ledger.find(ask.event_id)
        if found is None:
            raise NotFound(f"There is no mail for event {ask.event_id}.")
        return MailShown(record=found[0], message=found[1].decode("utf-8", "replace"))

    async def resend(self, ask: ResendMail) -> MailRecord:
        """See ``ResendMail``."""
        return await self._changed(
            ask.event_id, await self._ledger.resend(ask.event_id), "is being sent right now"
        )

    async def resolve(self, ask: ResolveMail) -> MailRecord:
        """See ``ResolveMail``."""
        return await self._changed(
            ask.event_id, await self._ledger.resolve(ask.event_id, sent=ask.sent), "is not unknown"
        )

    async def _changed(self, event_id: str, changed: bool, why_not: str) -> MailRecord:  # noqa: FBT001
        found = await self._ledger.find(event_id)
        if found is None:
            raise NotFound(f"There is no mail for event {event_id}.")
        if not changed:
            raise Conflict(f"The mail for event {event_id} {why_not} (it is {found[0].state}).")
        self._recorded()
        return found[0]


def _order_mail(event: OrderCreated, envelope: Envelope) -> OrderMail:
    return OrderMail(
        order_number=event.order_number,
        customer=event.user_name,
        total=event.total_amount,
        currency=envelope.currency,
        lines=tuple(
            Line(
                product_id=item.product_id,
                quantity=item.quantity,
                price=item.price,
                amount=item.total_amt,
            )
            for item in event.items
        ),
        payment_method=event.payment_method,
        placed_at=envelope.occurred_at,
    )


def _event_id(envelope: Envelope, event: OrderCreated) -> UUID:
    """The event's id; a foreign publisher's event without one is told apart by its order number."""
    if envelope.id.int:
        return envelope.id
    return uuid5(NAMESPACE_URL, f"purveyor:{event.type}:{event.order_number}")
