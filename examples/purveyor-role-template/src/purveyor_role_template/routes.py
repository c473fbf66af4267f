"""The HTTP route of role tally."""

from typing import Annotated, Any

from litestar import Request, Response
from litestar.params import QueryParameter

from purveyor.kit.errors import Forbidden, Unavailable
from purveyor.kit.http.routes import RouteGroup, answer, number_schema, read_number
from purveyor.kit.http.web import ApiResponse
from purveyor.roles.auth.client import Identity
from purveyor.roles.auth.contract import Principal
from purveyor_role_template.contract import OrderDays, TallyOrders
from purveyor_role_template.store import TallyStore

MAX_DAYS = 366
Days = Annotated[
    str, QueryParameter(description="Number of days", schema_extra=number_schema(MAX_DAYS, default=30))
]
_EXAMPLE = {"days": [{"date": "2026-01-31", "orders": 12}]}


def tally_routes(store: TallyStore, identity: Identity) -> list[Any]:
    """The routes. ``identity`` verifies access tokens."""
    group = RouteGroup("tally", verify=identity.verify, problems=(Forbidden, Unavailable))

    @group.get(
        "/api/tally",
        operation_id="tally_orders",
        summary="Count orders per day",
        description="For staff: the days with orders, latest first, in UTC.",
        responses=answer(OrderDays, "The days.", _EXAMPLE),
    )
    async def tally_orders(request: Request[Principal, Any, Any], days: Days = "30") -> Response[OrderDays]:
        if not request.user.is_staff:
            raise Forbidden("Only staff may count orders.")
        found = await store.days(TallyOrders(days=read_number("days", days, MAX_DAYS)))
        return ApiResponse(found, headers={"Cache-Control": "no-store"})

    return [tally_orders]
