"""The use cases of personal data: somebody is erased, somebody wants all that is held on them."""

from collections.abc import AsyncIterator, Callable, Sequence

import msgspec

from purveyor.kit.clock import now
from purveyor.kit.message import Envelope
from purveyor.kit.parts import PART_DOCUMENTS, parts
from purveyor.kit.web import encode
from purveyor.roles.auth.contract import UserErased, UserExportRequested
from purveyor.roles.orders.contract import OrderDataErased, OrderDataExported
from purveyor.roles.orders.events import answering_event
from purveyor.roles.orders.history import Entry, placed
from purveyor.roles.orders.ports import Filter, Histories, Kept, OrderBook, Persons
from purveyor.roles.orders.views import order_view
from purveyor.roles.orders.views_history import entry_view


class PersonalData:
    """Handles the events about people. ``committed`` is called when an answer was stored: it wakes the relay."""

    def __init__(
        self, persons: Persons, book: OrderBook, histories: Histories, *, committed: Callable[[], None]
    ) -> None:
        self._persons = persons
        self._book = book
        self._histories = histories
        self._committed = committed

    async def erase(self, erased: UserErased, _envelope: Envelope) -> None:
        """Handle ``user.erased``: erase, and say so in the same transaction."""
        at = now()
        answer = OrderDataErased(user_id=erased.user_id)
        await self._persons.erase(
            erased.user_id, answering_event(answer, subject=erased.user_id, sequence=1, at=at), at
        )
        self._committed()

    async def export(self, wanted: UserExportRequested, _envelope: Envelope) -> None:
        """Handle ``user.export_requested``: emit all that is held, in parts; one empty part for nothing."""
        at = now()
        documents = list(parts([document async for document in self._documents(wanted.user_id)]))
        events = [
            answering_event(
                OrderDataExported(
                    export_id=wanted.export_id, part=number, parts=len(documents), document=document
                ),
                subject=wanted.export_id,
                sequence=number,
                at=at,
            )
            for number, document in enumerate(documents, 1)
        ]
        await self._persons.answer_export(wanted.export_id, wanted.user_id, events, at)
        self._committed()

    async def _documents(self, user_id: str) -> AsyncIterator[str]:
        after = None
        while page := await self._book.page(Filter(user_id=user_id, after=after), PART_DOCUMENTS):
            for document in await self._described(page):
                yield document
            after = page[-1].order.id

    async def _described(self, page: Sequence[Kept]) -> Sequence[str]:
        """Each order as its buyer sees it, with who they were to us and with its history."""
        later = await self._histories.news({kept.order.id: 1 for kept in page})
        return [_described(kept, later.get(kept.order.id, ())) for kept in page]


def _described(kept: Kept, later: Sequence[Entry]) -> str:
    order, buyer = kept.order, kept.buyer
    entries = (placed(order.user_id, buyer.name, order.created_at), *later)
    members = {
        **msgspec.structs.asdict(order_view(order)),
        "user_name": buyer.name,
        "user_email": buyer.email,
        "language": buyer.language,
        "history": [entry_view(entry, by_staff=False) for entry in entries],
    }
    return encode(members).decode()
