"""The HTTP routes of an order's history: as it is, and live as server-sent events (HTML standard, section 9.2)."""

from contextlib import aclosing
from typing import Any

from litestar import Request, Response, get
from litestar.response.streaming import ASGIStreamingResponse
from litestar.types import Receive, Scope, Send

from purveyor.kit.errors import NotFound, Unavailable
from purveyor.kit.examples import RequestHeader, answer, notes
from purveyor.kit.parameters import PathId
from purveyor.kit.web import BEARER, ApiResponse, encode, header, problem_responses, signed_in
from purveyor.roles.auth.contract import Identity, Principal
from purveyor.roles.orders import examples
from purveyor.roles.orders.conditions import PRIVATE
from purveyor.roles.orders.contract import TooManyStreams
from purveyor.roles.orders.history import Entry
from purveyor.roles.orders.live import Live, Stream
from purveyor.roles.orders.service_timeline import Timelines
from purveyor.roles.orders.views_history import TimelineView, entry_view, timeline_view

_RETRY = b"retry: 2000\n\n"
_HEARTBEAT = b": nothing new\n\n"
_MAX_DIGITS = 9


def history_routes(timelines: Timelines, live: Live, identity: Identity) -> list[Any]:
    """The routes; ``identity`` tells whose token a request carries."""
    return [_timeline_route(timelines, identity), _live_route(live, identity)]


def _timeline_route(timelines: Timelines, identity: Identity) -> Any:
    @get(
        "/api/orders/{order_id:str}/timeline",
        tags=["orders"],
        operation_id="get_timeline",
        summary="What happened to an order",
        description=(
            "When, what, by whom and why, its mails included: `placed`, `confirmed`, `shipped`, `delivered`, "
            "`cancelled`, `paid`, `refunded`, `mail_sent`, `mail_failed`, `mail_unknown`, `erased`. Staff see who "
            "of the staff it was, the request, and what the mail server said."
        ),
        before_request=signed_in(identity.verify),
        security=BEARER,
        responses={
            **problem_responses(NotFound, Unavailable),
            **answer(TimelineView, "All that happened so far, in order.", examples.TIMELINE),
        },
    )
    async def timeline(order_id: PathId, request: Request[Principal, Any, Any]) -> Response[TimelineView]:
        found = await timelines.read(request.user, order_id)
        return ApiResponse(
            timeline_view(found, by_staff=request.user.is_staff), headers={"Cache-Control": PRIVATE}
        )

    return timeline


def _live_route(live: Live, identity: Identity) -> Any:
    @get(
        "/api/orders/{order_id:str}/live",
        tags=["orders"],
        operation_id="follow_order",
        summary="What happens to an order, while it happens",
        opt=notes(reads=(RequestHeader("Last-Event-ID", "the `id` of the last event that came"),)),
        description=(
            "The entries of the timeline as server-sent events: `id` is the entry's, `event` its `what`, `data` "
            "the entry as JSON. A reconnecting client sends `Last-Event-ID` and gets what came after it; without "
            "one all is told from the beginning. The stream ends with the token, and when the server restarts."
        ),
        before_request=signed_in(identity.verify),
        security=BEARER,
        media_type="text/event-stream",
        responses={
            **problem_responses(NotFound, TooManyStreams, Unavailable),
            **answer(str, "A stream of events.", examples.STREAM, media_type="text/event-stream"),
        },
    )
    async def live_timeline(
        order_id: PathId,
        request: Request[Principal, Any, Any],
    ) -> ASGIStreamingResponse:
        stream = await live.open(request.user, order_id, _number(header(request, b"last-event-id")))
        return _LiveResponse(stream, by_staff=request.user.is_staff)

    return live_timeline


class _LiveResponse(ASGIStreamingResponse):
    """Sends a stream's entries, and closes it whatever becomes of the client."""

    def __init__(self, stream: Stream, *, by_staff: bool) -> None:
        self._followed = stream
        super().__init__(
            iterator=self._frames(by_staff=by_staff),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._followed.close()

    async def _frames(self, *, by_staff: bool) -> Any:
        yield _RETRY
        async with aclosing(self._followed.entries()) as entries:
            async for entry in entries:
                yield _HEARTBEAT if entry is None else _frame(entry, by_staff=by_staff)


def _frame(entry: Entry, *, by_staff: bool) -> bytes:
    data = encode(entry_view(entry, by_staff=by_staff))
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (entry.id, entry.what.encode(), data)


def _number(text: str) -> int:
    """The entry that the client saw last; what was never an id of ours means that it saw none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else 0
