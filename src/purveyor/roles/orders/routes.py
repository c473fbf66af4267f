"""The HTTP routes of role orders."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, cast
from urllib.parse import urlencode

import msgspec
from litestar import Request, Response, get, post
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import Meta

from purveyor.kit.errors import (
    BadRequest,
    FieldError,
    Forbidden,
    InvalidInput,
    NotFound,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)
from purveyor.kit.ids import parse_id
from purveyor.kit.text import clean_line
from purveyor.kit.web import BEARER, ApiResponse, header, problem_responses, signed_in
from purveyor.roles.auth.contract import Identity, PostalAddress, Principal
from purveyor.roles.orders.contract import (
    KeyReused,
    ProductsUnavailable,
    RequestInProgress,
    UnknownProduct,
)
from purveyor.roles.orders.model import MAX_QUANTITY, Draft, DraftLine
from purveyor.roles.orders.ports import Filter
from purveyor.roles.orders.service import Orders
from purveyor.roles.orders.views import (
    CatalogueItem,
    CataloguePage,
    OrderPage,
    OrderView,
    PaymentMethod,
    Status,
    catalogue_item,
    order_view,
)

_KEY = re.compile(r'"([\x21\x23-\x7e]{1,255})"|([\x21\x23-\x7e][\x21-\x7e]{0,254})')
_JSON = "application/json"
_PRIVATE = "private, no-cache"
_MAX_BIGINT = 2**63 - 1


class ItemBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A product and how many of it."""

    product_id: Annotated[int, Meta(ge=1, le=2**31 - 1, examples=[1])]
    quantity: Annotated[int, Meta(ge=1, le=MAX_QUANTITY, examples=[2])]


class OrderBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An order. The same product twice is merged; prices come from the catalogue, never from here."""

    items: Annotated[tuple[ItemBody, ...], Meta(min_length=1, max_length=100)]
    payment_method: PaymentMethod = "cash_on_delivery"
    shipping_address_id: Annotated[str, Meta(max_length=64)] | None = None
    shipping_address: PostalAddress | None = None
    note: Annotated[str, Meta(max_length=500)] | None = None

    def draft(self) -> Draft:
        """The order as the service takes it. Raises ``InvalidInput``."""
        if self.shipping_address is not None and self.shipping_address_id is not None:
            raise InvalidInput(
                "Send shipping_address or shipping_address_id, not both.",
                errors=[FieldError("/shipping_address_id", "not together with shipping_address")],
            )
        address = self.shipping_address.checked("/shipping_address") if self.shipping_address else None
        return Draft(
            lines=tuple(DraftLine(item.product_id, item.quantity) for item in self.items),
            payment_method=self.payment_method,
            shipping_address=address,
            note=clean_line(self.note, "/note") if self.note else "",
        )


def order_routes(orders: Orders, identity: Identity, currency: str) -> list[Any]:
    """The routes; ``identity`` tells whose token a request carries."""
    return [
        _place_route(orders, identity),
        *_reading_routes(orders, identity),
        *_catalogue_routes(orders, currency),
    ]


def _place_route(orders: Orders, identity: Identity) -> Any:
    @post(
        "/api/orders",
        tags=["orders"],
        summary="Place an order",
        description=(
            "Prices come from the catalogue. With an `Idempotency-Key` header the same request can be sent "
            "again at any time within 24 hours: it is placed once, and answered the same."
        ),
        guards=[signed_in(identity.verify)],
        security=BEARER,
        responses=problem_responses(
            BadRequest,
            Unauthorized,
            RequestInProgress,
            InvalidInput,
            UnknownProduct,
            KeyReused,
            TooManyRequests,
            ProductsUnavailable,
            Unavailable,
        ),
    )
    async def place(data: JSONBody[OrderBody], request: Request[Principal, Any, Any]) -> Response[OrderView]:
        admitted = await orders.admit(request.user)
        headers = admitted.headers()
        stored = await orders.place(
            request.user, data.draft(), address_id=data.shipping_address_id, key=_idempotency_key(request)
        )
        headers["Location"] = f"/api/orders/{stored.order_id}"
        headers["ETag"] = '"1"'
        if stored.replayed:
            headers["Idempotent-Replayed"] = "true"
        return Response(cast("OrderView", stored.answer), media_type=_JSON, headers=headers)

    return place


def _reading_routes(orders: Orders, identity: Identity) -> list[Any]:
    protected: dict[str, Any] = {
        "guards": [signed_in(identity.verify)],
        "security": BEARER,
        "tags": ["orders"],
    }

    @get(
        "/api/orders/{order_id:str}",
        summary="One order",
        responses=problem_responses(Unauthorized, NotFound, Unavailable),
        **protected,
    )
    async def get_order(order_id: FromPath[str], request: Request[Principal, Any, Any]) -> Response[OrderView]:
        order = await orders.get(request.user, order_id)
        headers = {"ETag": f'"{order.version}"', "Cache-Control": _PRIVATE}
        if _matches(header(request, b"if-none-match"), headers["ETag"]):
            return Response(cast("OrderView", b""), status_code=304, headers=headers)
        return ApiResponse(order_view(order), headers=headers)

    @get(
        "/api/orders",
        summary="Orders, newest first",
        description="One's own; staff see everybody's. `next_cursor` (and `Link`) lead to the next page.",
        responses=problem_responses(Unauthorized, Forbidden, InvalidInput, Unavailable),
        **protected,
    )
    async def list_orders(  # noqa: PLR0917 - each parameter is a documented query parameter
        request: Request[Principal, Any, Any],
        limit: Annotated[int, QueryParameter(ge=1, le=100)] = 20,
        cursor: Annotated[str | None, QueryParameter(max_length=64)] = None,
        status: FromQuery[Status | None] = None,
        order_number: Annotated[int | None, QueryParameter(ge=1, le=_MAX_BIGINT)] = None,
        user_id: Annotated[
            str | None, QueryParameter(pattern=r"^[\x21-\x7e]{1,64}$", description="staff only")
        ] = None,
        created_from: Annotated[datetime | None, QueryParameter(description="staff only")] = None,
        created_to: Annotated[datetime | None, QueryParameter(description="staff only")] = None,
    ) -> Response[OrderPage]:
        if not request.user.is_staff and (user_id or created_from or created_to):
            raise Forbidden("Only staff may filter by user_id, created_from and created_to.")
        wanted = Filter(
            user_id=user_id,
            status=status,
            order_number=order_number,
            created_from=_moment(created_from, "/created_from"),
            created_to=_moment(created_to, "/created_to"),
            after=_cursor(cursor),
        )
        page, following = await orders.list(request.user, wanted, limit)
        views = [order_view(order) for order in page]
        headers = {"Cache-Control": _PRIVATE}
        if following is not None:
            query = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
            link = urlencode([*query, ("cursor", str(following))])
            headers["Link"] = f'</api/orders/?{link}>; rel="next"'
        cursor_out = str(following) if following else None
        return ApiResponse(OrderPage(views, cursor_out, following is not None), headers=headers)

    return [get_order, list_orders]


def _catalogue_routes(orders: Orders, currency: str) -> list[Any]:
    @get(
        "/api/products",
        tags=["products"],
        summary="What can be ordered",
        responses=problem_responses(InvalidInput, ProductsUnavailable),
    )
    async def products(
        page: Annotated[int, QueryParameter(ge=1, le=100_000)] = 1,
        limit: Annotated[int, QueryParameter(ge=1, le=100)] = 20,
        category: Annotated[str | None, QueryParameter(max_length=100)] = None,
    ) -> CataloguePage:
        found = await orders.products(page, limit, category)
        return CataloguePage([catalogue_item(product, currency) for product in found], page, limit)

    @get(
        "/api/products/{product_id:str}",
        tags=["products"],
        summary="One product",
        responses=problem_responses(NotFound, ProductsUnavailable),
    )
    async def product(product_id: FromPath[str]) -> CatalogueItem:
        if not re.fullmatch(r"[1-9][0-9]{0,9}", product_id):
            raise NotFound("There is no such product.")
        return catalogue_item(await orders.product(int(product_id)), currency)

    return [products, product]


def _idempotency_key(request: Request[Principal, Any, Any]) -> str | None:
    """The key, quoted or bare (IETF draft "The Idempotency-Key HTTP Header Field" 07)."""
    text = header(request, b"idempotency-key")
    if not text and not any(name == b"idempotency-key" for name, _ in request.scope["headers"]):
        return None
    match = _KEY.fullmatch(text.strip())
    if match is None:
        raise BadRequest("Idempotency-Key: 1 to 255 visible characters are needed.")
    return match[1] or match[2]


def _matches(condition: str, etag: str) -> bool:
    """``If-None-Match`` by weak comparison (RFC 9110 section 13.1.2)."""
    return any(part.strip().removeprefix("W/") in (etag, "*") for part in condition.split(","))


def _cursor(text: str | None) -> Any:
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
