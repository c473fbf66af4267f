"""The HTTP routes that list orders: pages for everybody, and a file for staff."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
from litestar import Request, Response, get
from litestar.di import NamedDependency, Provide
from litestar.params import QueryParameter
from litestar.response import Stream

from purveyor.kit.clock import now
from purveyor.kit.errors import FieldError, Forbidden, InvalidInput, Unavailable
from purveyor.kit.examples import answer, link, notes
from purveyor.kit.parameters import (
    DEFAULT_LIMIT,
    Cursor,
    Limit,
    number_schema,
    read_cursor,
    read_limit,
    read_number,
    refuse_null,
)
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
    **problem_responses(Forbidden, Unavailable),
    **answer(OrderPage, "A page of orders.", examples.ORDERS),
}
_EXPORT_ANSWERS = {
    **problem_responses(Forbidden, Unavailable),
    **answer(str, "The file.", examples.CSV, media_type="text/csv"),
}


def list_routes(orders: Orders, book: OrderBook, identity: Identity) -> list[Any]:
    """The routes; ``identity`` tells whose token a request carries."""
    return [_list_route(orders, identity), _export_route(book, identity)]


def _list_route(orders: Orders, identity: Identity) -> Any:
    @get(
        "/api/orders",
        tags=["orders"],
        operation_id="list_orders",
        summary="Orders, newest first",
        opt=notes(
            headers={"Link": "the next page (RFC 8288), where there is one"},
            links=(
                link("list_orders", cursor="$response.body#/next_cursor"),
                link("get_order", order_id="$response.body#/orders/0/id"),
            ),
        ),
        description=(
            "One's own; staff see everybody's. `next_cursor` (and `Link: rel=\"next\"`) lead to the next page; "
            "orders that come in meanwhile do not move it."
        ),
        before_request=signed_in(identity.verify),
        security=BEARER,
        dependencies={"wanted": Provide(_wanted)},
        responses=_LIST_ANSWERS,
    )
    async def list_orders(
        request: Request[Principal, Any, Any],
        wanted: NamedDependency[Filter],
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = None,
    ) -> Response[OrderPage]:
        wanted = msgspec.structs.replace(wanted, after=read_cursor(cursor))
        page, following = await orders.list(request.user, wanted, read_limit(limit))
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
        operation_id="export_orders",
        summary="Orders as a CSV file",
        opt=notes(headers={"Content-Disposition": "the name of the file"}),
        description=(
            "For staff: all orders that pass the filters, newest first, a line each (RFC 4180, UTF-8). The file "
            "is sent while it is read. An apostrophe goes before texts that a spreadsheet would take for formulas."
        ),
        before_request=signed_in(identity.verify),
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


def _time(description: str) -> QueryParameter:
    return QueryParameter(description=f"{_STAFF}; {description}", schema_extra={"format": "date-time"})


async def _wanted(  # noqa: PLR0917 - each parameter is a documented query parameter
    request: Request[Principal, Any, Any],
    status: Annotated[Status | None, QueryParameter(description="of this status")] = None,
    payment_status: Annotated[PaymentStatus | None, QueryParameter(description="with this payment")] = None,
    order_number: Annotated[
        str | None,
        QueryParameter(description="the one with this number", schema_extra=number_schema(_MAX_BIGINT)),
    ] = None,
    user_id: Annotated[
        str | None, QueryParameter(pattern=r"^[\x21-\x7e]{1,64}$", description=f"{_STAFF}; of this user")
    ] = None,
    created_from: Annotated[str | None, _time("from this moment on")] = None,
    created_to: Annotated[str | None, _time("before this moment")] = None,
) -> Filter:
    """The filters that all lists have."""
    refuse_null(request, "status", "payment_status")
    if not request.user.is_staff and (user_id or created_from or created_to):
        raise Forbidden("Only staff may filter by user_id, created_from and created_to.")
    return Filter(
        user_id=user_id,
        status=status,
        payment_status=payment_status,
        order_number=None if order_number is None else read_number("order_number", order_number, _MAX_BIGINT),
        created_from=_moment(created_from, "/created_from"),
        created_to=_moment(created_to, "/created_to"),
    )


async def _after(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in pieces:
        yield piece


def _moment(text: str | None, pointer: str) -> datetime | None:
    """A time (RFC 3339) in UTC; one without a zone is meant so. Raises ``InvalidInput``."""
    if text is None:
        return None
    try:
        moment = msgspec.convert(text, datetime)  # strict, as Litestar is not: no seconds since 1970
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (msgspec.ValidationError, OverflowError) as error:
        problem = FieldError(pointer, "must be a time, such as 2026-03-01T09:30:00Z")
        raise InvalidInput("A parameter is not valid.", errors=[problem]) from error
