"""The HTTP routes of role orders: placing an order and reading it. The others stand in routes_*.py."""

import re
from typing import Annotated, Any, ClassVar, cast

import msgspec
from litestar import Request, Response, get, post
from litestar.openapi.datastructures import ResponseSpec
from msgspec import Meta

from purveyor.kit.errors import (
    BadRequest,
    EventBacklog,
    FieldError,
    InvalidInput,
    NotFound,
    TooManyRequests,
    Unavailable,
)
from purveyor.kit.examples import RequestHeader, answer, body, link, notes
from purveyor.kit.parameters import PathId
from purveyor.kit.text import TEXT_SCHEMA, clean_text
from purveyor.kit.web import BEARER, ApiResponse, find_header, header, problem_responses, signed_in
from purveyor.roles.auth.contract import Identity, PostalAddress, Principal
from purveyor.roles.orders import examples
from purveyor.roles.orders.conditions import PRIVATE, etag, none_matches
from purveyor.roles.orders.contract import (
    KeyReused,
    ProductsUnavailable,
    RequestInProgress,
    UnknownProduct,
)
from purveyor.roles.orders.model import MAX_QUANTITY, Draft, DraftLine
from purveyor.roles.orders.service import Orders
from purveyor.roles.orders.views import OrderView, PaymentMethod, order_view

_KEY = re.compile(r'"([\x21\x23-\x7e]{1,255})"|([\x21\x23-\x7e][\x21-\x7e]{0,254})')
_JSON = "application/json"


class ItemBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A product and how many of it."""

    product_id: Annotated[int, Meta(ge=1, le=2**31 - 1, examples=[1])]
    quantity: Annotated[int, Meta(ge=1, le=MAX_QUANTITY, examples=[2])]


class ShippingAddress(PostalAddress, frozen=True, kw_only=True):
    """A postal address for this order alone: ``is_default`` may stand in it, and changes no address book."""

    is_default: bool = False


class OrderBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An order. The same product twice is merged; prices come from the catalogue, never from here."""

    items: Annotated[tuple[ItemBody, ...], Meta(min_length=1, max_length=100)]
    payment_method: PaymentMethod = "cash_on_delivery"
    shipping_address_id: Annotated[str, Meta(max_length=64, extra_json_schema={"format": "uuid"})] | None = None
    shipping_address: ShippingAddress | None = None
    note: Annotated[str, Meta(max_length=500, extra_json_schema=TEXT_SCHEMA)] | None = None
    """Of several lines, if need be."""
    rules: ClassVar = {
        "not": {
            "required": ["shipping_address", "shipping_address_id"],
            "properties": {"shipping_address": {"type": "object"}, "shipping_address_id": {"type": "string"}},
        }
    }
    """Not two addresses at once."""

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
            note=clean_text(self.note, "/note") if self.note else "",
        )


_TO_ORDER = (
    link("get_order", order_id="$response.body#/id"),
    link("get_timeline", order_id="$response.body#/id"),
    link("cancel_order", order_id="$response.body#/id"),
    link("change_order", order_id="$response.body#/id", headers={"If-Match": "$response.header.ETag"}),
    link("list_mails", order_id="$response.body#/id"),
)
_PLACE_HEADERS = {
    "Location": "the order",
    "ETag": "its version",
    "RateLimit-Policy": "how many orders in how many seconds (IETF draft-ietf-httpapi-ratelimit-headers-11)",
    "RateLimit": "how many are left, and until when",
}
_PLACE_ANSWERS = {
    **problem_responses(
        RequestInProgress,
        UnknownProduct,
        KeyReused,
        TooManyRequests,
        ProductsUnavailable,
        EventBacklog,
        Unavailable,
    ),
    **answer(OrderView, "The order; `Location` is its address, `ETag` its version.", examples.ORDER, status=201),
}


_READS_KEY = RequestHeader("Idempotency-Key", "1 to 255 visible characters", {"pattern": f"^({_KEY.pattern})$"})
_READS_TAG = RequestHeader("If-None-Match", "the `ETag` that one has already")


def order_routes(orders: Orders, identity: Identity) -> list[Any]:
    """The routes; ``identity`` tells whose token a request carries."""
    return [_place_route(orders, identity), _get_route(orders, identity)]


def _place_route(orders: Orders, identity: Identity) -> Any:
    @post(
        "/api/orders",
        tags=["orders"],
        operation_id="place_order",
        summary="Place an order",
        opt=notes(reads=(_READS_KEY,), headers=_PLACE_HEADERS, links=_TO_ORDER),
        description=(
            "Prices come from the catalogue. With an `Idempotency-Key` header the same request can be sent "
            "again at any time within 24 hours: it is placed once, and answered the same."
        ),
        before_request=signed_in(identity.verify),
        security=BEARER,
        responses=_PLACE_ANSWERS,
    )
    async def place(
        data: Annotated[OrderBody, body(examples.PLACE)],
        request: Request[Principal, Any, Any],
    ) -> Response[OrderView]:
        admitted = await orders.admit(request.user)
        with admitted.told():
            stored = await orders.place(
                request.user, data.draft(), address_id=data.shipping_address_id, key=_key(request)
            )
        headers = admitted.headers() | {"Location": f"/api/orders/{stored.order_id}", "ETag": etag(1)}
        if stored.replayed:
            headers["Idempotent-Replayed"] = "true"
        return Response(cast("OrderView", stored.answer), media_type=_JSON, headers=headers)

    return place


def _get_route(orders: Orders, identity: Identity) -> Any:
    @get(
        "/api/orders/{order_id:str}",
        tags=["orders"],
        operation_id="get_order",
        summary="One order",
        opt=notes(
            reads=(_READS_TAG,), headers={"ETag": "the version", "Cache-Control": "private"}, links=_TO_ORDER
        ),
        description="One's own, any for staff. With `If-None-Match` it is sent only if it has changed (304).",
        before_request=signed_in(identity.verify),
        security=BEARER,
        responses={
            **problem_responses(NotFound, Unavailable),
            **answer(OrderView, "The order; `ETag` is its version.", examples.ORDER),
            304: ResponseSpec(None, description="It has not changed: the answer has no body."),
        },
    )
    async def get_order(
        order_id: PathId,
        request: Request[Principal, Any, Any],
    ) -> Response[OrderView]:
        order = await orders.get(request.user, order_id)
        headers = {"ETag": etag(order.version), "Cache-Control": PRIVATE}
        if none_matches(header(request, b"if-none-match"), headers["ETag"]):
            return Response(cast("OrderView", b""), status_code=304, headers=headers)
        return ApiResponse(order_view(order), headers=headers)

    return get_order


def _key(request: Request[Principal, Any, Any]) -> str | None:
    """The key, quoted or bare (IETF draft "The Idempotency-Key HTTP Header Field" 07)."""
    text = find_header(request, b"idempotency-key")
    if text is None:
        return None
    match = _KEY.fullmatch(text.strip())
    if match is None:
        raise BadRequest("Idempotency-Key: 1 to 255 visible characters are needed.")
    return match[1] or match[2]
