"""The HTTP routes that change an order: staff's word on it, and its cancellation."""

from typing import Annotated, Any, ClassVar

import msgspec
from litestar import Request, Response, patch, post
from msgspec import Meta

from purveyor.kit.errors import (
    Conflict,
    FieldError,
    Forbidden,
    InvalidInput,
    NotFound,
    Unavailable,
)
from purveyor.kit.examples import RequestHeader, answer, body, notes
from purveyor.kit.parameters import PathId
from purveyor.kit.text import OPTIONAL_LINE_SCHEMA, clean_line
from purveyor.kit.web import BEARER, ApiResponse, find_header, problem_responses, signed_in
from purveyor.roles.auth.contract import Identity, Principal
from purveyor.roles.orders import examples
from purveyor.roles.orders.conditions import IF_MATCH, IfMatch, etag
from purveyor.roles.orders.contract import IllegalTransition, PreconditionFailed, PreconditionRequired
from purveyor.roles.orders.model import Order
from purveyor.roles.orders.service_changes import Changes, Wish
from purveyor.roles.orders.views import OrderView, PaymentStatus, Status, order_view


class ChangeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the order is to become: its status, its payment, or both at once."""

    status: Status | None = None
    payment_status: PaymentStatus | None = None
    rules: ClassVar = {
        "anyOf": [
            {"required": [member], "properties": {member: {"type": "string"}}}
            for member in ("status", "payment_status")
        ]
    }
    """One of the two at least."""

    def wish(self) -> Wish:
        """The change as the service takes it. Raises ``InvalidInput`` when there is none."""
        if self.status is None and self.payment_status is None:
            problem = FieldError("", "needs status or payment_status")
            raise InvalidInput("Send status, payment_status or both.", errors=[problem])
        return Wish(status=self.status, payment_status=self.payment_status)


class CancelBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why; the buyer and the shop can read it."""

    reason: Annotated[str, Meta(max_length=500, extra_json_schema=OPTIONAL_LINE_SCHEMA)] | None = None


_ETAG = {"ETag": "the new version"}
_NO_REASON = CancelBody()
_READS_MATCH = RequestHeader(
    "If-Match", 'the ETag of the order that was read, such as `"1"`', {"pattern": IF_MATCH, "examples": ['"1"']}
)


def change_routes(changes: Changes, identity: Identity) -> list[Any]:
    """The routes; ``identity`` tells whose token a request carries."""
    return [_change_route(changes, identity), _cancel_route(changes, identity)]


def _change_route(changes: Changes, identity: Identity) -> Any:
    @patch(
        "/api/orders/{order_id:str}",
        tags=["orders"],
        operation_id="change_order",
        summary="Change an order's status or payment",
        opt=notes(reads=(_READS_MATCH,), headers=_ETAG),
        description=(
            "For staff. `pending` goes to `confirmed` to `shipped` to `delivered`, and `pending` or `confirmed` "
            "to `cancelled`; a payment goes from `unpaid` to `paid` to `refunded`. `If-Match` holds the ETag of "
            "the order that the decision was made on: of two changes at once, one is made."
        ),
        before_request=signed_in(identity.verify),
        security=BEARER,
        responses={
            **problem_responses(
                Forbidden,
                NotFound,
                IllegalTransition,
                Conflict,
                PreconditionFailed,
                PreconditionRequired,
                Unavailable,
            ),
            **answer(OrderView, "The order as it is now; `ETag` is its new version.", examples.CONFIRMED),
        },
    )
    async def change_order(
        order_id: PathId,
        request: Request[Principal, Any, Any],
        data: Annotated[ChangeBody, body({"status": "confirmed", "payment_status": "paid"})],
    ) -> Response[OrderView]:
        return _told(await changes.change(request.user, order_id, data.wish(), _condition(request)))

    return change_order


def _cancel_route(changes: Changes, identity: Identity) -> Any:
    @post(
        "/api/orders/{order_id:str}/cancel",
        status_code=200,
        tags=["orders"],
        operation_id="cancel_order",
        summary="Cancel an order",
        opt=notes(reads=(_READS_MATCH,), headers=_ETAG),
        description=(
            "One's own while it is `pending` or `confirmed`; staff cancel anybody's. Cancelling it again is "
            "refused (409). `If-Match` may say on which version the decision was made."
        ),
        before_request=signed_in(identity.verify),
        security=BEARER,
        responses={
            **problem_responses(NotFound, IllegalTransition, Conflict, PreconditionFailed, Unavailable),
            **answer(OrderView, "The cancelled order; `ETag` is its version.", examples.CANCELLED),
        },
    )
    async def cancel_order(
        order_id: PathId,
        request: Request[Principal, Any, Any],
        data: Annotated[CancelBody, body({"reason": "bought twice"})] = _NO_REASON,
    ) -> Response[OrderView]:
        reason = clean_line(data.reason, "/reason") if data.reason else ""
        return _told(await changes.cancel(request.user, order_id, reason, _condition(request)))

    return cancel_order


def _condition(request: Request[Principal, Any, Any]) -> IfMatch | None:
    return IfMatch.read(find_header(request, b"if-match"))


def _told(order: Order) -> Response[OrderView]:
    return ApiResponse(order_view(order), headers={"ETag": etag(order.version), "Cache-Control": "no-store"})
