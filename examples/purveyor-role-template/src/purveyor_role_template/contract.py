"""Asks that role tally answers."""

from collections.abc import Sequence
from typing import ClassVar

from purveyor.kit.events.message import Ask, Message
from purveyor.kit.role import Port


class OrderDay(Message, frozen=True):
    """The orders of one day in UTC."""

    date: str
    """ISO 8601, such as ``2026-01-31``."""
    orders: int


class OrderDays(Message, frozen=True):
    """Days with orders, latest first."""

    days: tuple[OrderDay, ...]


class TallyOrders(Ask[OrderDays], frozen=True):
    """The days with orders among the last ``days`` days, today included."""

    reply: ClassVar = OrderDays
    idempotent: ClassVar = True

    days: int = 30


class Tally(Port):
    """Orders per day as other roles and the operator see them."""

    role = "tally"
    setting = "TALLY_SERVICE"
    asks = (TallyOrders,)

    async def days(self, days: int = 30) -> Sequence[OrderDay]:
        return (await self._asker.ask(TallyOrders(days=days))).days
