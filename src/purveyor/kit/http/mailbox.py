"""The query parameters and headers of the development mailbox's list, wherever it is served."""

from typing import Annotated
from urllib.parse import urlencode

from litestar.params import QueryParameter

from purveyor.kit.http.routes import number_schema

MAX_MAILBOX_LIMIT = 1000
MailboxLimit = Annotated[
    str,
    QueryParameter(
        description="Maximum number of emails", schema_extra=number_schema(MAX_MAILBOX_LIMIT, default=50)
    ),
]
Query = Annotated[
    str, QueryParameter(description="Only emails with this text in recipient, subject or text", max_length=200)
]


def page_headers(next_cursor: str, total: int, *, limit: str, q: str) -> dict[str, str]:
    """The total number of emails, and a link to the next page if there is one."""
    headers = {"X-Total-Count": str(total)}
    if next_cursor:
        query = urlencode({"limit": limit, "cursor": next_cursor} | ({"q": q} if q else {}))
        headers["Link"] = f'</mailbox/messages?{query}>; rel="next"'
    return headers
