"""Conditional requests on orders (RFC 9110 section 13): an order's entity tag is its version in quotes."""

import re

import msgspec

from purveyor.kit.errors import BadRequest
from purveyor.roles.orders.contract import PreconditionFailed

PRIVATE = "private, no-cache"
"""The ``Cache-Control`` of what one person may keep, and must ask about before using it again."""

_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_TAGS = re.compile(rf"{_TAG}(?:[ \t]*,[ \t]*{_TAG})*")
_VERSION = re.compile(r"[0-9]+")
IF_MATCH = r'^(\*|[0-9]+|(W/)?"[\x21\x23-\x7e]*"([ \t]*,[ \t]*(W/)?"[\x21\x23-\x7e]*")*)$'
"""What an ``If-Match`` header may be, for the API document, which asks nobody for more than ASCII."""


def etag(version: int) -> str:
    """The entity tag of a version."""
    return f'"{version}"'


def none_matches(condition: str, tag: str) -> bool:
    """``If-None-Match`` by weak comparison: whether the client has the representation already."""
    return any(part.strip().removeprefix("W/") in (tag, "*") for part in condition.split(","))


class IfMatch(msgspec.Struct, frozen=True):
    """The versions at which a client wants its change made; ``None`` is any."""

    tags: frozenset[str] | None

    @classmethod
    def read(cls, header: str | None) -> "IfMatch | None":
        """The condition of an ``If-Match`` header, ``None`` without one. Raises ``BadRequest``.

        A version without its quotes is understood as well.
        """
        if header is None:
            return None
        text = header.strip()
        if text == "*":
            return cls(None)
        if _VERSION.fullmatch(text):
            return cls(frozenset([f'"{text}"']))
        if not _TAGS.fullmatch(text):
            raise BadRequest(
                'The If-Match header is malformed. Send the ETag of the order in quotes, such as "3".'
            )
        return cls(frozenset(re.findall(_TAG, text)))

    def require(self, version: int) -> None:
        """Raise ``PreconditionFailed`` for another version. A weak tag never matches (section 8.8.3.2)."""
        if self.tags is not None and etag(version) not in self.tags:
            raise PreconditionFailed(
                f"The order is now at version {version}. Reload it and try again.", headers={"ETag": etag(version)}
            )
