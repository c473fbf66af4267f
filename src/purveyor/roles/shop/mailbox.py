"""The development mailbox at ``/mailbox``, where role email runs in another process."""

from typing import Annotated, Any

from litestar import Response, get
from litestar.params import QueryParameter

from purveyor.kit.errors import NotFound
from purveyor.kit.http.pages import html_page
from purveyor.roles.email.contract import Email

_JSON = "application/json"


def mailbox_routes(email: Email) -> list[Any]:
    """The page and its JSON as role email makes them; 404 where it delivers emails elsewhere."""

    @get("/mailbox", include_in_schema=False)
    async def show() -> Response[str]:
        if not await email.has_mailbox():
            raise NotFound("There is no development mailbox.")
        return html_page("mailbox.html", development=True)

    @get("/mailbox/messages", include_in_schema=False)
    async def messages(
        limit: Annotated[int, QueryParameter(ge=1, le=200, description="Maximum number of emails")] = 200,
    ) -> Response[bytes]:
        return Response((await email.mailbox("messages", limit)).encode(), media_type=_JSON)

    @get("/mailbox/previews", include_in_schema=False)
    async def previews() -> Response[bytes]:
        return Response((await email.mailbox("previews")).encode(), media_type=_JSON)

    return [show, messages, previews]
