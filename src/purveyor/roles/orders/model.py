"""The rules of orders. Pure: nothing here waits, so its tests need no fixture."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from purveyor.kit.errors import FieldError, InvalidInput
from purveyor.kit.money import MAX_MINOR
from purveyor.roles.auth.contract import Address, Principal
from purveyor.roles.orders.contract import IllegalTransition, UnknownProduct
from purveyor.roles.orders.products.answers import ProductView

MAX_QUANTITY = 1000
NEXT_STATUS: Mapping[str, tuple[str, ...]] = {
    "pending": ("confirmed", "cancelled"),
    "confirmed": ("shipped", "cancelled"),
    "shipped": ("delivered",),
    "delivered": (),
    "cancelled": (),
}
"""What an order can become, by what it is."""
NEXT_PAYMENT_STATUS: Mapping[str, tuple[str, ...]] = {"unpaid": ("paid",), "paid": ("refunded",), "refunded": ()}
"""What its payment can become, by what it is. The two know nothing of each other."""


class DraftLine(msgspec.Struct, frozen=True):
    """What a client asks for: a product and how many of it."""

    product_id: int
    quantity: int


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """An order as a client asks for it; the prices are not theirs to say."""

    lines: tuple[DraftLine, ...]
    payment_method: str
    shipping_address: Address | None
    note: str


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of an order. Amounts are in minor units."""

    product_id: int
    title: str
    quantity: int
    price: int

    @property
    def total(self) -> int:
        """Price times quantity."""
        return self.price * self.quantity


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """An order. ``number`` is 0 until it is stored; amounts are in minor units of ``currency``."""

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
        products: Mapping[int, ProductView],
        *,
        currency: str,
        at: datetime,
    ) -> "Order":
        """A new order at the products' prices.

        Raises ``UnknownProduct`` that points at each line which names none, and ``InvalidInput`` for a merged
        quantity over 1000 or a total that JSON readers could not keep exact.
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
        """The next version, in other states; ``None`` leaves one as it is. Raises ``IllegalTransition``."""
        if status is not None:
            _require_step("order", self.status, status, NEXT_STATUS)
        if payment_status is not None:
            _require_step("order's payment", self.payment_status, payment_status, NEXT_PAYMENT_STATUS)
        return msgspec.structs.replace(
            self,
            status=status or self.status,
            payment_status=payment_status or self.payment_status,
            version=self.version + 1,
            updated_at=at,
        )


def _require_step(what: str, now: str, wanted: str, following: Mapping[str, tuple[str, ...]]) -> None:
    if wanted not in following[now]:
        allowed = " or ".join(following[now]) or "nothing else"
        raise IllegalTransition(f"The {what} is {now} and cannot become {wanted}. It can become {allowed}.")


def _priced(draft: Sequence[DraftLine], products: Mapping[int, ProductView]) -> tuple[Line, ...]:
    unknown = {place: line.product_id for place, line in enumerate(draft) if line.product_id not in products}
    if unknown:
        raise UnknownProduct.at(unknown)
    quantities: dict[int, int] = {}
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


class By(msgspec.Struct, frozen=True):
    """Who did something: ``customer``, ``staff`` or ``system``; the name is empty once it was erased."""

    kind: str
    id: str = ""
    name: str = ""


class MailOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a mail about the order. ``event_id`` is that of the event which it tells of."""

    event_id: str
    kind: str
    state: str
    attempts: int
    resends: int
    smtp_reply: str
    error: str

    @property
    def what(self) -> str:
        """Its name in a history: ``mail_sent``, ``mail_failed`` or ``mail_unknown``."""
        return f"mail_{self.state}"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened. ``id`` counts up per order, in the order in which the changes were committed."""

    id: int
    at: datetime
    what: str
    by: By
    reason: str = ""
    request_id: str = ""
    mail: MailOutcome | None = None


def placed(user_id: str, name: str, at: datetime, request_id: str = "") -> Entry:
    """The first entry of every history. It is not stored: the order itself says all of it."""
    return Entry(id=1, at=at, what="placed", by=By("customer", user_id, name), request_id=request_id)


class Timeline(msgspec.Struct, frozen=True):
    """All that happened to one order so far, in the order of the entries' ids."""

    order_id: UUID
    order_number: int
    entries: tuple[Entry, ...]
