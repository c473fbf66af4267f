"""The HTTP routes of orders: place, read, list, export, change, cancel."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from typing import Annotated, Any, ClassVar, cast
from urllib.parse import urlencode

import msgspec
from litestar import Request, Response
from litestar.di import NamedDependency, Provide
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import QueryParameter
from litestar.response import Stream
from msgspec import Meta

from purveyor.kit import security_log
from purveyor.kit.clock import now
from purveyor.kit.errors import (
    BadRequest,
    Conflict,
    EventBacklog,
    Faults,
    FieldError,
    Forbidden,
    InvalidInput,
    NotFound,
    TooManyRequests,
    Unavailable,
)
from purveyor.kit.http.routes import (
    DEFAULT_LIMIT,
    Cursor,
    Limit,
    PathId,
    RequestHeader,
    RouteGroup,
    answer,
    body,
    link,
    number_schema,
    read_cursor,
    read_limit,
    read_number,
)
from purveyor.kit.http.web import ApiResponse, find_header, find_list_header
from purveyor.kit.money import AMOUNT_SCHEMA, is_amount
from purveyor.kit.text import OPTIONAL_LINE_SCHEMA, TEXT_SCHEMA, clean_line, clean_text, invalid
from purveyor.roles.auth.client import Identity
from purveyor.roles.auth.contract import AddressBody, Principal
from purveyor.roles.orders import schemas
from purveyor.roles.orders.contract import (
    IllegalTransition,
    KeyReused,
    PreconditionFailed,
    PreconditionRequired,
    PriceChanged,
    ProductsUnavailable,
    ProductUnavailable,
    RequestInProgress,
    UnknownProduct,
)
from purveyor.roles.orders.etag import PRIVATE, etag, none_matches
from purveyor.roles.orders.export import MEDIA_TYPES, Format, Rows, export
from purveyor.roles.orders.model import Draft, DraftLine, OrderFilter, Sort
from purveyor.roles.orders.routes_desk import CHANGED_ETAG, READS_MATCH, HoldMail, StatusBody, changed, match_of
from purveyor.roles.orders.schemas import OrderPage, OrderView, PaymentMethod, PaymentStatus, Status, order_view
from purveyor.roles.orders.search import MAX_QUERY, query_words
from purveyor.roles.orders.service import Changes, OrderChange, Orders
from purveyor.roles.orders.store import OrderStore

_KEY = re.compile(r'"([\x21\x23-\x7e]{1,255})"|([\x21\x23-\x7e][\x21-\x7e]{0,254})')
_JSON = "application/json"


class OrderBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A new order. Lines of the same product are merged; prices come from the catalog."""

    items: Annotated[tuple[DraftLine, ...], Meta(min_length=1, max_length=100)]
    payment_method: PaymentMethod = "cash_on_delivery"
    shipping_address_id: Annotated[str, Meta(max_length=64, extra_json_schema={"format": "uuid"})] | None = None
    shipping_address: AddressBody | None = None
    note: Annotated[str, Meta(max_length=500, extra_json_schema=TEXT_SCHEMA)] | None = None
    """May have several lines."""
    expected_total: Annotated[Decimal, Meta(extra_json_schema=AMOUNT_SCHEMA)] | None = None
    """Expected total: a number or a decimal string. A different total is refused with 409."""
    checks: ClassVar = {"note": clean_text}
    rules: ClassVar = {
        "not": {
            "required": ["shipping_address", "shipping_address_id"],
            "properties": {"shipping_address": {"type": "object"}, "shipping_address_id": {"type": "string"}},
        }
    }
    """One of the two addresses, not both."""

    def draft(self) -> Draft:
        """Convert to a draft. Raises ``InvalidInput``."""
        faults, note, address = Faults(), "", None
        with faults:
            if self.shipping_address is not None and self.shipping_address_id is not None:
                raise invalid("/shipping_address_id", "must not be combined with shipping_address")
        with faults:
            address = self.shipping_address.checked("/shipping_address") if self.shipping_address else None
        with faults:
            note = clean_text(self.note, "/note") if self.note else ""
        with faults:
            if self.expected_total is not None and not is_amount(self.expected_total):
                raise invalid("/expected_total", "must be an amount of money of at least 0, such as 59.98")
        faults.raise_if_any()
        return Draft(lines=self.items, payment_method=self.payment_method, shipping_address=address, note=note)


_TO_ORDER = (
    link("get_order", order_id="$response.body#/id"),
    link("get_timeline", order_id="$response.body#/id"),
    link("cancel_order", order_id="$response.body#/id"),
    link("change_order", order_id="$response.body#/id", headers={"If-Match": "$response.header.ETag"}),
    link("list_mails", order_id="$response.body#/id"),
)
_PLACE_HEADERS = {
    "Location": "Path of the order",
    "ETag": "Version of the order",
    "RateLimit-Policy": "Allowed orders and time window in seconds (draft-ietf-httpapi-ratelimit-headers-11)",
    "RateLimit": "Remaining orders and seconds until the window resets",
}


_READS_KEY = RequestHeader("Idempotency-Key", "1 to 255 visible characters", {"pattern": f"^({_KEY.pattern})$"})
_READS_TAG = RequestHeader("If-None-Match", "`ETag` of the version that the client has")


def order_routes(orders: Orders, identity: Identity) -> list[Any]:
    """The routes to place and read an order. ``identity`` verifies access tokens."""
    group = _group(identity)
    return [_place_route(orders, group), _get_route(orders, group)]


def _group(identity: Identity) -> RouteGroup:
    return RouteGroup("orders", verify=identity.verify, problems=(Unavailable,))


def _place_route(orders: Orders, group: RouteGroup) -> Any:
    @group.post(
        "/api/orders",
        operation_id="place_order",
        summary="Place an order",
        description=(
            "Prices come from the catalog. With `expected_total` the order is only placed if it costs just that. "
            "With an `Idempotency-Key` header the request can be repeated safely for 24 hours: the order is "
            "placed once, and every repetition returns the first response."
        ),
        reads=(_READS_KEY,),
        headers=_PLACE_HEADERS,
        links=_TO_ORDER,
        responses=answer(
            OrderView, "The new order. `Location` is its path, `ETag` its version.", schemas.ORDER, status=201
        ),
        problems=(
            RequestInProgress,
            PriceChanged,
            UnknownProduct,
            ProductUnavailable,
            KeyReused,
            TooManyRequests,
            ProductsUnavailable,
            EventBacklog,
        ),
    )
    async def place(
        data: Annotated[OrderBody, body(schemas.PLACE)],
        request: Request[Principal, Any, Any],
    ) -> Response[OrderView]:
        admitted = await orders.admit(request.user)
        with admitted.with_headers():
            stored = await orders.place(
                request.user,
                data.draft(),
                address_id=data.shipping_address_id,
                key=_key(request),
                expected_total=data.expected_total,
            )
        headers = admitted.headers() | {"Location": f"/api/orders/{stored.order_id}", "ETag": etag(1)}
        if stored.replayed:
            headers["Idempotent-Replayed"] = "true"
        return Response(cast("OrderView", stored.answer), media_type=_JSON, headers=headers)

    return place


def _get_route(orders: Orders, group: RouteGroup) -> Any:
    @group.get(
        "/api/orders/{order_id:str}",
        operation_id="get_order",
        summary="Get an order",
        description=(
            "Customers see their own orders; staff see all. With `If-None-Match` an unchanged order returns 304."
        ),
        reads=(_READS_TAG,),
        headers={"ETag": "Version of the order", "Cache-Control": "private"},
        links=_TO_ORDER,
        responses=answer(OrderView, "The order. `ETag` is its version.", schemas.ORDER)
        | {304: ResponseSpec(None, description="The order has not changed. The response has no body.")},
        problems=(NotFound,),
    )
    async def get_order(
        order_id: PathId,
        request: Request[Principal, Any, Any],
    ) -> Response[OrderView]:
        stored = await orders.get(request.user, order_id)
        order = stored.order
        headers = {"ETag": etag(order.version), "Cache-Control": PRIVATE}
        if none_matches(find_list_header(request, b"if-none-match"), order.version):
            return Response(cast("OrderView", b""), status_code=304, headers=headers)
        return ApiResponse(order_view(order, stored if request.user.is_staff else None), headers=headers)

    return get_order


def _key(request: Request[Principal, Any, Any]) -> str | None:
    """The idempotency key, quoted or bare (IETF draft "The Idempotency-Key HTTP Header Field" 07)."""
    text = find_header(request, b"idempotency-key")
    if text is None:
        return None
    match = _KEY.fullmatch(text.strip())
    if match is None:
        raise BadRequest("The Idempotency-Key header must have 1 to 255 visible characters.")
    return match[1] or match[2]


class ChangeBody(StatusBody, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The new status, the new payment status, or both."""

    hold_mail_s: HoldMail = 0

    def change(self) -> OrderChange:
        """Convert to a change. Raises ``InvalidInput`` for an empty one."""
        self.require_one()
        return OrderChange(status=self.status, payment_status=self.payment_status, hold_mail_s=self.hold_mail_s)


class CancelBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The reason, shown to the customer and the shop."""

    reason: Annotated[str, Meta(max_length=500, extra_json_schema=OPTIONAL_LINE_SCHEMA)] | None = None
    hold_mail_s: HoldMail = 0


_NO_REASON = CancelBody()


def change_routes(changes: Changes, identity: Identity) -> list[Any]:
    """The routes to change and cancel an order. ``identity`` verifies access tokens."""
    group = _group(identity)
    return [_change_route(changes, group), _cancel_route(changes, group)]


def _change_route(changes: Changes, group: RouteGroup) -> Any:
    @group.patch(
        "/api/orders/{order_id:str}",
        operation_id="change_order",
        summary="Change the status of an order or its payment",
        description=(
            "For staff. An order goes from `pending` to `confirmed`, `shipped` and `delivered`, or from "
            "`pending` or `confirmed` to `cancelled`. A payment goes from `unpaid` to `paid` and `refunded`. "
            "`If-Match` must hold the ETag of the order, so that of two concurrent changes only one succeeds. A "
            'weak tag, such as `W/"1"` from a proxy that compresses, names the same version. '
            "With `hold_mail_s` the email is held back, and the change can be undone until then."
        ),
        reads=(READS_MATCH,),
        headers=CHANGED_ETAG,
        responses=answer(OrderView, "The updated order. `ETag` is its new version.", schemas.CONFIRMED),
        problems=(Forbidden, NotFound, IllegalTransition, Conflict, PreconditionFailed, PreconditionRequired),
    )
    async def change_order(
        order_id: PathId,
        request: Request[Principal, Any, Any],
        data: Annotated[ChangeBody, body({"status": "confirmed", "payment_status": "paid"})],
    ) -> Response[OrderView]:
        updated = await changes.change(request.user, order_id, data.change(), match_of(request))
        return changed(updated, request.user)

    return change_order


def _cancel_route(changes: Changes, group: RouteGroup) -> Any:
    @group.post(
        "/api/orders/{order_id:str}/cancel",
        operation_id="cancel_order",
        summary="Cancel an order",
        description=(
            "Customers can cancel their own orders while they are `pending` or `confirmed`; staff can cancel any "
            "of these. Cancelling twice returns 409. With `If-Match` the order is only cancelled in that version."
        ),
        reads=(READS_MATCH,),
        headers=CHANGED_ETAG,
        responses=answer(OrderView, "The cancelled order. `ETag` is its version.", schemas.CANCELLED),
        problems=(Forbidden, NotFound, IllegalTransition, Conflict, PreconditionFailed),
    )
    async def cancel_order(
        order_id: PathId,
        request: Request[Principal, Any, Any],
        data: Annotated[CancelBody, body({"reason": "bought twice"})] = _NO_REASON,
    ) -> Response[OrderView]:
        reason = clean_line(data.reason, "/reason") if data.reason else ""
        cancelled = await changes.cancel(request.user, order_id, reason, match_of(request), data.hold_mail_s)
        return changed(cancelled, request.user)

    return cancel_order


_MAX_BIGINT = 2**63 - 1
_STAFF = "Staff only"


def list_routes(orders: Orders, store: OrderStore, identity: Identity, zone: tzinfo) -> list[Any]:
    """The routes to list and export orders. ``identity`` verifies access tokens, ``zone`` is that of the shop."""
    group = _group(identity)
    return [_list_route(orders, group), _export_route(store, group, zone)]


def _list_route(orders: Orders, group: RouteGroup) -> Any:
    @group.get(
        "/api/orders",
        operation_id="list_orders",
        summary="List orders",
        description=(
            "Newest first unless `sort` says otherwise. Customers see their own orders; staff see all, and search "
            "them with `q`. Use `next_cursor` or `Link` to get the next page. New orders do not shift the pages."
        ),
        headers={"Link": "Next page, if there is one (RFC 8288)"},
        links=(
            link("list_orders", cursor="$response.body#/next_cursor"),
            link("get_order", order_id="$response.body#/orders/0/id"),
        ),
        responses=answer(OrderPage, "A page of orders.", schemas.ORDERS),
        problems=(Forbidden,),
        dependencies={"wanted": Provide(_wanted)},
    )
    async def list_orders(
        request: Request[Principal, Any, Any],
        wanted: NamedDependency[OrderFilter],
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = None,
        sort: Annotated[
            Sort, QueryParameter(description="Order of the list; `-` means descending")
        ] = "-created_at",
    ) -> Response[OrderPage]:
        wanted = msgspec.structs.replace(wanted, after=read_cursor(cursor), sort=sort)
        page, following = await orders.list(request.user, wanted, read_limit(limit))
        headers = {"Cache-Control": PRIVATE}
        if following is not None:
            query = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
            link = urlencode([*query, ("cursor", str(following))])
            headers["Link"] = f'</api/orders/?{link}>; rel="next"'
        cursor_out = str(following) if following else None
        views = [order_view(each.order, each if request.user.is_staff else None) for each in page]
        return ApiResponse(OrderPage(views, cursor_out, following is not None), headers=headers)

    return list_orders


def _export_route(store: OrderStore, group: RouteGroup, zone: tzinfo) -> Any:
    @group.get(
        "/api/orders/export.csv",
        operation_id="export_orders",
        summary="Export orders for a spreadsheet",
        description=(
            "For staff. All orders that match the filters, newest first, with a row per order or, with "
            "`rows=items`, per item. CSV (RFC 4180, UTF-8 with a byte order mark) is streamed. An apostrophe "
            "stands wherever a spreadsheet would begin a formula. With `format=xlsx` the answer is an Excel "
            "workbook, in which amounts are numbers, times are in the shop's time zone, and ids, postal codes "
            "and phone numbers are texts. Times in CSV are in UTC."
        ),
        headers={"Content-Disposition": "File name"},
        responses=answer(str, "The file.", schemas.CSV, media_type="text/csv"),
        files=(MEDIA_TYPES["xlsx"],),
        problems=(Forbidden,),
        dependencies={"wanted": Provide(_wanted)},
    )
    async def export_orders(
        request: Request[Principal, Any, Any],
        wanted: NamedDependency[OrderFilter],
        format: Annotated[Format, QueryParameter(description="Kind of file")] = "csv",  # noqa: A002
        rows: Annotated[Rows, QueryParameter(description="What a row is about")] = "orders",
    ) -> Stream:
        if not request.user.is_staff:
            raise Forbidden("Only staff may export orders.")
        security_log.record("export", subject="orders", actor=request.user.user_id)
        pieces = export(store, wanted, rows, format, zone)
        first = await anext(pieces)  # a database error becomes an error response, not a truncated file
        name = "order-items" if rows == "items" else "orders"
        return Stream(
            _after(first, pieces),
            headers={
                "Content-Type": MEDIA_TYPES[format],  # a handler's own media type would win over the response's
                "Content-Disposition": f'attachment; filename="{name}-{now():%Y-%m-%d}.{format}"',
                "X-Accel-Buffering": "no",
            },
        )

    return export_orders


def _time(description: str) -> QueryParameter:
    return QueryParameter(description=f"{_STAFF}: {description}", schema_extra={"format": "date-time"})


async def _wanted(  # noqa: PLR0917 - each parameter is a documented query parameter
    request: Request[Principal, Any, Any],
    status: Annotated[Status | None, QueryParameter(description="Only orders with this status")] = None,
    payment_status: Annotated[
        PaymentStatus | None, QueryParameter(description="Only orders with this payment status")
    ] = None,
    order_number: Annotated[
        str | None,
        QueryParameter(description="Only the order with this number", schema_extra=number_schema(_MAX_BIGINT)),
    ] = None,
    user_id: Annotated[
        str | None,
        QueryParameter(pattern=r"^[\x21-\x7e]{1,64}$", description=f"{_STAFF}: only orders of this user"),
    ] = None,
    created_from: Annotated[str | None, _time("only orders placed at or after this time")] = None,
    created_to: Annotated[str | None, _time("only orders placed before this time")] = None,
    q: Annotated[
        str | None,
        QueryParameter(
            description=f"{_STAFF}: words of the order number, buyer, phone number and product titles",
            schema_extra={"maxLength": MAX_QUERY},
        ),
    ] = None,
    mail_trouble: Annotated[
        bool | None, QueryParameter(description=f"{_STAFF}: only orders with a failed email, or without")
    ] = None,
) -> OrderFilter:
    """The filters of lists and exports."""
    for_staff = {
        "user_id": user_id,
        "created_from": created_from,
        "created_to": created_to,
        "q": q,
        "mail_trouble": mail_trouble,
    }
    if not request.user.is_staff and any(value is not None for value in for_staff.values()):
        raise Forbidden(f"Only staff may filter by {', '.join(for_staff)}.")
    if q is not None and len(q) > MAX_QUERY:
        raise InvalidInput(
            "A parameter is not valid.", errors=[FieldError("/q", f"must have at most {MAX_QUERY} characters")]
        )
    return OrderFilter(
        user_id=user_id,
        status=status,
        payment_status=payment_status,
        order_number=None if order_number is None else read_number("order_number", order_number, _MAX_BIGINT),
        created_from=_moment(created_from, "/created_from"),
        created_to=_moment(created_to, "/created_to"),
        words=query_words(q) if q else (),
        mail_trouble=mail_trouble,
    )


async def _after(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in pieces:
        yield piece


def _moment(text: str | None, pointer: str) -> datetime | None:
    """Parse a time (RFC 3339), in UTC unless it has a zone. Raises ``InvalidInput``."""
    if text is None:
        return None
    try:
        moment = msgspec.convert(text, datetime)  # stricter than Litestar, which accepts seconds since 1970
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (msgspec.ValidationError, OverflowError) as error:
        problem = FieldError(pointer, "must be a time, such as 2026-03-01T09:30:00Z")
        raise InvalidInput("A parameter is not valid.", errors=[problem]) from error
