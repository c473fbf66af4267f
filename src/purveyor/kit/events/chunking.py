"""A large answer in parts: JSON arrays that each fit into an event."""

from collections.abc import Iterable, Iterator

import msgspec

PART_DOCUMENTS = 100
PART_BYTES = 180_000
"""The most that a part takes inside its event, whose body must stay below ``transport.MAX_BODY_BYTES``."""


def parts(documents: Iterable[str]) -> Iterator[str]:
    """JSON arrays of at most 100 of these documents, each small enough for an event; ``[]`` for none.

    A document that is too large by itself gets a part of its own: whoever makes documents bounds them.
    """
    part: list[str] = []
    size = 0
    for document in documents:
        bytes_inside = size_inside(document)
        if part and (len(part) == PART_DOCUMENTS or size + bytes_inside > PART_BYTES):
            yield f"[{','.join(part)}]"
            part, size = [], 0
        part.append(document)
        size += bytes_inside
    yield f"[{','.join(part)}]"


def size_inside(document: str) -> int:
    """The bytes that a document takes as a text of an event."""
    return len(msgspec.json.encode(document))
