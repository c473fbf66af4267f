"""Examples in the API document: what a request may hold, and what the answer then is."""

from collections.abc import Mapping
from typing import Any

from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import BodyKwarg


def body(example: Mapping[str, Any]) -> BodyKwarg:
    """A request's body, for ``Annotated``."""
    return BodyKwarg(examples=[Example(value=dict(example))])


def answer(kind: Any, description: str, example: Any, *, status: int = 200) -> dict[int, ResponseSpec]:
    """The answer of a route that goes well; ``kind`` is the type of its content."""
    spec = ResponseSpec(
        data_container=kind, description=description, generate_examples=False, examples=[Example(value=example)]
    )
    return {status: spec}
