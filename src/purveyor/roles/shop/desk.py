"""The HTTP routes of the order desk for emails, found by their order, and for dead letters."""

from datetime import datetime
from typing import Annotated, Any, get_args

import msgspec
from litestar import Request, Response
from litestar.params import PathParameter, QueryParameter

from purveyor.kit.errors import Conflict, FieldError, Forbidden, InvalidInput, NotFound, Unavailable
from purveyor.kit.events.transport import EventTransport
from purveyor.kit.http.routes import RouteGroup, answer, link, number_schema, read_number
from purveyor.kit.http.web import ApiResponse
from purveyor.roles.auth.client import Identity
from purveyor.roles.auth.contract import Principal
from purveyor.roles.email.contract import Email, MailRecord, State
from purveyor.roles.orders.contract import Orders
from purveyor.roles.shop import examples

_ID = r"^[\x21-\x7e]{1,64}$"
_MAX_LIMIT = 200
Limit = Annotated[
    str, QueryParameter(description="Maximum number of emails", schema_extra=number_schema(_MAX_LIMIT, default=50))
]
# Read here: Litestar would point at the name of the argument, and that cannot be ``state``.
InState = Annotated[
    str | None,
    QueryParameter(name="state", description="Only emails in this state", schema_extra={"enum": get_args(State)}),
]
EventId = Annotated[str | None, QueryParameter(pattern=_ID, description="Only the email for this event")]
PathEventId = Annotated[str, PathParameter(description="Event ID of the email or the dead letter")]
Queue = Annotated[str, PathParameter(description="Queue of the dead letter")]
OrderId = Annotated[str | None, QueryParameter(pattern=_ID, description="Only emails about this order")]


class MailList(msgspec.Struct, frozen=True):
    """Records of the mail ledger, newest first."""

    mails: tuple[MailRecord, ...]


class DeadLetterView(msgspec.Struct, frozen=True):
    """An event that a role could not handle. Its body may hold secrets and is not shown."""

    event_id: str
    type: str
    queue: str
    attempts: int
    reason: str
    died_at: datetime


class DeadLetterList(msgspec.Struct, frozen=True):
    """Dead letters, oldest first."""

    dead_letters: list[DeadLetterView]


def desk_routes(identity: Identity, orders: Orders, email: Email, events: EventTransport) -> list[Any]:
    """The routes; ``roles`` asks the roles of this process, ``identity`` tells whose token a request carries."""
    group = RouteGroup("desk", verify=identity.verify, problems=(Forbidden, Unavailable))
    return [*_mail_routes(orders, email, group), *_dead_letter_routes(events, group)]


def _require_staff(request: Request[Principal, Any, Any]) -> None:
    if not request.user.is_staff:
        raise Forbidden("Only staff may use the order desk.")


def _state(text: str | None) -> str:
    """The state to look for, empty for any. Raises ``InvalidInput``."""
    if text is not None and text not in get_args(State):
        wrong = FieldError("/state", f"must be one of {', '.join(get_args(State))}")
        raise InvalidInput("A parameter is not valid.", errors=[wrong])
    return text or ""


def _mail_routes(orders: Orders, email: Email, group: RouteGroup) -> list[Any]:
    @group.get(
        "/api/mails",
        operation_id="list_mails",
        summary="List emails in the mail ledger",
        description="For staff. Newest first, optionally of one order, event or state.",
        links=(link("resend_mail", event_id="$response.body#/mails/0/event_id"),),
        responses=answer(MailList, "The emails.", examples.MAILS),
        problems=(NotFound,),
    )
    async def list_mails(
        request: Request[Principal, Any, Any],
        order_id: OrderId = None,
        event_id: EventId = None,
        in_state: InState = None,
        limit: Limit = "50",
    ) -> Response[MailList]:
        _require_staff(request)
        state, at_most = _state(in_state), read_number("limit", limit, _MAX_LIMIT)
        wanted = [event_id] if event_id else []
        if order_id:
            of_order = (await orders.trace(order_id)).events
            wanted = [event for event in of_order if event_id in (None, event)]
        if order_id and not wanted:
            return ApiResponse(MailList(()))
        return ApiResponse(MailList(await email.mails(state=state, event_ids=wanted, limit=at_most)))

    @group.post(
        "/api/mails/{event_id:str}/resend",
        operation_id="resend_mail",
        summary="Resend an email",
        description="For staff. Sends the email again with the same Message-ID, whatever its state.",
        responses=answer(MailRecord, "The email will be sent.", examples.AGAIN, status=202),
        problems=(NotFound, Conflict),
    )
    async def resend_mail(event_id: PathEventId, request: Request[Principal, Any, Any]) -> Response[MailRecord]:
        _require_staff(request)
        return ApiResponse(await email.resend(event_id), status_code=202)

    return [list_mails, resend_mail]


def _dead_letter_routes(events: EventTransport, group: RouteGroup) -> list[Any]:
    @group.get(
        "/api/dead-letters",
        operation_id="list_dead_letters",
        summary="List dead letters",
        description="For staff. Events that could not be handled, oldest first and without their bodies.",
        links=(
            link(
                "replay_dead_letter",
                queue="$response.body#/dead_letters/0/queue",
                event_id="$response.body#/dead_letters/0/event_id",
            ),
        ),
        responses=answer(DeadLetterList, "The dead letters.", examples.DEAD_LETTERS),
    )
    async def list_dead_letters(request: Request[Principal, Any, Any]) -> Response[DeadLetterList]:
        _require_staff(request)
        letters = [
            DeadLetterView(
                event_id=letter.event_id,
                type=letter.type,
                queue=letter.queue,
                attempts=letter.attempts,
                reason=letter.reason,
                died_at=letter.died_at,
            )
            for letter in await events.dead_letters()
        ]
        return ApiResponse(DeadLetterList(letters))

    @group.post(
        "/api/dead-letters/{queue:str}/{event_id:str}/replay",
        operation_id="replay_dead_letter",
        summary="Replay a dead letter",
        description="For staff. Roles that have already handled the event ignore it.",
        problems=(NotFound,),
        response_description="The event will be delivered again.",
    )
    async def replay_dead_letter(
        queue: Queue, event_id: PathEventId, request: Request[Principal, Any, Any]
    ) -> None:
        _require_staff(request)
        present = {(letter.queue, letter.event_id) for letter in await events.dead_letters()}
        if (queue, event_id) not in present or not await events.replay(queue, event_id):
            raise NotFound("There is no such dead letter.")

    return [list_dead_letters, replay_dead_letter]
