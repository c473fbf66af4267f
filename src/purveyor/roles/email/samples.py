"""One made-up letter of every kind: for the previews, and to try an operator's templates at start."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from purveyor.roles.email.letters import KINDS, Letter, Line, OrderMail, ResetMail, WelcomeMail

_AT = datetime(2026, 3, 14, 9, 26, tzinfo=UTC)
_CUSTOMER = "Zoë Müller"
_ORDER: Mapping[str, Any] = {
    "customer": _CUSTOMER,
    "order_number": 10482,
    "total": Decimal("1294.48"),
    "currency": "EUR",
    "lines": (
        Line(product_id=3, quantity=2, price=Decimal("29.99"), amount=Decimal("59.98")),
        Line(product_id=17, quantity=1, price=Decimal("1234.50"), amount=Decimal("1234.50")),
    ),
    "payment_method": "card",
}
_LETTERS: Mapping[str, Letter] = {
    "order.created": OrderMail(at=_AT, **_ORDER),
    "order.confirmed": OrderMail(at=_AT + timedelta(minutes=34), **_ORDER),
    "order.shipped": OrderMail(at=_AT + timedelta(days=1), **_ORDER),
    "order.delivered": OrderMail(at=_AT + timedelta(days=3), **_ORDER),
    "order.cancelled": OrderMail(at=_AT + timedelta(hours=2), reason="Ordered twice", **_ORDER),
    "user.registered": WelcomeMail(customer=_CUSTOMER, at=_AT, address="zoe@example.com"),
    "user.password_reset_requested": ResetMail(
        customer=_CUSTOMER,
        at=_AT,
        token="Q4XKZ7p2nB0vW8sLr5TgYc1DhM9uJf3EaRi6NoKtVwx",  # noqa: S106 - of no account
        expires_at=_AT + timedelta(minutes=30),
    ),
}
SAMPLES: Mapping[str, Letter] = {kind: _LETTERS[kind] for kind in KINDS}
"""A letter for each kind, in the order of ``KINDS``."""
