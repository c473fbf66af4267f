"""The HTTP routes of the order desk: undo, corrections, jobs, notes, counts and figures. All are for staff."""

from datetime import date, datetime
from typing import Annotated, Any, ClassVar
from uuid import UUID

import msgspec
from litestar import Request, Response
from litestar.params import PathParameter, QueryParameter
from msgspec import Meta

from purveyor.kit.errors import BadRequest, Conflict, FieldError, Forbidden, InvalidInput, NotFound, Unavailable
from purveyor.kit.http.routes import (
    PathId,
    RequestHeader,
    RouteGroup,
    answer,
    body,
    link,
    number_schema,
    read_number,
)
from purveyor.kit.http.web import ApiResponse, find_list_header
from purveyor.kit.ids import parse_id
from purveyor.kit.money import Amount, to_major
from purveyor.kit.text import LINE_SCHEMA, TEXT_SCHEMA, clean_line, clean_text, invalid
from purveyor.roles.auth.client import Identity
from purveyor.roles.auth.contract import Principal
from purveyor.roles.orders import schemas
from purveyor.roles.orders.bulk import MAX_ORDERS, Action, BulkJobs, Job
from purveyor.roles.orders.contract import (
    IllegalTransition,
    PreconditionFailed,
    PreconditionRequired,
    UndoOver,
)
from purveyor.roles.orders.etag import IF_MATCH, PRIVATE, IfMatch, etag
from purveyor.roles.orders.figures import MAX_DAYS, Counts, Figures
from purveyor.roles.orders.model import StoredOrder
from purveyor.roles.orders.notes import Note, Notes
from purveyor.roles.orders.schemas import OrderView, PaymentStatus, Status, order_view
from purveyor.roles.orders.undo import MAX_HOLD_S, Correction, Undo

HoldMail = Annotated[
    int, Meta(ge=0, le=MAX_HOLD_S, description="Staff: seconds to hold the email about the change back")
]
_JOB_ID = "01a20490-0c1e-7a55-8f0e-3b9d2c6a1f47"
_NOTE_ID = "01a20490-1d2f-7b66-9a1f-4c0e3d7b2a58"
READS_MATCH = RequestHeader(
    "If-Match", 'ETag of the order, such as `"1"`', {"pattern": IF_MATCH, "examples": ['"1"']}
)
CHANGED_ETAG = {"ETag": "New version of the order"}


def desk_routes(undo: Undo, bulk: BulkJobs, notes: Notes, figures: Figures, identity: Identity) -> list[Any]:
    """The routes. ``identity`` verifies access tokens."""
    group = RouteGroup("order desk", verify=identity.verify, problems=(Forbidden, Unavailable))
    return [
        *_undo_routes(undo, group),
        *_bulk_routes(bulk, group),
        *_note_routes(notes, group),
        *_figure_routes(figures, group),
    ]


class StatusBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A status, a payment status, or both."""

    status: Status | None = None
    payment_status: PaymentStatus | None = None
    rules: ClassVar = {
        "anyOf": [
            {"required": [member], "properties": {member: {"type": "string"}}}
            for member in ("status", "payment_status")
        ]
    }
    """At least one of the two."""

    def require_one(self) -> None:
        """Raise ``InvalidInput`` if there is neither."""
        if self.status is None and self.payment_status is None:
            problem = FieldError("", "must contain status or payment_status")
            raise InvalidInput("Send status, payment_status or both.", errors=[problem])


class CorrectionBody(StatusBody, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The right status, the right payment status, or both, and why."""

    reason: Annotated[str, Meta(min_length=1, max_length=500, extra_json_schema=LINE_SCHEMA)]
    """Reason for the staff's timeline. Customers do not see it."""
    checks: ClassVar = {"reason": clean_line}

    def correction(self) -> Correction:
        """Convert to a correction. Raises ``InvalidInput``."""
        self.require_one()
        reason = clean_line(self.reason, "/reason")
        if not reason:
            raise invalid("/reason", "must not be empty")
        return Correction(status=self.status, payment_status=self.payment_status, reason=reason)


def _undo_routes(undo: Undo, group: RouteGroup) -> list[Any]:
    @group.post(
        "/api/orders/{order_id:str}/undo",
        operation_id="undo_change",
        summary="Undo the last change of an order",
        description=(
            "For staff. Restores the previous status while the email about the change is held back "
            "(`hold_mail_s`). The email is never sent. `undo_until` of the order tells how long that is possible."
        ),
        reads=(READS_MATCH,),
        headers=CHANGED_ETAG,
        responses=answer(OrderView, "The restored order.", schemas.FOR_STAFF),
        problems=(BadRequest, NotFound, UndoOver, PreconditionFailed, PreconditionRequired),
    )
    async def undo_change(order_id: PathId, request: Request[Principal, Any, Any]) -> Response[OrderView]:
        return changed(await undo.undo(request.user, order_id, match_of(request)), request.user)

    @group.post(
        "/api/orders/{order_id:str}/correction",
        operation_id="correct_order",
        summary="Correct the status of an order",
        description=(
            "For admins. Sets any status, for mistakes that can no longer be undone. The timeline records who did "
            "it and why. No email is sent, and one about the corrected change that is still held back never is."
        ),
        reads=(READS_MATCH,),
        headers=CHANGED_ETAG,
        responses=answer(OrderView, "The corrected order.", schemas.FOR_STAFF),
        problems=(NotFound, IllegalTransition, Conflict, PreconditionFailed, PreconditionRequired),
    )
    async def correct_order(
        order_id: PathId,
        request: Request[Principal, Any, Any],
        data: Annotated[CorrectionBody, body({"status": "confirmed", "reason": "marked as shipped by mistake"})],
    ) -> Response[OrderView]:
        caller = request.user
        return changed(await undo.correct(caller, order_id, data.correction(), match_of(request)), caller)

    return [undo_change, correct_order]


def match_of(request: Request[Principal, Any, Any]) -> IfMatch | None:
    """The version of the order that the client wants to change."""
    return IfMatch.read(find_list_header(request, b"if-match"))


def changed(stored: StoredOrder, caller: Principal) -> Response[OrderView]:
    """The response to a change of an order."""
    headers = {"ETag": etag(stored.order.version), "Cache-Control": "no-store"}
    return ApiResponse(order_view(stored.order, stored if caller.is_staff else None), headers=headers)


class BulkBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The action and the orders. An order that is listed twice counts once."""

    action: Action
    order_ids: Annotated[
        tuple[Annotated[str, Meta(max_length=64, extra_json_schema={"format": "uuid"})], ...],
        Meta(min_length=1, max_length=MAX_ORDERS),
    ]
    hold_mail_s: HoldMail = 0

    def orders(self) -> list[UUID]:
        """The orders. Raises ``InvalidInput``."""
        found = {text: parse_id(text) for text in self.order_ids}
        wrong = [
            FieldError(f"/order_ids/{place}", "must be the ID of an order")
            for place, text in enumerate(self.order_ids)
            if found[text] is None
        ]
        if wrong:
            raise InvalidInput("The input is not valid.", errors=wrong)
        return [order_id for order_id in dict.fromkeys(found.values()) if order_id is not None]


class JobItemView(msgspec.Struct, frozen=True, kw_only=True):
    """One order of a job. ``state`` is ``waiting``, ``done``, ``unchanged`` or ``failed``; ``detail`` says why."""

    order_id: str
    order_number: int | None
    state: str
    detail: str | None


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """A job with a result for each order. It is finished when none is waiting."""

    id: str
    action: str
    created_at: datetime
    finished: bool
    waiting: int
    done: int
    unchanged: int
    failed: int
    items: list[JobItemView]


_JOB = {
    "id": _JOB_ID,
    "action": "confirm",
    "created_at": "2026-03-01T10:00:00Z",
    "finished": True,
    "waiting": 0,
    "done": 1,
    "unchanged": 0,
    "failed": 0,
    "items": [{"order_id": schemas.ORDER_ID, "order_number": 10001, "state": "done", "detail": None}],
}
JobId = Annotated[str, PathParameter(description="ID of the job", schema_extra={"format": "uuid"})]
_TO_JOB = (
    link("get_job", job_id="$response.body#/id"),
    link("resume_job", job_id="$response.body#/id"),
)


def _bulk_routes(bulk: BulkJobs, group: RouteGroup) -> list[Any]:
    @group.post(
        "/api/orders/jobs",
        operation_id="start_job",
        summary="Change many orders",
        description=(
            "For staff. Starts a job that confirms, ships, delivers or undoes up to 500 orders and keeps a result "
            "for each. It survives a restart of the server."
        ),
        links=_TO_JOB,
        responses=answer(JobView, "The job has started.", _JOB, status=202),
    )
    async def start_job(
        request: Request[Principal, Any, Any],
        data: Annotated[BulkBody, body({"action": "confirm", "order_ids": [schemas.ORDER_ID], "hold_mail_s": 30})],
    ) -> Response[JobView]:
        job = await bulk.start(request.user, data.action, data.orders(), data.hold_mail_s)
        return _job_response(job, status_code=202)

    @group.get(
        "/api/orders/jobs/{job_id:str}",
        operation_id="get_job",
        summary="Get a job",
        description="For staff. Jobs are kept for 7 days.",
        links=_TO_JOB,
        responses=answer(JobView, "The job with its results so far.", _JOB),
        problems=(NotFound,),
    )
    async def get_job(job_id: JobId, request: Request[Principal, Any, Any]) -> Response[JobView]:
        return _job_response(await bulk.read(request.user, job_id))

    @group.post(
        "/api/orders/jobs/{job_id:str}/resume",
        operation_id="resume_job",
        summary="Resume a job",
        description="For staff. Tries the failed orders of the job again; the others stay as they are.",
        responses=answer(JobView, "The job goes on.", _JOB, status=202),
        problems=(NotFound,),
    )
    async def resume_job(job_id: JobId, request: Request[Principal, Any, Any]) -> Response[JobView]:
        return _job_response(await bulk.resume(request.user, job_id), status_code=202)

    return [start_job, get_job, resume_job]


def _job_response(job: Job, status_code: int = 200) -> Response[JobView]:
    count = {state: sum(item.state == state for item in job.items) for state in _STATES}
    view = JobView(
        id=job.id,
        action=job.action,
        created_at=job.created_at,
        finished=count["waiting"] == 0,
        items=[
            JobItemView(
                order_id=item.order_id,
                order_number=item.order_number,
                state=item.state,
                detail=item.detail or None,
            )
            for item in job.items
        ],
        **count,
    )
    return ApiResponse(view, status_code=status_code, headers={"Cache-Control": "no-store"})


_STATES = ("waiting", "done", "unchanged", "failed")


def _note_text(text: str, pointer: str) -> str:
    cleaned = clean_text(text, pointer)
    if not cleaned:
        raise invalid(pointer, "must not be empty")
    return cleaned


_NOTE_SCHEMA = TEXT_SCHEMA | {"allOf": [{"pattern": r"\S"}]}


class NoteBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The text, which may have several lines."""

    text: Annotated[str, Meta(min_length=1, max_length=2000, extra_json_schema=_NOTE_SCHEMA)]
    checks: ClassVar = {"text": _note_text}

    def clean(self) -> str:
        """The text without blank lines around it. Raises ``InvalidInput``."""
        return _note_text(self.text, "/text")


class NoteList(msgspec.Struct, frozen=True):
    """The notes on an order, oldest first."""

    notes: list[Note]


_NOTE = {
    "id": _NOTE_ID,
    "at": "2026-03-01T10:00:00Z",
    "author_id": "01a20480-b1d2-7c11-9a55-0c6f6a1d2e3f",
    "author": "Grace Hopper",
    "text": "Called the customer, deliver to the neighbor.",
}
NoteId = Annotated[str, PathParameter(description="ID of the note", schema_extra={"format": "uuid"})]


def _note_routes(notes: Notes, group: RouteGroup) -> list[Any]:
    @group.get(
        "/api/orders/{order_id:str}/notes",
        operation_id="list_notes",
        summary="List the internal notes on an order",
        description="For staff. Customers never see notes, and no email contains them.",
        responses=answer(NoteList, "The notes.", {"notes": [_NOTE]}),
        problems=(NotFound,),
    )
    async def list_notes(order_id: PathId, request: Request[Principal, Any, Any]) -> Response[NoteList]:
        return ApiResponse(
            NoteList(list(await notes.read(request.user, order_id))), headers={"Cache-Control": PRIVATE}
        )

    @group.post(
        "/api/orders/{order_id:str}/notes",
        operation_id="add_note",
        summary="Add an internal note to an order",
        description="For staff. An order can have up to 200 notes.",
        responses=answer(Note, "The new note.", _NOTE, status=201),
        problems=(NotFound, Conflict),
    )
    async def add_note(
        order_id: PathId,
        request: Request[Principal, Any, Any],
        data: Annotated[NoteBody, body({"text": _NOTE["text"]})],
    ) -> Response[Note]:
        return ApiResponse(await notes.add(request.user, order_id, data.clean()), status_code=201)

    @group.delete(
        "/api/orders/{order_id:str}/notes/{note_id:str}",
        operation_id="delete_note",
        summary="Delete an internal note",
        description="For its author and for admins.",
        problems=(NotFound,),
        response_description="The note is deleted.",
    )
    async def delete_note(order_id: PathId, note_id: NoteId, request: Request[Principal, Any, Any]) -> None:
        await notes.delete(request.user, order_id, note_id)

    return [list_notes, add_note, delete_note]


class DayView(msgspec.Struct, frozen=True, kw_only=True):
    """The orders placed on one day in the shop's time zone. Cancelled and refunded orders have no revenue."""

    date: date
    orders: int
    revenue: Amount
    revenue_minor: int
    mail_p50_s: float | None
    """Seconds from the order to its email, median."""
    mail_p95_s: float | None


class FiguresView(msgspec.Struct, frozen=True, kw_only=True):
    """The last days, oldest first."""

    currency: str
    days: list[DayView]


_COUNTS = {"to_confirm": 12, "to_ship": 3, "mail_trouble": 0}
_FIGURES = {
    "currency": "EUR",
    "days": [
        {
            "date": "2026-03-01",
            "orders": 12,
            "revenue": 719.76,
            "revenue_minor": 71976,
            "mail_p50_s": 0.4,
            "mail_p95_s": 1.2,
        }
    ],
}
Days = Annotated[
    str, QueryParameter(description="How many days", schema_extra=number_schema(MAX_DAYS, default=30))
]


def _figure_routes(figures: Figures, group: RouteGroup) -> list[Any]:
    @group.get(
        "/api/orders/counts",
        operation_id="count_orders",
        summary="Count the orders that wait",
        description="For staff: to confirm, to ship, and with an email that failed. Counts end at 1000.",
        responses=answer(Counts, "The counts.", _COUNTS),
    )
    async def count_orders(request: Request[Principal, Any, Any]) -> Response[Counts]:
        return ApiResponse(await figures.counts(request.user), headers={"Cache-Control": "no-store"})

    @group.get(
        "/api/orders/figures",
        operation_id="get_figures",
        summary="Get figures by day",
        description=(
            "For staff: orders, revenue and the time from an order to its email for each of the last days, in the "
            "shop's time zone. The figures are up to 30 seconds old."
        ),
        responses=answer(FiguresView, "The figures.", _FIGURES),
    )
    async def get_figures(request: Request[Principal, Any, Any], days: Days = "30") -> Response[FiguresView]:
        found = await figures.days(request.user, read_number("days", days, MAX_DAYS))
        views = [
            DayView(
                date=day.date,
                orders=day.orders,
                revenue=to_major(day.revenue, figures.currency),
                revenue_minor=day.revenue,
                mail_p50_s=day.mail_p50_s,
                mail_p95_s=day.mail_p95_s,
            )
            for day in found
        ]
        return ApiResponse(FiguresView(currency=figures.currency, days=views), headers={"Cache-Control": PRIVATE})

    return [count_orders, get_figures]
