"""The rules of orders and the values that they work on. Pure: nothing here waits."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from purveyor.kit.errors import FieldError, InvalidInput
from purveyor.kit.events.message import Envelope
from purveyor.kit.money import MAX_MINOR
from purveyor.roles.auth.contract import Address, Principal
from purveyor.roles.orders.contract import (
    IllegalTransition,
    ProductId,
    ProductUnavailable,
    UnknownProduct,
    shown,
)

MAX_QUANTITY = 1000
NEXT_STATUS: Mapping[str, tuple[str, ...]] = {
    "pending": ("confirmed", "cancelled"),
    "confirmed": ("shipped", "cancelled"),
    "shipped": ("delivered",),
    "delivered": (),
    "cancelled": (),
}
"""Allowed transitions of an order's status."""
NEXT_PAYMENT_STATUS: Mapping[str, tuple[str, ...]] = {"unpaid": ("paid",), "paid": ("refunded",), "refunded": ()}
"""Allowed transitions of the payment status. It is independent of the order's status."""
MAX_PRODUCT_NUMBER = 2**53 - 1
"""The largest id that every JSON parser keeps exact (RFC 8259 section 6)."""
MAX_PRODUCT_TEXT = 100
PRODUCT_TEXT = r"^[^\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]+$"
"""Text ids are one line without control characters."""
_NO_NUMBER = b'"order_number":0,'


class Product(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A product as orders know it. The texts are plain: one line, no control characters.

    ``image`` is never fetched. ``discount`` (percent) is for display: the price already includes it.
    """

    id: ProductId
    title: str
    price: int
    """In minor units of the shop's currency, exact. May be 0: samples and gifts can be ordered."""
    image: str = ""
    description: str = ""
    brand: str = ""
    model: str = ""
    color: str = ""
    category: str = ""
    discount: int = 0


class Unsellable(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A product that exists and cannot be sold. ``why`` goes into a sentence: "its price is missing"."""

    id: ProductId
    why: str


class ProductSlice(msgspec.Struct, frozen=True):
    """The sellable products of one page of the catalog. ``has_more`` also counts products that are left out."""

    products: Sequence[Product]
    has_more: bool


class DraftLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A product and how many of it."""

    product_id: (
        Annotated[int, Meta(ge=1, le=MAX_PRODUCT_NUMBER, examples=[1])]
        | Annotated[str, Meta(min_length=1, max_length=MAX_PRODUCT_TEXT, pattern=PRODUCT_TEXT, examples=["SKU-1"])]
    )
    quantity: Annotated[int, Meta(ge=1, le=MAX_QUANTITY, examples=[2])]


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """An order as a client requests it: without prices, which come from the catalog."""

    lines: tuple[DraftLine, ...]
    payment_method: str
    shipping_address: Address | None
    note: str


class LineFields(msgspec.Struct, frozen=True, kw_only=True):
    """The members of an order line that are the same inside and on the wire."""

    product_id: ProductId
    title: str
    quantity: int


class Line(LineFields, frozen=True, kw_only=True):
    """One line of an order."""

    price: int
    """Of one piece, in minor units."""

    @property
    def total(self) -> int:
        """Price times quantity, in minor units."""
        return self.price * self.quantity


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """An order. ``number`` is 0 until it is stored; ``total`` is in minor units of ``currency``."""

    id: UUID
    number: int
    user_id: str
    status: str
    payment_status: str
    payment_method: str
    currency: str
    total: int
    lines: tuple[Line, ...]
    shipping_address: Address | None
    note: str
    version: int
    created_at: datetime
    updated_at: datetime

    @classmethod
    def place(
        cls,
        order_id: UUID,
        buyer: Principal,
        draft: Draft,
        products: Mapping[ProductId, Product | Unsellable],
        *,
        currency: str,
        at: datetime,
    ) -> "Order":
        """Create an order at the products' prices.

        Raises ``UnknownProduct`` or ``ProductUnavailable``, which point at each line that cannot be ordered, and
        ``InvalidInput`` for a merged quantity over 1000 or a total that JSON readers could not keep exact.
        """
        lines = _priced(draft.lines, products)
        total = sum(line.total for line in lines)
        if total > MAX_MINOR:
            raise InvalidInput(
                "The order total is too large.",
                errors=[FieldError("/items", "exceed the maximum total of an order")],
            )
        return cls(
            id=order_id,
            number=0,
            user_id=buyer.user_id,
            status="pending",
            payment_status="unpaid",
            payment_method=draft.payment_method,
            currency=currency,
            total=total,
            lines=lines,
            shipping_address=draft.shipping_address,
            note=draft.note,
            version=1,
            created_at=at,
            updated_at=at,
        )

    def become(self, *, status: str | None = None, payment_status: str | None = None, at: datetime) -> "Order":
        """The next version with another status; ``None`` keeps one. Raises ``IllegalTransition``."""
        if status is not None:
            _require_transition("order", self.status, status, NEXT_STATUS)
        if payment_status is not None:
            _require_transition("order's payment", self.payment_status, payment_status, NEXT_PAYMENT_STATUS)
        return msgspec.structs.replace(
            self,
            status=status or self.status,
            payment_status=payment_status or self.payment_status,
            version=self.version + 1,
            updated_at=at,
        )


def _require_transition(what: str, now: str, wanted: str, following: Mapping[str, tuple[str, ...]]) -> None:
    if wanted not in following[now]:
        allowed = " or ".join(following[now]) or "nothing else"
        raise IllegalTransition(f"The {what} is {now} and cannot become {wanted}. It can become {allowed}.")


def _sellable(
    draft: Sequence[DraftLine], products: Mapping[ProductId, Product | Unsellable]
) -> Mapping[ProductId, Product]:
    """The products of the draft. Raises one error that points at every line that cannot be ordered."""
    sellable: dict[ProductId, Product] = {}
    unknown: dict[str, None] = {}
    unsellable: dict[str, None] = {}
    errors: list[FieldError] = []
    for place, line in enumerate(draft):
        pointer, name = f"/items/{place}/product_id", shown(line.product_id)
        match products.get(line.product_id):
            case Product() as product:
                sellable[line.product_id] = product
            case Unsellable(why=why):
                unsellable[f"{name} ({why})"] = None
                errors.append(FieldError(pointer, f"product {name} cannot be sold now: {why}"))
            case _:
                unknown[name] = None
                errors.append(FieldError(pointer, f"there is no product {name}"))
    missing = f"The catalog does not contain these products: {', '.join(unknown)}." if unknown else ""
    refused = f"These products cannot be sold now: {', '.join(unsellable)}." if unsellable else ""
    if errors:
        kind = UnknownProduct if unknown else ProductUnavailable
        raise kind(f"{missing} {refused}".strip(), errors=errors)
    return sellable


def _priced(draft: Sequence[DraftLine], wanted: Mapping[ProductId, Product | Unsellable]) -> tuple[Line, ...]:
    products = _sellable(draft, wanted)
    quantities: dict[ProductId, int] = {}
    for place, line in enumerate(draft):
        quantities[line.product_id] = quantities.get(line.product_id, 0) + line.quantity
        if quantities[line.product_id] > MAX_QUANTITY:
            problem = FieldError(
                f"/items/{place}/quantity", f"must be at most {MAX_QUANTITY} in total for one product"
            )
            raise InvalidInput(f"An order can contain at most {MAX_QUANTITY} of one product.", errors=[problem])
    return tuple(
        Line(product_id=number, title=products[number].title, quantity=quantity, price=products[number].price)
        for number, quantity in quantities.items()
    )


Sort = Literal["-created_at", "created_at", "-total_amount", "total_amount"]
"""Orders of a list. The sign ``-`` means descending."""


class OrderFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Filter for lists of orders; ``None`` matches any. ``after`` is the last order of the previous page."""

    user_id: str | None = None
    status: str | None = None
    payment_status: str | None = None
    order_number: int | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    after: UUID | None = None
    words: tuple[str, ...] = ()
    """Folded words, as in ``search.py``. An order matches if it has them all."""
    mail_trouble: bool | None = None
    sort: Sort = "-created_at"


class IdempotencyKey(msgspec.Struct, frozen=True):
    """A client's key for one request. ``fingerprint`` is the SHA-256 of that request."""

    user_id: str
    key: str
    fingerprint: bytes


class NumberPlaceholder(msgspec.Struct, frozen=True):
    """Encoded JSON with a gap where the order's number goes."""

    before: bytes
    after: bytes

    @classmethod
    def split(cls, body: bytes) -> "NumberPlaceholder":
        """Split JSON of an order without a number. Only ids precede the number, so the first match is right."""
        before, _, after = body.partition(_NO_NUMBER)
        return cls(before + _NO_NUMBER[:-2], b"," + after)

    def fill(self, number: int) -> bytes:
        """The complete JSON."""
        return b"%b%d%b" % (self.before, number, self.after)


class NewOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order with everything that is stored in its transaction.

    The database assigns the number in the insert itself. The answer and the event contain it, so both are encoded
    beforehand without it, and the same statement fills it in: one round trip instead of two.
    """

    order: Order
    buyer_email: str
    buyer_name: str
    answer: NumberPlaceholder
    event: Envelope
    """Its ``order.created``, without the number."""
    key: IdempotencyKey | None


class StoredAnswer(msgspec.Struct, frozen=True):
    """The answer to a placed order; ``replayed`` when it answered an earlier, equal request."""

    order_id: UUID
    answer: bytes
    replayed: bool = False


class Buyer(msgspec.Struct, frozen=True):
    """Recipient of emails about an order, as of when it was placed; empty after erasure."""

    name: str
    email: str
    language: str
    confirmed: bool = False
    """True if auth says that the owner of the address has confirmed it. Not stored."""


class StoredOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order with what is stored beside it."""

    order: Order
    buyer: Buyer
    erased: bool
    """True if the buyer was erased: name, address and note are gone."""
    undo_until: datetime | None = None
    """Until when the last change can be undone."""


class ChangedBy(msgspec.Struct, frozen=True):
    """Author of a change: ``customer``, ``staff`` or ``system``; the name is empty after erasure."""

    kind: str
    id: str = ""
    name: str = ""


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """A change of an order, with everything that is stored in its transaction."""

    order: Order
    """The order after the change."""
    was: int
    """The version that the change is based on."""
    entries: tuple[str, ...]
    """Entries for the history."""
    by: ChangedBy
    reason: str
    request_id: str
    event: Envelope | None
    payment_event: Envelope | None = None
    hold_mail_s: int = 0
    """Seconds to hold the event. Until then the change can be undone."""
    restores: tuple[str, str] = ("", "")
    """The status and payment status that an undo restores."""


class MailOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a mail about an order. ``event_id`` is the id of the event that the mail is about."""

    event_id: str
    kind: str
    state: str
    attempts: int
    resends: int
    smtp_reply: str
    error: str

    @property
    def what(self) -> str:
        """The name in a history: ``mail_sent``, ``mail_failed`` or ``mail_unknown``."""
        return f"mail_{self.state}"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a history. ``id`` counts up per order, in the order in which changes were committed."""

    id: int
    at: datetime
    what: str
    by: ChangedBy
    reason: str = ""
    request_id: str = ""
    mail: MailOutcome | None = None


def placed(user_id: str, name: str, at: datetime, request_id: str = "") -> Entry:
    """The first entry of every history. It is not stored: the order itself holds all of it."""
    return Entry(id=1, at=at, what="placed", by=ChangedBy("customer", user_id, name), request_id=request_id)


class Timeline(msgspec.Struct, frozen=True):
    """The history of one order, by the ids of the entries."""

    order_id: UUID
    order_number: int
    entries: tuple[Entry, ...]
