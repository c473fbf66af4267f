"""Parameters that many routes have, as the API document shows them."""

from typing import Annotated, Any
from uuid import UUID

from litestar import Request
from litestar.params import PathParameter, QueryParameter

from purveyor.kit.errors import FieldError, InvalidInput
from purveyor.kit.ids import parse_id

# They arrive as text and are read by hand: an id that is no UUID is something that does not exist.
PathId = Annotated[str, PathParameter(description="UUIDv7", schema_extra={"format": "uuid"})]
Limit = Annotated[int, QueryParameter(ge=1, le=100, description="at most so many")]
Cursor = Annotated[
    str | None, QueryParameter(description="`next_cursor` of the page before", schema_extra={"format": "uuid"})
]


def read_cursor(text: str | None) -> UUID | None:
    """The place after which a page begins. Raises ``InvalidInput``."""
    if text is None:
        return None
    if (found := parse_id(text)) is None:
        problem = FieldError("/cursor", "take the value from next_cursor of the page before")
        raise InvalidInput("The cursor is not valid.", errors=[problem])
    return found


def refuse_null(request: Request[Any, Any, Any], *names: str) -> None:
    """Raise ``InvalidInput`` for the text ``null``: msgspec takes it for a number or time that was not sent."""
    wrong = [
        name for name, value in request.query_params.multi_items() if name in names and value.lower() == "null"
    ]
    if wrong:
        raise InvalidInput(
            "A parameter is not valid.", errors=[FieldError(f"/{name}", "leave it out instead") for name in wrong]
        )
