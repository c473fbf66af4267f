"""Emails for each event, with their contents."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import msgspec

from purveyor.kit.events.message import Envelope
from purveyor.kit.ids import parse_id
from purveyor.kit.link_tokens import LinkTokens
from purveyor.roles.auth.contract import (
    EmailChanged,
    EmailConfirmationRequested,
    PasswordChanged,
    PasswordResetRequested,
    UserErased,
    UserRegistered,
)
from purveyor.roles.email.mail_models import (
    NEW_ORDER_NOTICE,
    ConfirmationMail,
    EmailChangedMail,
    ErasedMail,
    Letter,
    Line,
    NoticeMail,
    OrderMail,
    PasswordChangedMail,
    ResetMail,
    Shop,
    WelcomeMail,
    one_line,
)
from purveyor.roles.orders.contract import (
    OrderCancelled,
    OrderConfirmed,
    OrderCreated,
    OrderDelivered,
    OrderPaid,
    OrderRefunded,
    OrderShipped,
    order_page,
)

OrderEvent = (
    OrderCreated | OrderConfirmed | OrderPaid | OrderShipped | OrderDelivered | OrderCancelled | OrderRefunded
)
AccountEvent = (
    UserRegistered
    | EmailConfirmationRequested
    | EmailChanged
    | PasswordResetRequested
    | PasswordChanged
    | UserErased
)
MailedEvent = OrderEvent | AccountEvent
"""The events that are mailed; each names its recipient."""

_SETTLES = (OrderCancelled, OrderRefunded, OrderPaid)
"""After these events there is nothing to pay."""


class Addressed(msgspec.Struct, frozen=True, kw_only=True):
    """A mail with its recipient. An empty ``language`` is the shop's."""

    kind: str
    letter: Letter
    recipient: str
    name: str
    language: str


class Letters:
    """Turns events into mails. ``notified`` are the addresses that get a notice of each new order."""

    def __init__(self, shop: Shop, links: LinkTokens, notified: tuple[str, ...] = ()) -> None:
        self._shop = shop
        self._links = links
        self._notified = notified

    def to_person(self, event: MailedEvent, envelope: Envelope) -> Addressed:
        """The mail to the person that the event is about."""
        language = (event.language if isinstance(event, OrderEvent) else "") or envelope.language
        return Addressed(
            kind=event.type,
            letter=self._letter(event, envelope),
            recipient=event.user_email,
            name=event.user_name,
            language=language,
        )

    def to_shop(self, event: MailedEvent, envelope: Envelope) -> Iterator[Addressed]:
        """The notices to the shop."""
        if not self._notified or not isinstance(event, OrderCreated):
            return
        order_id = quote(one_line(event.order_id or envelope.subject), safe="")
        link = f"{self._shop.url}/#/desk/orders/{order_id}" if self._shop.url and order_id else ""
        letter = NoticeMail(**self._about_order(event, envelope) | {"customer": "", "link": link})
        for address in self._notified:
            yield Addressed(kind=NEW_ORDER_NOTICE, letter=letter, recipient=address, name="", language="")

    def _letter(self, event: MailedEvent, envelope: Envelope) -> Letter:
        if isinstance(event, OrderEvent):
            return self._order_letter(event, envelope)
        return _account_letter(event, envelope)

    def _order_letter(self, event: OrderEvent, envelope: Envelope) -> Letter:
        mail = OrderMail(
            **self._about_order(event, envelope),
            payment_status=event.payment_status,
            is_payable=event.payment_status in ("", "unpaid") and not isinstance(event, _SETTLES),
            address=event.shipping_address,
            note=event.note,
            reason=event.reason if isinstance(event, OrderCancelled) else "",
        )
        # An unconfirmed address may be a stranger's, so nothing that a customer wrote is repeated to it.
        return mail if event.recipient_confirmed else mail.without_free_text()

    def _about_order(self, event: OrderEvent, envelope: Envelope) -> dict[str, Any]:
        return {
            "customer": event.user_name,
            "at": envelope.occurred_at,
            "order_number": event.order_number,
            "total": event.total_amount,
            "currency": event.currency or envelope.currency or self._shop.currency,
            "lines": tuple(
                Line(
                    product_id=item.product_id,
                    quantity=item.quantity,
                    price=item.price,
                    amount=item.total_amt,
                    title=item.title,
                )
                for item in event.items
            ),
            "payment_method": event.payment_method,
            "link": self._order_link(event),
        }

    def _order_link(self, event: OrderEvent) -> str:
        order_id = parse_id(event.order_id)
        token = self._links.sign(order_id, event.user_email) if order_id else ""
        return f"{self._shop.url}{order_page(token)}" if self._shop.url and token else ""


def _account_letter(event: AccountEvent, envelope: Envelope) -> Letter:
    letter: Letter
    person: dict[str, Any] = {"customer": event.user_name, "at": envelope.occurred_at}
    match event:
        case UserRegistered():
            letter = WelcomeMail(**person, address=event.user_email, token=event.confirmation_token)
        case EmailConfirmationRequested():
            address, until = event.user_email, event.expires_at
            letter = ConfirmationMail(**person, address=address, token=event.token, expires_at=until)
        case EmailChanged():
            letter = EmailChangedMail(**person)
        case PasswordResetRequested():
            letter = ResetMail(**person, token=event.token, expires_at=event.expires_at)
        case PasswordChanged():
            letter = PasswordChangedMail(**person)
        case UserErased():
            letter = ErasedMail(**person)
    return letter
