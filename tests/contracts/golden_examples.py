"""One example of every message that crosses a role boundary: what the golden files hold.

A changed golden file is a changed contract. After a deliberate change, write them anew with
``python tests/contracts/write_golden.py`` and read the difference: members may come, none may go.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import msgspec

import purveyor.roles
from purveyor.kit.events.message import Message, encode
from purveyor.roles.auth import contract as auth
from purveyor.roles.catalog import contract as catalog
from purveyor.roles.email import contract as email
from purveyor.roles.orders import contract as orders

GOLDEN = Path(__file__).with_name("golden")

_USER = "01890a5d-ac96-774b-bcce-b302099a8057"
_ORDER = "01890a5d-ac96-774b-bcce-b302099a8058"
_EVENT = "01890a5d-ac96-774b-bcce-b302099a8059"
_AT = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)

_MAIL = email.MailRecord(
    event_id=_EVENT,
    kind="order.created",
    order_number=12345,
    recipient="user@example.com",
    subject="Your order 12345",
    message_id=f"<{_EVENT}@purveyor.local>",
    state="sent",
    attempts=1,
    resends=0,
    smtp_reply="250 2.0.0 Ok",
    error="",
    created_at=_AT,
    updated_at=_AT,
)
_ADDRESS = auth.Address(
    recipient="John Doe",
    line1="1 High Street",
    city="Leeds",
    postal_code="LS1 1UR",
    country="GB",
    line2="Flat 2",
    region="Yorkshire",
    phone="+44 113 1",
)
_ITEM = orders.OrderedItem(product_id=1, quantity=2, price=Decimal(50), total_amt=Decimal(100), title="Kettle")

_ORDER_EVENT: dict[str, Any] = {
    "order_number": 12345,
    "user_email": "user@example.com",
    "user_name": "John Doe",
    "total_amount": Decimal(100),
    "items": (_ITEM,),
    "payment_method": "cash_on_delivery",
    "order_id": _ORDER,
    "currency": "EUR",
    "language": "en",
    "payment_status": "unpaid",
    "note": "Please ring twice.",
    "shipping_address": _ADDRESS,
}
_ANSWER = auth.ErasureAnswer(role="orders", erased_at=_AT)
_ERASURE = auth.Erasure(user_id=_USER, requested_at=_AT, answers=(_ANSWER,))
_PERSON = {"user_id": _USER, "user_email": "user@example.com"}

EXAMPLES: tuple[Message, ...] = (
    auth.VerifiedToken(
        sub=_USER,
        user_id=_USER,
        email="user@example.com",
        name="John Doe",
        access="customer",
        exp=1_767_323_045,
    ),
    auth.VerifyToken(token="header.claims.signature"),
    _ADDRESS,
    auth.GetProfile(user_id=_USER, token="header.claims.signature"),
    auth.Profile(email="jane@example.com", name="Jane Doe", language="de-AT", email_confirmed=True),
    auth.GetAddress(user_id=_USER, address_id=_ORDER, token="header.claims.signature"),
    auth.Account(id=_USER, email="user@example.com", name="John Doe", access="staff"),
    auth.OpenAccount(email="user@example.com", name="John Doe", password="correct horse", access="staff"),
    auth.SetAccess(email="user@example.com", access="admin"),
    _ANSWER,
    _ERASURE,
    auth.Erasures(erasures=(_ERASURE,)),
    auth.ListErasures(unfinished=True, limit=50),
    auth.UserRegistered(**_PERSON, user_name="John Doe", confirmation_token="a token"),
    auth.EmailConfirmationRequested(**_PERSON, user_name="John Doe", token="a token", expires_at=_AT),
    auth.EmailConfirmed(**_PERSON),
    auth.EmailChanged(**_PERSON, user_name="John Doe"),
    auth.PasswordResetRequested(**_PERSON, user_name="John Doe", token="a token", expires_at=_AT),
    auth.PasswordChanged(**_PERSON, user_name="John Doe"),
    auth.UserErased(**_PERSON, user_name="John Doe"),
    auth.UserExportRequested(export_id=_EVENT, **_PERSON),
    auth.Principal(
        user_id=_USER,
        email="user@example.com",
        name="John Doe",
        access="customer",
        language="en",
        expires_at=1_767_323_045.0,
        token="header.claims.signature",
    ),
    orders.OrderCreated(**_ORDER_EVENT),
    orders.OrderConfirmed(**_ORDER_EVENT),
    orders.OrderShipped(**_ORDER_EVENT),
    orders.OrderDelivered(**_ORDER_EVENT),
    orders.OrderCancelled(**_ORDER_EVENT, reason="bought twice"),
    orders.OrderPaid(**_ORDER_EVENT),
    orders.OrderRefunded(**_ORDER_EVENT),
    orders.OrderDataErased(user_id=_USER),
    orders.OrderDataExported(export_id=_EVENT, part=1, parts=2, document="[]"),
    _ITEM,
    orders.TraceOrder(order="12345"),
    orders.FindUnannounced(limit=1000),
    orders.AnnounceOrders(order_ids=(_ORDER,)),
    orders.Unannounced(order_ids=(_ORDER,)),
    orders.TraceStep(at=_AT, what="order stored", detail="number 12345"),
    orders.OrderTrace(
        order_id=_ORDER,
        order_number=12345,
        events=(_EVENT,),
        steps=(
            orders.TraceStep(at=_AT, what="order stored", detail="number 12345"),
            orders.TraceStep(at=None, what="order.created waits for the relay", detail="0 attempts"),
        ),
    ),
    _MAIL,
    email.MailSettled(
        event_id=_EVENT,
        kind="order.created",
        recipient="user@example.com",
        state="sent",
        attempts=1,
        resends=0,
        smtp_reply="250 2.0.0 Ok",
        error="",
    ),
    email.MailDataErased(user_id=_USER),
    email.MailDataExported(export_id=_EVENT, part=1, parts=1, document="[]"),
    email.MailRecords(mails=(_MAIL,)),
    email.WhichUnrecorded(event_ids=(_EVENT,)),
    email.FindMailbox(),
    email.MailboxFound(found=True),
    email.ReadMailbox(part="messages", limit=50, cursor=_EVENT, query="order", id=_EVENT),
    email.EmptyMailbox(id=_EVENT),
    email.MailboxContent(content="[]", next_cursor=_EVENT, total=1),
    email.EventIds(event_ids=(_EVENT,)),
    email.RecoverClaims(apply=True),
    email.ClaimsFound(senders=("17",), mails=2),
    email.ListMails(state="sent", event_ids=(_EVENT,), limit=50),
    email.MailShown(record=_MAIL, message="Subject: Your order 12345\r\n\r\nHello John Doe"),
    email.ShowMail(event_id=_EVENT),
    email.ResendMail(event_id=_EVENT),
    email.ResolveMail(event_id=_EVENT, sent=True),
    catalog.Product(
        id=1,
        title="Kettle",
        image="/catalog/pictures/1.svg",
        price=Decimal("29.99"),
        description="Boils water.",
        brand="Hearth",
        model="K1",
        color="steel",
        category="kitchen",
        discount=10,
    ),
)


def message_types() -> Iterator[tuple[str, type[Message]]]:
    """Every message that a role's contract defines, with the role's name."""
    for role in iter_modules(purveyor.roles.__path__):
        if not find_spec(name := f"purveyor.roles.{role.name}.contract"):
            continue  # nobody asks this role
        module = import_module(name)
        for kind in vars(module).values():
            if not isinstance(kind, type) or not issubclass(kind, Message) or kind.__name__.startswith("_"):
                continue  # the underscore: what several messages have in common
            if kind.__module__.startswith(module.__name__):
                yield role.name, kind


def golden_file(message: Message) -> Path:
    role = type(message).__module__.split(".")[-2]
    return GOLDEN / f"{role}.{type(message).__name__}.json"


def written(message: Message) -> str:
    """The message as it goes over the wire, with line breaks for whoever reads the difference."""
    return msgspec.json.format(encode(message), indent=2).decode() + "\n"


def read(text: str, kind: type[Any]) -> Any:
    """As every reader of ours reads it."""
    return msgspec.json.decode(text, type=kind)
