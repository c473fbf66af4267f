"""The development mailbox at ``/mailbox``, where role email runs in another process."""

from typing import Annotated, Any

from litestar import MediaType, Response, delete, get
from litestar.params import PathParameter

from purveyor.kit.errors import NotFound
from purveyor.kit.http.loopback import loopback_only
from purveyor.kit.http.mailbox import MAX_MAILBOX_LIMIT, MailboxLimit, Query, page_headers
from purveyor.kit.http.pages import html_page
from purveyor.kit.http.routes import Cursor, read_cursor, read_number
from purveyor.roles.email.contract import Email

_JSON = "application/json"
_LOCAL: dict[str, Any] = {"include_in_schema": False, "before_request": loopback_only}
_MESSAGE = "/mailbox/messages/{message_id:str}"
MessageId = Annotated[str, PathParameter(description="ID of the email in the mailbox")]


def mailbox_routes(email: Email) -> list[Any]:
    """The page and its JSON as role email makes them; 404 where it delivers emails elsewhere."""

    @get("/mailbox", **_LOCAL)
    async def show() -> Response[str]:
        if not await email.has_mailbox():
            raise NotFound("There is no development mailbox.")
        return html_page("mailbox.html", development=True)

    @get("/mailbox/messages", **_LOCAL)
    async def messages(limit: MailboxLimit = "50", cursor: Cursor = None, q: Query = "") -> Response[bytes]:
        number, after = read_number("limit", limit, MAX_MAILBOX_LIMIT), read_cursor(cursor)
        page = await email.mailbox("messages", limit=number, cursor=str(after or ""), query=q)
        headers = page_headers(page.next_cursor, page.total, limit=limit, q=q)
        return Response(page.content.encode(), media_type=_JSON, headers=headers)

    @get(_MESSAGE, **_LOCAL)
    async def message(message_id: MessageId) -> Response[bytes]:
        return Response((await email.mailbox("message", id=message_id)).content.encode(), media_type=_JSON)

    @get(f"{_MESSAGE}/source", **_LOCAL)
    async def source(message_id: MessageId) -> Response[str]:
        return Response((await email.mailbox("source", id=message_id)).content, media_type=MediaType.TEXT)

    @delete("/mailbox/messages", **_LOCAL)
    async def empty() -> None:
        await email.empty_mailbox()

    @delete(_MESSAGE, **_LOCAL)
    async def remove(message_id: MessageId) -> None:
        await email.empty_mailbox(message_id)

    @get("/mailbox/previews", **_LOCAL)
    async def previews() -> Response[bytes]:
        return Response((await email.mailbox("previews")).content.encode(), media_type=_JSON)

    return [show, messages, message, source, empty, remove, previews]
