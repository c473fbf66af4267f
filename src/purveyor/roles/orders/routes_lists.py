"""The HTTP routes that list orders: pages for everybody, and a file for staff."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import UUID

import msgspec
from litestar import Request, Response, get
from litestar.di import NamedDependency, Provide
from litestar.params import FromQuery, QueryParameter
from litestar.response import Stream

from purveyor.kit.clock import now
from purveyor.kit.errors import FieldError, Forbidden, InvalidInput, Unauthorized, Unavailable
from purveyor.kit.ids import parse_id
from purveyor.kit.web import BEARER, ApiResponse, problem_responses, signed_in
from purveyor.roles.auth.contract import Identity, Principal
from purveyor.roles.orders import examples
from purveyor.roles.orders.conditions import PRIVATE
from purveyor.roles.orders.export import export
from purveyor.roles.orders.ports import Filter, OrderBook
from purveyor.roles.orders.service import Orders
from purveyor.roles.orders.views import OrderPage, PaymentStatus, Status, order_view

_MAX_BIGINT = 2**63 - 1

_STAFF = "staff only"

_LIST_ANSWERS = {
    **problem_responses(Unauthorized, Forbidden, InvalidInput, Unavailable),
    **examples.answer(OrderPage, "A page of orders.", examples.ORDERS),
}
_EXPORT_ANSWERS = {
    **problem_responses(Unauthorized, Forbidden, InvalidInput, Unavailable),
    **examples.answer(str, "The file.", examples.CSV, media_type="text/csv"),
}


def list_routes(orders: Orders, book: OrderBook, identity: Identity) -> list[Any]:
    """The routes; ``identity`` tells whose token a request carries."""
    return [_list_route(orders, identity), _export_route(book, identity)]


def _list_route(orders: Orders, identity: Identity) -> Any:
    @get(
        "/api/orders",
        tags=["orders"],
        summary="Orders, newest first",
        description=(
            "One's own; staff see everybody's. `next_cursor` (and `Link: rel=\"next\"`) lead to the next page; "
            "orders that come in meanwhile do not move it."
        ),
        guards=[signed_in(identity.verify)],
        security=BEARER,
        dependencies={"wanted": Provide(_wanted)},
        responses=_LIST_ANSWERS,
    )
    async def list_orders(
        request: Request[Principal, Any, Any],
        wanted: NamedDependency[Filter],
        limit: Annotated[int, QueryParameter(ge=1, le=100)] = 20,
        cursor: Annotated[str | None, QueryParameter(max_length=64)] = None,
    ) -> Response[OrderPage]:
        wanted = msgspec.structs.replace(wanted, after=_cursor(cursor))
        page, following = await orders.list(request.user, wanted, limit)
        headers = {"Cache-Control": PRIVATE}
        if following is not None:
            query = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
            link = urlencode([*query, ("cursor", str(following))])
            headers["Link"] = f'</api/orders/?{link}>; rel="next"'
        cursor_out = str(following) if following else None
        views = [order_view(order) for order in page]
        return ApiResponse(OrderPage(views, cursor_out, following is not None), headers=headers)

    return list_orders


def _export_route(book: OrderBook, identity: Identity) -> Any:
    @get(
        "/api/orders/export.csv",
        tags=["orders"],
        summary="Orders as a CSV file",
        description=(
            "For staff: all orders that pass the filters, newest first, a line each (RFC 4180, UTF-8). The file "
            "is sent while it is read. An apostrophe goes before texts that a spreadsheet would take for formulas."
        ),
        guards=[signed_in(identity.verify)],
        security=BEARER,
        dependencies={"wanted": Provide(_wanted)},
        media_type="text/csv",
        responses=_EXPORT_ANSWERS,
    )
    async def export_orders(request: Request[Principal, Any, Any], wanted: NamedDependency[Filter]) -> Stream:
        if not request.user.is_staff:
            raise Forbidden("Only staff may export orders.")
        pieces = export(book, wanted)
        first = await anext(pieces)  # what is wrong with the database is an answer, and no file that breaks off
        return Stream(
            _after(first, pieces),
            media_type="text/csv",
            headers={
                "Content-Disposition": f'attachment; filename="orders-{now():%Y-%m-%d}.csv"',
                "X-Accel-Buffering": "no",
            },
        )

    return export_orders


async def _wanted(  # noqa: PLR0917 - each parameter is a documented query parameter
    request: Request[Principal, Any, Any],
    status: FromQuery[Status | None] = None,
    payment_status: FromQuery[PaymentStatus | None] = None,
    order_number: Annotated[int | None, QueryParameter(ge=1, le=_MAX_BIGINT)] = None,
    user_id: Annotated[str | None, QueryParameter(pattern=r"^[\x21-\x7e]{1,64}$", description=_STAFF)] = None,
    created_from: Annotated[datetime | None, QueryParameter(description=f"{_STAFF}; from this moment on")] = None,
    created_to: Annotated[datetime | None, QueryParameter(description=f"{_STAFF}; before this moment")] = None,
) -> Filter:
    """The filters that all lists have."""
    if not request.user.is_staff and (user_id or created_from or created_to):
        raise Forbidden("Only staff may filter by user_id, created_from and created_to.")
    return Filter(
        user_id=user_id,
        status=status,
        payment_status=payment_status,
        order_number=order_number,
        created_from=_moment(created_from, "/created_from"),
        created_to=_moment(created_to, "/created_to"),
    )


async def _after(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in pieces:
        yield piece


def _cursor(text: str | None) -> UUID | None:
    if text is None:
        return None
    if (found := parse_id(text)) is None:
        problem = FieldError("/cursor", "take the value from next_cursor of the page before")
        raise InvalidInput("The cursor is not valid.", errors=[problem])
    return found


def _moment(moment: datetime | None, pointer: str) -> datetime | None:
    """A time in UTC; one without a zone is meant so. Raises ``InvalidInput`` at the edges of the calendar."""
    if moment is None or moment.tzinfo is None:
        return moment and moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise InvalidInput("A time is out of range.", errors=[FieldError(pointer, "is out of range")]) from error
