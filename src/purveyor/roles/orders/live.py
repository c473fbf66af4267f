"""Live timelines: one poller per process for all watched orders, woken by commits of this process.

A stream holds no database connection and no copies of entries: a slow reader costs only its socket.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import aclosing, suppress
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, Response
from litestar.params import QueryParameter
from litestar.response.streaming import ASGIStreamingResponse
from litestar.types import Receive, Scope, Send

from purveyor.kit.deadline import no_deadline
from purveyor.kit.errors import NotFound, TokenInvalid, Unavailable
from purveyor.kit.events.message import encode
from purveyor.kit.http.routes import PathId, RequestHeader, RouteGroup, answer, link
from purveyor.kit.http.web import ApiResponse, bearer_token, find_header, header
from purveyor.kit.limits.networks import client_network, wider_network
from purveyor.kit.poll import Poll, wait_until_set
from purveyor.roles.auth.client import Identity
from purveyor.roles.auth.contract import Principal
from purveyor.roles.orders import schemas
from purveyor.roles.orders.contract import TooManyStreams
from purveyor.roles.orders.etag import PRIVATE
from purveyor.roles.orders.model import Entry, Timeline
from purveyor.roles.orders.schemas import TimelineView, entry_view, timeline_view
from purveyor.roles.orders.service import Timelines, read_timeline
from purveyor.roles.orders.store import HistoryStore
from purveyor.roles.orders.store_tickets import LIFETIME_S, LiveTickets

HEARTBEAT_S = 15.0
CHECK_S = 2.0
"""Seconds between checks of a stream's token, so that a revocation takes effect within 5 s."""
POLL_S = 0.5
PER_USER = 10
PER_PROCESS = 1000
PER_NETWORK = 250
"""Streams of one client network; an IPv6 /48 may have twice as many. Some must be left for everyone else."""
_GAP_S = 0.05
"""Minimum time between polls, so that simultaneous commits share one."""


class _Watched:
    """A watched order: its entries so far and its streams."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.streams: set[Stream] = set()

    @property
    def last(self) -> int:
        """The id of the newest entry."""
        return self.entries[-1].id if self.entries else 0

    def add(self, entries: Sequence[Entry]) -> None:
        """Add new entries. Ids follow the order of commits, so none can appear in between later."""
        last = self.last
        if fresh := [entry for entry in entries if entry.id > last]:
            self.entries += fresh
            for stream in self.streams:
                stream.stir()


class Live:
    """The open streams of this process."""

    def __init__(
        self,
        histories: HistoryStore,
        identity: Identity,
        *,
        stopping: Callable[[], bool],
        heartbeat_s: float = HEARTBEAT_S,
        per_user: int = PER_USER,
        per_process: int = PER_PROCESS,
        per_network: int = PER_NETWORK,
    ) -> None:
        self._histories = histories
        self.identity = identity
        self.heartbeat_s = heartbeat_s
        self._stopping = stopping
        self._per_user = per_user
        self._per_process = per_process
        self._per_network = per_network
        self._open: Counter[str] = Counter()
        """Streams by user."""
        self._from: Counter[str] = Counter()
        """Streams by client network."""
        self._watched: dict[UUID, _Watched] = {}
        self._news = Poll(lambda: POLL_S if self._watched else None)

    async def open(self, caller: Principal, order_id: str, last_seen: int, network: str = "") -> "Stream":
        """Watch an order from after the entry ``last_seen``. The stream must be closed.

        Raises ``NotFound``, ``TooManyStreams`` for this user or client network, and ``Unavailable`` when the
        process has too many streams or is stopping.
        """
        networks = _bounds(network, self._per_network)
        if self._stopping() or self._open.total() >= self._per_process:
            raise Unavailable("Too many live timelines are open on this server. Try again later.", retry_after_s=2)
        if self._open[caller.user_id] >= self._per_user:
            raise TooManyStreams(f"You can have at most {self._per_user} live timelines open. Close one first.")
        if any(self._from[each] >= most for each, most in networks.items()):
            raise TooManyStreams("Too many live timelines are open from your network. Close one first.")
        self._open[caller.user_id] += 1
        self._from.update(networks.keys())
        try:
            timeline = await read_timeline(self._histories, caller, order_id)
        except BaseException:
            self._leave(caller.user_id, networks)
            raise
        return self._join(caller, timeline, last_seen, networks)

    def wake(self, order_id: UUID) -> None:
        """Signal a new entry of an order. Only for speed: the poll finds it anyway."""
        if order_id in self._watched:
            self._news.wake()

    async def run(self) -> None:
        """Poll for new entries while streams are open; end them when the process drains."""
        try:
            await self._news.run(self._look)
        finally:
            self._end_all()

    async def _look(self) -> None:
        if self._stopping():
            self._end_all()
        if self._watched:
            with suppress(Unavailable):  # the streams stay: the next poll catches up
                await self._poll()
        await asyncio.sleep(_GAP_S)

    async def _poll(self) -> None:
        news = await self._histories.news({order_id: watched.last for order_id, watched in self._watched.items()})
        for order_id, entries in news.items():
            if (watched := self._watched.get(order_id)) is not None:
                watched.add(entries)

    def _join(self, caller: Principal, timeline: Timeline, last_seen: int, networks: Collection[str]) -> "Stream":
        watched = self._watched.setdefault(timeline.order_id, _Watched())
        watched.add(timeline.entries)

        def close() -> None:
            watched.streams.discard(stream)
            if not watched.streams:
                self._watched.pop(timeline.order_id, None)
            self._leave(caller.user_id, networks)

        seen = last_seen if last_seen <= watched.last else 0  # an unknown id: start over
        stream = Stream(self, caller, watched.entries, seen, close)
        watched.streams.add(stream)
        self._news.wake()
        return stream

    def _leave(self, user_id: str, networks: Collection[str]) -> None:
        for counter, keys in ((self._open, (user_id,)), (self._from, networks)):
            for key in keys:
                counter[key] -= 1
                if not counter[key]:
                    del counter[key]

    def _end_all(self) -> None:
        for watched in self._watched.values():
            for stream in watched.streams:
                stream.end()


def _bounds(network: str, most: int) -> dict[str, int]:
    """The networks that a client's streams count for, each with the most that it may have."""
    wider = wider_network(network)
    return ({network: most} if network else {}) | ({wider: 2 * most} if wider else {})


class Stream:
    """The entries of one order for one reader."""

    def __init__(
        self, live: Live, caller: Principal, entries: Sequence[Entry], seen: int, close: Callable[[], None]
    ) -> None:
        self._live = live
        self._caller = caller
        self._entries = entries
        self._seen = seen
        self._close = close
        self._closed = self._ended = False
        self._stirred = asyncio.Event()

    async def entries(self) -> AsyncGenerator[Entry | None]:
        """Past and future entries; ``None`` after every 15 s without one.

        Ends when the token does, or the process drains.
        """
        told_at = time.monotonic()
        while await self._is_allowed():
            self._stirred.clear()
            for entry in [entry for entry in self._entries if entry.id > self._seen]:
                self._seen = entry.id
                yield entry
                told_at = time.monotonic()
            await self._wait()
            if time.monotonic() - told_at >= self._live.heartbeat_s:
                yield None
                told_at = time.monotonic()

    def stir(self) -> None:
        """Wake the stream."""
        self._stirred.set()

    def end(self) -> None:
        """End the stream."""
        self._ended = True
        self.stir()

    def close(self) -> None:
        """Release the stream's place. Idempotent."""
        if not self._closed:
            self._closed = True
            self._close()

    async def _is_allowed(self) -> bool:
        try:
            with no_deadline(), suppress(Unavailable):  # auth is away: until it is back the token's own end counts
                self._caller = await self._live.identity.verify(self._caller.token)
        except TokenInvalid:
            return False
        return not self._ended and time.time() < self._caller.expires_at

    async def _wait(self) -> None:
        pause_s = min(CHECK_S, self._live.heartbeat_s, max(0.0, self._caller.expires_at - time.time()))
        await wait_until_set(self._stirred, pause_s)


_RETRY = b"retry: 2000\n\n"
_HEARTBEAT = b": nothing new\n\n"
_MAX_DIGITS = 9


class TicketView(msgspec.Struct):
    """A ticket for ``GET /api/orders/{order_id}/live?ticket=``, for one use within ``expires_in`` seconds."""

    ticket: str
    expires_in: int


def history_routes(timelines: Timelines, live: Live, tickets: LiveTickets, identity: Identity) -> list[Any]:
    """The routes of timelines. ``identity`` verifies access tokens."""
    problems = (NotFound, Unavailable)
    group = RouteGroup("orders", verify=identity.verify, problems=problems)

    async def token(request: Request[Any, Any, Any]) -> str:
        """The access token in the header, or else that of the ticket in the query."""
        sent = request.query_params.getall("ticket", [])
        if find_header(request, b"authorization") is not None or len(sent) != 1:
            return bearer_token(request)
        return await tickets.redeem(sent[0], request.path_params["order_id"])

    streams = RouteGroup("orders", verify=identity.verify, read_token=token, problems=problems)
    return [
        _timeline_route(timelines, group),
        _live_route(live, streams),
        _ticket_route(timelines, tickets, group),
    ]


def _ticket_route(timelines: Timelines, tickets: LiveTickets, group: RouteGroup) -> Any:
    @group.post(
        "/api/orders/{order_id:str}/live-ticket",
        operation_id="issue_live_ticket",
        summary="Get a ticket for the live timeline of an order",
        description=(
            "For clients that cannot send headers, such as `EventSource` in browsers. The ticket opens the live "
            "timeline of this order once, within 60 seconds. It opens nothing else."
        ),
        links=(link("follow_order", order_id="$request.path.order_id", ticket="$response.body#/ticket"),),
        responses=answer(TicketView, "The ticket.", schemas.TICKET, status=201),
    )
    async def issue(order_id: PathId, request: Request[Principal, Any, Any]) -> Response[TicketView]:
        timeline = await timelines.read(request.user, order_id)
        ticket = await tickets.issue(request.user, timeline.order_id)
        return ApiResponse(TicketView(ticket, LIFETIME_S), status_code=201)

    return issue


def _timeline_route(timelines: Timelines, group: RouteGroup) -> Any:
    @group.get(
        "/api/orders/{order_id:str}/timeline",
        operation_id="get_timeline",
        summary="Get the timeline of an order",
        description=(
            "What happened, when, by whom and why, including emails: `placed`, `confirmed`, `shipped`, "
            "`delivered`, `cancelled`, `paid`, `refunded`, `mail_sent`, `mail_failed`, `mail_unknown`, `erased`. "
            "Staff also see the staff member, the request ID and the reply of the mail server."
        ),
        responses=answer(TimelineView, "The timeline, oldest entry first.", schemas.TIMELINE),
    )
    async def timeline(order_id: PathId, request: Request[Principal, Any, Any]) -> Response[TimelineView]:
        found = await timelines.read(request.user, order_id)
        return ApiResponse(
            timeline_view(found, by_staff=request.user.is_staff), headers={"Cache-Control": PRIVATE}
        )

    return timeline


def _live_route(live: Live, group: RouteGroup) -> Any:
    @group.get(
        "/api/orders/{order_id:str}/live",
        operation_id="follow_order",
        summary="Follow the timeline of an order live",
        description=(
            "Streams the entries of the timeline as server-sent events: `id` and `event` are the entry's `id` and "
            "`what`, `data` is the entry as JSON. With `Last-Event-ID` the stream continues after that entry, "
            "otherwise it starts with the first one. It ends when the token expires or the server restarts. "
            "Clients that cannot send headers use a `ticket` from `POST /api/orders/{order_id}/live-ticket`."
        ),
        reads=(RequestHeader("Last-Event-ID", "`id` of the last received event"),),
        responses=answer(str, "A stream of events.", schemas.STREAM, media_type="text/event-stream"),
        problems=(TooManyStreams,),
    )
    async def live_timeline(
        order_id: PathId,
        request: Request[Principal, Any, Any],
        ticket: Annotated[str | None, QueryParameter(description="Ticket, instead of an access token")] = None,
    ) -> ASGIStreamingResponse:
        network = client_network(request.client.host if request.client else "")
        stream = await live.open(request.user, order_id, _number(header(request, b"last-event-id")), network)
        return _LiveResponse(stream, by_staff=request.user.is_staff)

    return live_timeline


class _LiveResponse(ASGIStreamingResponse):
    """Sends a stream's entries, and closes the stream in any case."""

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
    """The last entry that the client saw; 0 for anything that is not an id."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else 0
