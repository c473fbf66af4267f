"""Parameters that many routes have, as the API document shows them."""

import re
from typing import Annotated, Any
from uuid import UUID

from litestar import Request
from litestar.params import PathParameter, QueryParameter

from purveyor.kit.errors import FieldError, InvalidInput
from purveyor.kit.ids import parse_id

_NUMBER = re.compile(r"[1-9][0-9]{0,18}")


def number_schema(highest: int, **more: Any) -> dict[str, Any]:
    """What the API document says of a parameter that ``read_number`` reads."""
    return {"type": "integer", "minimum": 1, "maximum": highest, **more}


# They arrive as text and are read by hand: an id that is no UUID is something that does not exist, and Litestar
# takes 1e1 for a number.
PathId = Annotated[str, PathParameter(description="UUIDv7", schema_extra={"format": "uuid"})]
Limit = Annotated[str, QueryParameter(description="at most so many", schema_extra=number_schema(100, default=20))]
DEFAULT_LIMIT = "20"
Cursor = Annotated[
    str | None, QueryParameter(description="`next_cursor` of the page before", schema_extra={"format": "uuid"})
]


def read_limit(text: str) -> int:
    """The length of a page. Raises ``InvalidInput``."""
    return read_number("limit", text, 100)


def read_number(name: str, text: str, highest: int) -> int:
    """A number from 1, in digits and nothing else. Raises ``InvalidInput`` that points at the parameter."""
    if not _NUMBER.fullmatch(text) or int(text) > highest:
        wrong = FieldError(f"/{name}", f"must be a whole number from 1 to {highest}")
        raise InvalidInput("A parameter is not valid.", errors=[wrong])
    return int(text)


def read_cursor(text: str | None) -> UUID | None:
    """The place after which a page begins. Raises ``InvalidInput``."""
    if text is None:
        return None
    if (found := parse_id(text)) is None:
        problem = FieldError("/cursor", "take the value from next_cursor of the page before")
        raise InvalidInput("The cursor is not valid.", errors=[problem])
    return found


def refuse_null(request: Request[Any, Any, Any], *names: str) -> None:
    """Raise ``InvalidInput`` for the text ``null``: msgspec takes it for one that was not sent."""
    wrong = [
        name for name, value in request.query_params.multi_items() if name in names and value.lower() == "null"
    ]
    if wrong:
        raise InvalidInput(
            "A parameter is not valid.", errors=[FieldError(f"/{name}", "leave it out instead") for name in wrong]
        )
